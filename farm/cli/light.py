"""A parser for well-formed command lines that costs nothing to import. What it does not understand (help, a wrong
option, a missing argument) it declines, and typer answers; a test holds the two together.
"""

from __future__ import annotations

from farm.cli.options import COMMON, FLAG, GROUPS, Command, Option, Values, find


class Declined(Exception):
    """Not a plain, well-formed command line."""


def parse(argv: list[str]) -> tuple[Command, Values]:
    """The command and what was given for it (see options.complete). Raises Declined."""
    before: Values = {}
    rest = _options(argv, COMMON, before, stop_at_argument=True)
    size = 2 if rest and rest[0] in GROUPS else 1
    command = find(" ".join(rest[:size])) if rest else None
    if command is None:
        raise Declined
    given: Values = {}
    words = _options(rest[size:], command.options, given)
    _arguments(command, words, given)
    return command, merge(before, given)


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


def _options(argv: list[str], options: tuple[Option, ...], given: Values, stop_at_argument: bool = False) -> list[str]:
    """Take the options out of argv into `given`; returns what is left."""
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
