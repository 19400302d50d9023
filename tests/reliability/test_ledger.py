"""The ledger notices each way in which a promise can be broken."""

from __future__ import annotations

import pytest

from tests.reliability.ledger import Ledger, Verdict

GOOD = """S s1.1. 0
A s1.1. H:1:1
X H:1:1 s1.1. 50.0 10.0 7
F H:1:1 11.0 7
S s1.2.k 0
A s1.2.k H:1:2
S s2.1.k 0
G s2.1.k H:1:2
X H:1:2 s1.2.k 50.0 10.0 7
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
    verdict = judge(GOOD + "X H:1:2 s1.2.k 51.0 21.0 8\n")
    assert not verdict.faults
    assert verdict.line() == "1 kills, 2 acknowledged, 3 executed, 1 duplicates, 0 lost"


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("S s1.3. 0\nA s1.3. H:1:3\n", "lost"),
        ("S s2.2. 0\nS s2.3. 0\nA s2.3. H:1:4\nX H:1:5 s2.3. 50 10 7\n", "lost"),
        ("X H:1:3 s1.3. 50.0 10.0 7\n", "unexpected"),
        ("X H:1:1 s1.1. 50.0 12.0 7\n", "again"),
        ("X H:1:1 s1.1. 50.0 21.0 8\n", "again"),
        ("X H:1:1 s1.1. 50.0 31.0 7\n", "again"),
        ("S s1.3. 0\nA s1.3. H:1:1\n", "repeated"),
        ("S s1.3.k2 0\nG s1.3.k2 H:1:2\n", "repeated"),
        ("X H:2:1 s1.1. 50.0 5.0 7\n", "repeated"),
        ("S s1.3. 60\nX H:1:3 s1.3. 59 10 7\n", "early"),
        ("X H:1:2 s1.2.k 50.0 10.0 7\n" * 3, "duplicated"),
    ],
)
def test_a_broken_promise(lines: str, fault: str) -> None:
    assert fault in judge(GOOD + lines).faults


def test_a_run_that_a_dead_life_gave_out_is_none_of_the_next() -> None:
    """A worker reads late what the life before gave it; by then another one has ended the job."""
    late = "S s1.3. 0\nF H:1:3 21.0 8\nX H:1:3 s1.3. 50.0 20.5 8\nX H:1:3 s1.3. 51.0 19.9 7\n"
    assert not judge(GOOD + late).faults


def test_a_line_that_was_cut_off_does_not_count() -> None:
    ledger = Ledger()
    ledger.feed("s1", b"S s1.1. 0\nA s1.1. H:1")
    assert not ledger.judge(1).faults
    ledger.feed("s2", b"S s2.1. 0\n")
    ledger.feed("s1", b":1\n")
    assert ledger.judge(1).lost == ["H:1:1 s1.1."]
