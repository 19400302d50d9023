#!/bin/sh
# A worker for the function `thumbnail`: any picture goes in, a JPEG of exactly 200 by 200 comes out.
#
#   recipes/imagemagick-thumbnail.sh [OPTION OF farm work]...
#
#   options go to farm work as they are:  recipes/imagemagick-thumbnail.sh -j 4
#   FARM_SERVER says where the server is (default 127.0.0.1:4730)
#
#   farm submit thumbnail < photo.jpg > thumb.jpg
#
# Upright as the camera meant it, the middle cut out, no camera data left (it may hold a place and a name), quality 82.
set -eu

case ${1-} in -h | --help)
    sed -n '2,/^[^#]/{ s/^# \{0,1\}//p; }' "$0"
    exit
    ;;
esac

recipes=$(dirname -- "$(readlink -f -- "$0")")
. "$recipes/lib/farm.sh"
. "$recipes/lib/imagemagick.sh"
find_farm || exit
find_imagemagick || exit

# The size hint lets the JPEG decoder skip what a thumbnail cannot show: several times faster on large photographs.
# [0]: of an animation or a document only the first picture. ^ fills the square, -extent cuts what stands over;
# white shows through where a picture is transparent, because JPEG is not.
exec "$farm" work thumbnail "$@" -- "$imagemagick" -define jpeg:size=400x400 '-[0]' -auto-orient -thumbnail '200x200^' \
    -background white -flatten -gravity center -extent 200x200 -strip -quality 82 jpg:-
