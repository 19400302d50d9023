"""The ledger notices each way in which a promise can be broken."""

from __future__ import annotations

import pytest

from tests.reliability.ledger import Ledger, Verdict

GOOD = """S s1.1. 0
A s1.1. H:1:1
X H:1:1 s1.1. 50.0 10.0 7 done
F H:1:1 10.5 11.0 7
S s1.2.k 0
A s1.2.k H:1:2
S s2.1.k 0
G s2.1.k H:1:2
X H:1:2 s1.2.k 50.0 10.0 7 done
"""


def judge(lines: str) -> Verdict:
    ledger = Ledger()
    ledger.kills = 1
    ledger.began(7, 1.0)
    ledger.began(8, 20.0)
    ledger.began(7, 30.0)  # an id that came again
    ledger.feed("s1", lines.encode())
    return ledger.judge(in_flight_max=2)


def test_a_good_run() -> None:
    verdict = judge(GOOD + "X H:1:2 s1.2.k 51.0 21.0 8 done\n")
    assert not verdict.faults
    assert verdict.line() == "1 kills, 2 acknowledged, 3 executed, 1 duplicates, 0 lost"


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("S s1.3. 0\nA s1.3. H:1:3\n", "lost"),
        ("S s2.2. 0\nS s2.3. 0\nA s2.3. H:1:4\nX H:1:5 s2.3. 50 10 7 done\n", "lost"),
        ("X H:1:3 s1.3. 50.0 10.0 7 done\n", "unexpected"),
        ("X H:1:1 s1.1. 50.0 12.0 7 done\n", "again"),
        ("X H:1:1 s1.1. 50.0 21.0 8 done\n", "again"),
        ("X H:1:1 s1.1. 50.0 31.0 7 done\n", "again"),
        ("S s1.3. 0\nA s1.3. H:1:1\n", "repeated"),
        ("S s1.3.k2 0\nG s1.3.k2 H:1:2\n", "repeated"),
        ("X H:2:1 s1.1. 50.0 5.0 7 done\n", "repeated"),
        ("S s1.3. 60\nX H:1:3 s1.3. 59 10 7 done\n", "early"),
        ("X H:1:2 s1.2.k 50.0 10.0 7 done\n" * 3, "duplicated"),
    ],
)
def test_a_broken_promise(lines: str, fault: str) -> None:
    assert fault in judge(GOOD + lines).faults


TRIED = """S s1.1. 0 1 0.5
A s1.1. H:1:1
X H:1:1 s1.1. 50.0 2.0 7 failed
B H:1:1 2.0 2.1 7
J H:1:1 1 3.0 3.1
X H:1:1 s1.1. 51.0 21.0 8 failed
X H:1:1 s1.1. 52.0 31.0 7 failed
B H:1:1 31.0 31.1 7
J H:1:1 2 32.0 32.1
S s1.2. 0 3 0.5
A s1.2. H:1:2
K H:1:2
C H:1:2 cancelled 12.0 7
S s1.3. 0 3 0.5
A s1.3. H:1:3
X H:1:3 s1.3. 50.0 10.0 7 failed
K H:1:3
C H:1:3 told 12.0 7
X H:1:3 s1.3. 50.0 12.5 7 done
S s1.4.u1 0
A s1.4.u1 H:1:4
X H:1:4 s1.4.u1 50.0 10.0 7 done
"""


def judge_tried(lines: str, *states: tuple[str, str, int]) -> Verdict:
    ledger = Ledger()
    ledger.kills = 1
    for pid, began in ((7, 1.0), (8, 20.0), (7, 30.0)):
        ledger.began(pid, began)
    ledger.feed("s1", (TRIED + lines).encode())
    for state in {"H:1:1": ("dead", 2), "H:1:2": ("cancelled", 0), "H:1:3": ("cancelled", 1)}.items():
        ledger.ended(state[0], *state[1])
    for handle, how, failures in states:
        ledger.ended(handle, how, failures)
    return ledger.judge(in_flight_max=2)


def test_a_good_run_of_jobs_that_are_tried_again() -> None:
    """A failure of which nobody knew that it is durable may be repeated after a kill."""
    verdict = judge_tried("")
    assert not verdict.faults
    assert verdict.duplicates == 1  # of the job that was cancelled at its worker


