# Sourced by the recipes that use ImageMagick. find_imagemagick sets $imagemagick, or says what to install and returns 69.

# Other programs are called convert too (one turns file systems), and a wrapper may carry the right name with nothing
# behind it. So: it says that it is ImageMagick, and a picture of 4 by 4 that goes in at stdin comes out as 2 by 2.
resizes() {
    "$1" -version </dev/null 2>/dev/null | grep -q '^Version: ImageMagick' || return
    printf 'P2 4 4 9  9 9 0 0  9 9 0 0  0 0 9 9  0 0 9 9\n' | "$1" pgm:- -resize 50% pgm:- 2>/dev/null | {
        read -r kind && read -r size && [ "$kind $size" = 'P5 2 2' ]
    }
}

# A wrapper script that passes every job on works too, but starts two programs for each: it is taken only when the
# program itself is nowhere on the PATH.
is_script() {
    [ "$(head -c 2 "$1" | tr -d '\0')" = '#!' ]
}

find_imagemagick() {
    wrapper=
    # magick is version 7's own name; convert is version 6's, and 7 warns about it.
    for name in magick convert; do
        rest=$PATH:/usr/bin # cron's PATH may be short
        while [ -n "$rest" ]; do
            dir=${rest%%:*}
            case $rest in *:*) rest=${rest#*:} ;; *) rest= ;; esac
            imagemagick=${dir:-.}/$name
            [ -x "$imagemagick" ] && resizes "$imagemagick" || continue
            is_script "$imagemagick" || return 0
            wrapper=${wrapper:-$imagemagick}
        done
    done
    imagemagick=$wrapper
    [ -z "$imagemagick" ] || return 0
    echo "farm: error: no working ImageMagick (magick or convert) on the PATH" >&2
    echo "hint: apt install imagemagick" >&2
    return 69
}
