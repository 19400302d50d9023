# Sourced. Given $here (the bin/ of this checkout, in any spelling) it sets $root, the checkout, $python, the interpreter
# that has what farm needs, and $hold, a command that runs another one with Ctrl-C held back (empty where the system has
# none); it runs bin/setup first where that is due.
# bin/farm comes through here at every start: shell built-ins only, no process.

# bin/setup gives the stamp the lock's own time: an older lock (git switch, a restored copy) differs just like a newer one.
# -ef, not string equality: the checkout may be reached through a symlinked directory, and a moved or copied one must differ.
is_set_up() {
    [ -f "$here/../.venv/stamp" ] && { read -r root && read -r _ && read -r hold; } <"$here/../.venv/stamp" &&
        [ "$root" -ef "$here/.." ] &&
        [ -x "$root/.venv/bin/python" ] &&
        ! [ "$root/requirements.lock" -nt "$root/.venv/stamp" ] && ! [ "$root/requirements.lock" -ot "$root/.venv/stamp" ]
}

if ! is_set_up; then
    sh "$here/setup" </dev/null || exit
    if ! is_set_up; then
        echo "farm: error: bin/setup ended well but .venv is still not usable" >&2
        echo "hint: remove .venv and run bin/setup again" >&2
        exit 70
    fi
fi
python=$root/.venv/bin/python
