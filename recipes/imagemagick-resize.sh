#!/bin/sh
# A worker for the function `resize`: a picture goes in, the same picture comes out smaller, in the same format.
#
#   recipes/imagemagick-resize.sh [SIZE] [OPTION OF farm work]...
#
#   SIZE    what ImageMagick's -resize takes: 50% (the default), 800x600, '1024x1024>' (only shrink)
#   after it, options go to farm work as they are:  recipes/imagemagick-resize.sh 800x -j 4
#   FARM_SERVER says where the server is (default 127.0.0.1:4730)
#
#   farm submit resize < photo.jpg > small.jpg
#
# A picture that ImageMagick cannot read fails the job, with its exit status and its words.
set -eu

case ${1-} in
    -h | --help)
        sed -n '2,/^[^#]/{ s/^# \{0,1\}//p; }' "$0"
        exit
        ;;
    '' | -*) size=50% ;;
    *)
        size=$1
        shift
        ;;
esac

recipes=$(dirname -- "$(readlink -f -- "$0")")
. "$recipes/lib/farm.sh"
. "$recipes/lib/imagemagick.sh"
find_farm || exit
find_imagemagick || exit

# exec: a supervisor's signals reach farm itself. "-" is stdin, then stdout.
exec "$farm" work resize "$@" -- "$imagemagick" - -resize "$size" -
