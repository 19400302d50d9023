"""The status screen: a pure function of a snapshot and a height."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from farm.client.status import FunctionStatus, ServerStatus
from farm.errors import Unavailable
from farm.tui.status import view


def drawn(servers: list[ServerStatus], height: int | None = None, footer: str = "", width: int = 100) -> str:
    """What a person sees, without colour."""
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(view(servers, height, footer))
    return file.getvalue()


def server(*rows: FunctionStatus) -> ServerStatus:
    """A server with these functions."""
    return ServerStatus("127.0.0.1:4730", "0.1.0+farm", list(rows))


@pytest.mark.parametrize(
    ("queued", "running", "workers", "state"),
    [
        (0, 0, 0, "· unused"),
        (0, 0, 2, "· idle"),
        (0, 1, 2, "● working"),
        (3, 1, 2, "● working"),
        (3, 2, 2, "▲ waiting"),
        (1, 0, 0, "✖ no worker"),
        (0, 1, 0, "● working"),
    ],
)
def test_states_are_told_in_words(queued: int, running: int, workers: int, state: str) -> None:
    """Glyph and word, so that neither colour nor font is needed to tell them apart."""
    text = drawn([server(FunctionStatus("f", queued, running, workers))])
    row = next(line for line in text.splitlines() if line.startswith("f "))
    assert row.split() == ["f", *state.split(), str(queued), str(running), str(workers)]


def test_the_first_line_adds_up() -> None:
    text = drawn([server(FunctionStatus("a", 1000, 2, 3), FunctionStatus("b", 234, 5, 6))])
    assert text.splitlines()[0] == "farm 127.0.0.1:4730  0.1.0+farm   queued 1,234   running 7   workers 9"


def test_an_empty_server_says_how_to_begin() -> None:
    assert "no functions yet: start a worker with `farm work FUNCTION -- COMMAND`" in drawn([server()])


def test_what_is_wrong_comes_with_what_mends_it() -> None:
    rows = [FunctionStatus(f"stuck{number}", number, 0, 0) for number in range(1, 6)]
    problems = [line for line in drawn([server(*rows)]).splitlines() if line.startswith("! ")]
    assert problems[0] == "! stuck1: 1 queued and no worker: farm work stuck1 -- COMMAND"
    assert len(problems) == 3


def test_a_dead_server_is_one_line_among_the_others() -> None:
    dead = ServerStatus("127.0.0.1:1", failure=Unavailable("no server at 127.0.0.1:1: connection refused", "start it"))
    text = drawn([dead, server(FunctionStatus("f", 0, 0, 1))])
    assert text.splitlines()[0] == "✖ no server at 127.0.0.1:1: connection refused"
    assert "· idle" in text


def test_on_a_small_screen_trouble_comes_first() -> None:
    rows = [FunctionStatus(f"idle{number:02}", 0, 0, 1) for number in range(40)]
    rows += [FunctionStatus("busy", 0, 1, 1), FunctionStatus("stuck", 1, 0, 0)]
    text = drawn([server(*rows)], height=14)
    assert "stuck" in text
    assert "busy" in text
    assert "and 36 more functions" in text


def test_a_long_name_does_not_push_the_numbers_away() -> None:
    text = drawn([server(FunctionStatus("x" * 300, 1, 2, 3))], width=60)
    row = next(line for line in text.splitlines() if line.startswith("xxx"))
    assert row.split()[-3:] == ["1", "2", "3"]
    assert "…" in row


def test_names_are_not_markup() -> None:
    """A function called [red] is shown as that."""
    assert "[bold]f[/bold]" in drawn([server(FunctionStatus("[bold]f[/bold]", 1, 0, 0))])


def test_the_footer_is_last() -> None:
    assert drawn([server()], footer="q quits").splitlines()[-1] == "q quits"


@given(
    st.lists(st.builds(FunctionStatus, st.text("abc", min_size=1, max_size=8), *[st.integers(0, 9)] * 3), max_size=60),
    st.integers(12, 60),
)
def test_it_fits_the_screen(rows: list[FunctionStatus], height: int) -> None:
    """Whatever there is to show; with the prompt's line to spare."""
    assert len(drawn([server(*rows)], height, "q quits").splitlines()) < height
