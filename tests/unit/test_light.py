"""The light parser and typer are two readers of one table: where the light one answers at all, both say the same."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from farm.cli import app, light
from farm.cli.options import COMMON, FLAG, Command, Option, commands, complete
from farm.errors import FarmError, UsageError

COMMANDS = {command.name: command for command in commands()}

Outcome = tuple[str, Any]

TEXTS = [
    "",
    "-",
    "f",
    "x y",
    "high",
    "4",
    "0",
    "1s",
    "-1",
    "--",
    "-x",
    "a=b",
    "=",
    "127.0.0.1:1",
    "ü",
    "submit",
    "work",
]


def spellings(option: Option) -> list[list[str]]:
    """Ways to write an option, right ones and wrong ones."""
    written: list[list[str]] = []
    for flag in option.flags:
        written += [[flag], [f"{flag}=x"], [f"{flag}="], [f"{flag}4"]]
        written += [[flag, text] for text in ("x", "4", "high", "-n", "--", "")]
        written += [[f"{flag}{other}"] for other in "bnqvs"] if len(flag) == 2 else []
    return written


def words_for(options: tuple[Option, ...]) -> st.SearchStrategy[list[str]]:
    """A piece of a command line."""
    known = [spelling for option in options for spelling in spellings(option)]
    free = st.text("-=sbnqpujf4:. ", max_size=5).map(lambda text: [text])
    return st.one_of(st.sampled_from(known or [["--none"]]), st.sampled_from(TEXTS).map(lambda text: [text]), free)


def joined(pieces: list[list[str]]) -> list[str]:
    """The words of all pieces."""
    return [word for piece in pieces for word in piece]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Something before the command, the command, and something after it."""
    command = draw(st.sampled_from(list(COMMANDS.values())))
    before = draw(st.lists(words_for(COMMON), max_size=2))
    after = draw(st.lists(words_for(command.options), max_size=6))
    return [*joined(before), *command.name.split(), *joined(after)]


def by_light(argv: list[str]) -> Outcome | None:
    """What the light parser makes of it; None: it declines."""
    try:
        command, given = light.parse(argv)
    except light.Declined:
        return None
    except UsageError as error:
        return "wrong", error.message
    return completed(command, given)


def completed(command: Command, given: Any) -> Outcome:
    """The values a command would run with, or what is wrong with them."""
    try:
        return command.name, same(complete(command, given, {}))
    except FarmError as error:
        return "wrong", error.message


def same(values: Any) -> Any:
    """An absent rest of arguments and an empty one are the same."""
    return {name: list(value or []) if name == "command" else value for name, value in values.items()}


class Typer:
    """The typer application, built once, which runs nothing and tells what it would have run."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        built = typer.main.get_command(app.build())
        self.ran: list[Outcome] = []
        patch.setattr(typer.main, "get_command", lambda _: built)
        patch.setattr(app, "build", lambda: None)
        patch.setattr(app, "run_command", lambda name, values: self.ran.append((name, same(values))) or 0)
        for name in ("FARM_SERVER", "FARM_LISTEN", "FARM_INSECURE", "FARM_STORE", "FARM_LOG_FILE", "FARM_LOG_LEVEL"):
            patch.delenv(name, raising=False)

    def __call__(self, argv: list[str]) -> Outcome:
        """What typer makes of it."""
        self.ran.clear()
        try:
            app.run(argv)
        except FarmError as error:
            return "wrong", error.message
        return self.ran[0] if self.ran else ("nothing", None)


@pytest.fixture(scope="module")
def by_typer() -> Any:
    """The typer application."""
    with pytest.MonkeyPatch.context() as patch:
        yield Typer(patch)


EXAMPLES, SLOW_EXAMPLES = 800, 5000  # typer takes milliseconds for each


@settings(max_examples=EXAMPLES, deadline=None)
@example(["submit", "-n", "--", ""])
@example(["submit", "f", "-f", ""])
@example(["submit", "f", "--file="])
@example(["-s", "a", "-s", "b", "submit", "f", "-s", "c"])
@example(["work", "f", "--", "a", "--", "b"])
@example(["work", "f", "--cmd", "x"])
@example(["work", "f", "--cmd", ""])
@example(["work", "f", "grep", "-v", "x"])
@example(["work", "f", "grep", "--", "-v", "x"])
@example(["work", "f", "-v", "grep", "-", "-v"])
@example(["submit", "-bn", "f"])
@example(["submit", "-bphigh", "f"])
@example(["submit", "-sb", "f", "-b"])
@example(["--insecure", "--insecure", "status"])
@given(command_lines())
def test_where_the_light_parser_answers_typer_says_the_same(by_typer: Typer, argv: list[str]) -> None:
    light = by_light(argv)
    if light is not None:
        assert light == by_typer(argv), shlex.join(argv)


@pytest.mark.slow
@settings(max_examples=SLOW_EXAMPLES, deadline=None)
@given(command_lines())
def test_it_says_the_same_many_times(by_typer: Typer, argv: list[str]) -> None:
    light = by_light(argv)
    assert light is None or light == by_typer(argv), shlex.join(argv)


@settings(max_examples=500, deadline=None)
@given(command_lines())
def test_whatever_is_typed_ends_in_values_or_in_one_line(by_typer: Typer, argv: list[str]) -> None:
    """Typer's own way, for what the light parser declines: nothing but UsageError comes out, and it fits a line."""
    name, said = by_typer(argv)
    if name == "wrong":
        assert said
        assert "\n" not in said


