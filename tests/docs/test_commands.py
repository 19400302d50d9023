"""The reference in farm/docs/commands.md is what the program says now, and it is complete."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from farm.cli.options import Command, commands
from farm.errors import EXIT_MEANINGS, EXIT_SIGNAL_BASE
from farm.protocol.packets import KINDS
from tests.support import CHECKOUT

COMMANDS = {command.name: command for command in commands()}

REFERENCE = CHECKOUT / "farm/docs/commands.md"


@pytest.fixture(scope="module")
def text() -> str:
    """The reference."""
    return REFERENCE.read_text()


def test_it_is_up_to_date(text: str) -> None:
    """`python -m farm.cli.reference > farm/docs/commands.md` mends it."""
    made = subprocess.run(
        [sys.executable, "-P", "-m", "farm.cli.reference"], cwd=CHECKOUT, capture_output=True, check=True, text=True
    )
    assert text == made.stdout


def section(text: str, title: str) -> str:
    """From a heading to the next one."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"no section {title!r}"
    return found[1]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_and_option_is_in_it(text: str, command: Command) -> None:
    part = section(text, f"farm {command.name}")
    for argument in command.arguments:
        assert f"`{argument.metavar}`" in part
    for option in command.options:
        for flag in option.flags:
            assert re.search(rf"`{flag}[ `]", part), flag
        assert not option.env or f"`{option.env}`" in part
        assert not option.default or f"`{option.default}`" in part


def test_every_exit_code_is_in_it(text: str) -> None:
    part = section(text, "Exit codes")
    for code, meaning in EXIT_MEANINGS.items():
        shown = f"{code} + N" if code == EXIT_SIGNAL_BASE else str(code)
        assert re.search(rf"^\| {re.escape(shown)} \| .*{re.escape(meaning[-20:])}", part, re.M), code


def test_every_variable_that_the_program_mentions_is_in_it(text: str) -> None:
    packets = {kind.name for kind in KINDS.values()}
    for path in (CHECKOUT / "farm").rglob("*.py"):
        for name in set(re.findall(r"""["'](FARM_[A-Z_]+)["']""", path.read_text())) - packets:
            assert f"`{name}`" in text, f"{name} in {path}"


def test_no_table_row_is_broken(text: str) -> None:
    """A `|` in a cell has to be escaped, or the row has a column too many."""
    columns = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line))
        assert not columns or count == columns, line
        columns = count
