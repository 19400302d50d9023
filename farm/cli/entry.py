"""Where `farm` begins. Until `main` is ready for it Ctrl-C has the system's own meaning: it ends the process, which has
done nothing yet. Python's meaning would be a traceback from the middle of some import. `bin/farm` says the same as soon
as the interpreter runs. It imports nothing but what that has built in.
"""

import _signal  # type: ignore[import-not-found]


def main() -> None:
    """Run the command line of this process; does not return."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # else it is ignored, which is meant
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    import sys

    if sys.argv[1:2] in (["server"], ["gearmand"]):
        from farm import compiled

        compiled.use()
    from farm.cli import main as program

    program.main()