@pytest.mark.parametrize(
    "line",
    [
        "submit f",
        "submit -b f",
        "submit -bn f",
        "submit f -f file -p high -u key --no-wait -q",
        "submit f --file=file --priority=high",
        "-s a:1 submit f",
        "submit f -sa:1,b:2 -s c",
        "work f -j 4 -- convert - -resize 50% -",
        "work f --cmd 'cat | rev'",
        "server --detach --listen 127.0.0.1:0",
        "status --json",
        "status -w --every 2s",
        "store check --json",
        "store backup there here",
    ],
)
def test_ordinary_command_lines_need_no_typer(by_typer: Typer, line: str) -> None:
    """Else the comparison above would be empty, and every start slow."""
    light = by_light(shlex.split(line))
    assert light is not None
    assert light[0] in COMMANDS
    assert light == by_typer(shlex.split(line))


EXPLAINED = """
--help | submit --help | submit -h | --version | submit | submit f g | submit f --quiet=yes | sumbit f
submit f --no-such | submit f -f | -s | submit '' | work f -x | -- submit f | submit f -bz | submit f -fb -q=1
"""


@pytest.mark.parametrize("line", ["", *EXPLAINED.strip().replace("\n", " | ").split(" | ")])
def test_what_needs_explaining_is_left_to_typer(line: str) -> None:
    assert by_light(shlex.split(line)) is None


@pytest.mark.parametrize(
    "line",
    ["work f grep -v x", "work f sort - -s a", "work -q f ls --help", "-- work f grep -v x", "work f a --no-such"],
)
def test_an_option_behind_the_beginning_of_a_command_is_nobodys(by_typer: Typer, line: str) -> None:
    """Taken as farm's, the command would run without it, and nobody would know."""
    said = by_light(shlex.split(line))
    answers = {by_typer(shlex.split(line)), *([said] if said else [])}
    ((kind, words),) = answers
    assert kind == "wrong"
    assert "behind the beginning of the command: is it farm's option or the command's?" in words


def test_an_option_before_the_command_holds_unless_said_again() -> None:
    _, given = light.parse(["--insecure", "-s", "a", "submit", "f"])
    assert (given["server"], given["insecure"]) == (["a"], True)
    _, given = light.parse(["-s", "a", "submit", "-s", "b", "f"])
    assert given["server"] == ["b"]


def test_every_flag_of_the_table_is_understood() -> None:
    for command in COMMANDS.values():
        rest = ["f"] if command.arguments else []
        for option in command.options:
            for flag in option.flags:
                _, given = light.parse([*command.name.split(), *rest, flag, *([] if option.kind == FLAG else ["text"])])
                wanted = True if option.kind == FLAG else ["text"] if option.repeat else "text"
                assert given[option.name] == wanted