@pytest.mark.parametrize(
    ("lines", "states", "fault"),
    [
        ("S s1.5. 0 3 0.5\nA s1.5. H:1:5\nX H:1:5 s1.5. 50 10 7 failed\n", [], "lost"),
        ("", [("H:1:1", "delayed", 1)], "lost"),
        ("", [("H:1:1", "dead", 1)], "cut"),
        ("", [("H:1:1", "dead", 3)], "cut"),
        ("", [("H:1:1", "done", 1)], "cut"),
        ("", [("H:1:1", "cancelled", 1)], "cut"),
        ("", [("H:1:2", "done", 0)], "back"),
        ("X H:1:2 s1.2. 50 13 7 done\n", [], "back"),
        ("X H:1:3 s1.3. 50 21 8 done\n", [], "back"),
        ("B H:1:1 21.0 21.1 8\n", [], "forgotten"),
        ("J H:1:1 0 22.0 22.1\n", [], "forgotten"),
        ("X H:1:1 s1.1. 50.0 2.2 7 failed\n", [], "early"),
        ("S s1.5.u1 0\nA s1.5.u1 H:1:5\nX H:1:5 s1.5.u1 50 10 7 done\n", [], "repeated"),
    ],
)
def test_a_broken_promise_about_jobs_that_are_tried_again(
    lines: str, states: list[tuple[str, str, int]], fault: str
) -> None:
    assert fault in judge_tried(lines, *states).faults


def test_a_run_that_a_dead_life_gave_out_is_none_of_the_next() -> None:
    """A worker reads late what the life before gave it; by then another one has ended the job."""
    late = "S s1.3. 0\nF H:1:3 20.9 21.0 8\nX H:1:3 s1.3. 50.0 20.5 8 done\nX H:1:3 s1.3. 51.0 19.9 7 done\n"
    assert not judge(GOOD + late).faults


def test_a_line_that_was_cut_off_does_not_count() -> None:
    ledger = Ledger()
    ledger.feed("s1", b"S s1.1. 0\nA s1.1. H:1")
    assert not ledger.judge(1).faults
    ledger.feed("s2", b"S s2.1. 0\n")
    ledger.feed("s1", b":1\n")
    assert ledger.judge(1).lost == ["H:1:1 s1.1."]


CLOCKED = "".join(f"X H:1:{number} c.1. 50.0 {number} 7 done\n" for number in (1, 2, 3))
CAME: list[tuple[float, str | None]] = [(240.0, "H:1:3"), (180.0, "H:1:2"), (120.0, "H:1:1")]


def judge_clock(lines: str, came: list[tuple[float, str | None]], wall: float = 299.0) -> Verdict:
    ledger = Ledger()
    ledger.kills = 1
    ledger.began(7, 1.0)
    ledger.entry("c.1.", 100.0)
    ledger.feed("w1", lines.encode())
    if wall:
        ledger.came("c.1.", wall, came)
    return ledger.judge(in_flight_max=2)


def test_a_good_run_of_a_cron_entry() -> None:
    assert not judge_clock(CLOCKED, CAME).faults
    assert not judge_clock("", [], 159.0).faults  # before its first minute
    assert not judge_clock(CLOCKED, [(960.0 - 60 * n, "H:1:3") for n in range(10)], 961.0).faults  # it knows ten


@pytest.mark.parametrize(
    ("lines", "came", "wall"),
    [
        (CLOCKED, CAME, 0.0),  # the server does not know it
        (CLOCKED, CAME, 310.0),  # its newest minute did not come
        (CLOCKED, [CAME[0], CAME[2]], 299.0),
        (CLOCKED, [CAME[0], *CAME], 299.0),
        (CLOCKED, CAME[:2], 299.0),  # a job without a time
        (CLOCKED, [*CAME[:2], (120.0, None)], 299.0),
        (CLOCKED, [*CAME[:2], (120.0, "H:1:4")], 299.0),
    ],
)
def test_a_broken_promise_of_a_cron_entry(lines: str, came: list[tuple[float, str | None]], wall: float) -> None:
    assert "clock" in judge_clock(lines, came, wall).faults
