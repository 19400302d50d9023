# Sourced. debian_need PACKAGE...: installs what is missing where that is possible (root, apt-get); elsewhere one line that
# says what to install, and status 1. Nothing is asked, and no service is started.

debian_need() {
    missing=
    for package; do
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
            *' installed') ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "farm: not installed here: apt install$missing (or your system's packages for these)" >&2
        return 1
    fi
    echo "farm: installing$missing" >&2
    # shellcheck disable=SC2086 # a list of names
    if debian_install $missing; then return 0; fi
    echo "farm: error: apt-get could not install$missing" >&2
    echo "hint: is there a network? apt-get's own words are above" >&2
    return 1
}

# Other people's clients and workers (tests/interop/languages). Node may be here from elsewhere: Debian's npm would clash.
debian_languages() {
    node_packages=
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then node_packages="nodejs npm"; fi
    # shellcheck disable=SC2086 # a list of names
    debian_need gcc libc6-dev libgearman-dev libgearman-client-perl php-cli php-gearman $node_packages
}

# In a subshell, for its traps. Debian starts a package's daemon as soon as it is installed, unless policy-rc.d says no;
# the one that is already there (containers have one) stays as it is, ours is taken away again.
debian_install() (
    words=$(mktemp) || exit
    trap 'rm -f "$words"' EXIT
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ] && [ ! -L $policy ]; then
        trap 'rm -f "$words" $policy' EXIT
        trap 'exit 129' HUP
        trap 'exit 130' INT
        trap 'exit 143' TERM
        printf '#!/bin/sh\n# Put here by bin/lib/debian.sh of farm while it installs; safe to remove.\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    # A hundred lines that nobody needs, unless it fails.
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@"; } </dev/null >"$words" 2>&1 || {
        cat "$words" >&2
        exit 1
    }
)
