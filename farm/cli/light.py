"""A parser for well-formed command lines that costs nothing to import. What it does not understand (help, a wrong
option, a missing argument) it declines, and typer answers; a test holds the two together. One mistake it names itself,
for typer would not see it: an option behind the beginning of a worker's command.
"""

from __future__ import annotations

from farm.cli.options import COMMON, FLAG, GROUPS, Command, Option, Values, find
from farm.errors import UsageError


class Declined(Exception):
    """Not a plain, well-formed command line."""


def parse(argv: list[str]) -> tuple[Command, Values]:
    """The command and what was given for it (see options.complete). Raises Declined, and UsageError."""
    before: Values = {}
    rest = _options(argv, COMMON, before, stop_at_argument=True)
    size = 2 if rest and rest[0] in GROUPS else 1
    command = find(" ".join(rest[:size])) if rest else None
    if command is None:
        raise Declined
    return command, merge(before, parse_rest(command, rest[size:]))


def parse_rest(command: Command, argv: list[str]) -> Values:
    """What was given behind the command's name. Raises Declined, and UsageError."""
    given: Values = {}
    before_rest = next((count for count, argument in enumerate(command.arguments) if argument.rest), None)
    words = _options(argv, command.options, given, before_rest=before_rest)
    _arguments(command, words, given)
    return given


def merge(before: Values, given: Values) -> Values:
    """What was said before the command holds unless it is said again after it."""
    said = {name: value for name, value in given.items() if value not in (None, False, [])}
    return {**{name: value for name, value in before.items() if value}, **said}


def _arguments(command: Command, words: list[str], given: Values) -> None:
    for argument in command.arguments:
        if argument.rest:
            given[argument.name] = words
            return
        if not words and argument.optional:
            continue
        if not words or not words[0]:
            raise Declined
        given[argument.name] = words.pop(0)
    if words:
        raise Declined


def _options(
    argv: list[str],
    options: tuple[Option, ...],
    given: Values,
    stop_at_argument: bool = False,
    before_rest: int | None = None,
) -> list[str]:
    """Take the options out of argv into `given`; returns what is left.

    before_rest: behind so many arguments somebody else's command begins, in which an option may be that one's own.
    """
    known = {flag: option for option in options for flag in option.flags}
    rest: list[str] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--" and not stop_at_argument:
            return rest + argv[position:]
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if stop_at_argument:
                return rest + argv[position:]
            continue
        if before_rest is not None and len(rest) > before_rest:
            raise UsageError(
                f"{word!r} stands behind the beginning of the command: is it farm's option or the command's?",
                "put -- before the command, and farm's options before it: farm work FUNCTION -- COMMAND ...",
            )
        for flag, text in _split(word, known):
            option = known.get(flag)
            if option is None or ((option.kind == FLAG) != (text is None) and text is not None):
                raise Declined
            if option.kind != FLAG and text is None:
                if position >= len(argv):
                    raise Declined
                text = argv[position]
                position += 1
            _store(option, text, given)
    return rest


def _split(word: str, known: dict[str, Option]) -> list[tuple[str, str | None]]:
    """`--flag=text`, `--flag`, `-x`, `-xtext`, or several short flags in one word, as (flag, text or None)."""
    if word.startswith("--"):
        flag, equals, text = word.partition("=")
        return [(flag, text if equals else None)]
    found: list[tuple[str, str | None]] = []
    for index in range(1, len(word)):
        flag = "-" + word[index]
        option = known.get(flag)
        if option is not None and option.kind != FLAG and word[index + 1 :]:
            return [*found, (flag, word[index + 1 :])]
        found.append((flag, None))
    return found


def _store(option: Option, text: str | None, given: Values) -> None:
    if option.kind == FLAG:
        given[option.name] = True
    elif option.repeat:
        earlier = given.get(option.name)
        given[option.name] = [*(earlier if isinstance(earlier, list) else []), text or ""]
    else:
        given[option.name] = text
