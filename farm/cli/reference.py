"""Prints the reference of every command, option, environment variable and exit code, made from the table of options.

`python -m farm.cli.reference > farm/docs/commands.md`; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator

from farm.cli.options import COMMON, Command, Option, commands
from farm.errors import EXIT_MEANINGS, EXIT_SIGNAL_BASE

_OTHER_ENVIRONMENT = {
    "FARM_EXIT_ORIGIN_FD": "`farm submit` writes one word to this descriptor when it ends: `job` when the exit code is "
    "the job's own, `farm` when it is farm's.",
    "FARM_INTERPRETED": "Set, `farm server` does not use what bin/compile has made.",
    "FARM_DEBUG": "Set to 1, a bug in farm shows where it is instead of one line.",
}
_JOB_ENVIRONMENT = {
    "FARM_JOB": "The job's handle.",
    "FARM_FUNCTION": "The function's name.",
    "FARM_UNIQUE": "The unique key, or empty.",
}


def reference() -> str:
    """The whole document, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Commands, environment and exit codes"
    yield ""
    yield "Made from the program by `python -m farm.cli.reference`; do not edit."
    yield "Options may stand before or after the arguments; `--` ends them. Once a worker's COMMAND has begun, none is"
    yield "taken, for it may be the command's: `farm work FUNCTION [OPTION]... -- COMMAND...`"
    yield f"{_flags(COMMON[0])} and {_flags(COMMON[1])} may also stand before the command."
    for command in commands():
        yield from _command(command)
    yield from _environment()
    yield from _signals()
    yield from _exit_codes()


def _command(command: Command) -> Iterator[str]:
    yield ""
    yield f"## farm {command.name}"
    yield ""
    yield command.help
    yield ""
    yield from ("    " + line for line in command.examples.splitlines())
    yield ""
    yield "| argument or option | meaning | default | environment |"
    yield "|---|---|---|---|"
    for argument in command.arguments:
        yield f"| `{argument.metavar}` | {argument.help} | | {f'`{argument.env}` ' if argument.env else ''}|"
    for option in command.options:
        default = f"`{option.default}`" if option.default else ""
        env = f"`{option.env}`" if option.env else ""
        yield f"| {_flags(option)} | {option.help} | {default} | {env} |"


def _flags(option: Option) -> str:
    metavar = option.metavar.replace("|", "\\|")
    return ", ".join(f"`{flag}{' ' + metavar if metavar else ''}`" for flag in option.flags)


def _environment() -> Iterator[str]:
    yield ""
    yield "## Environment"
    yield ""
    yield "Besides those in the tables above:"
    yield ""
    for name, meaning in _OTHER_ENVIRONMENT.items():
        yield f"- `{name}`: {meaning}"
    yield ""
    yield "A worker's command gets the worker's own environment and:"
    yield ""
    for name, meaning in _JOB_ENVIRONMENT.items():
        yield f"- `{name}`: {meaning}"


def _signals() -> Iterator[str]:
    yield ""
    yield "## Signals"
    yield ""
    yield "- `farm submit` gives its job up on Ctrl-C (SIGINT), SIGTERM and SIGHUP, says what becomes of it, and dies"
    yield "  of the signal. While it waits for the server's word on that, at most 2 s, a second one detaches: it leaves"
    yield "  at once. A job that others wait for too runs on; a background job has no submitter to be interrupted."
    yield "- `farm work` finishes its running jobs on SIGTERM or SIGINT, and ends their commands on a second one."


def _exit_codes() -> Iterator[str]:
    yield ""
    yield "## Exit codes"
    yield ""
    yield "`farm submit` exits as the job's command did: 0 to 255, or 128 + N when signal N ended it. farm's own"
    yield "failures use the codes below; a job may use the same ones, and `FARM_EXIT_ORIGIN_FD` tells them apart."
    yield ""
    yield "| code | meaning |"
    yield "|---|---|"
    for code, meaning in EXIT_MEANINGS.items():
        yield f"| {f'{code} + N' if code == EXIT_SIGNAL_BASE else code} | {meaning.removeprefix('plus N: ')} |"


if __name__ == "__main__":
    print(reference(), end="")
