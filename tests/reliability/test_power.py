"""R2b: the power fails at any moment of a server's life, and nothing that it acknowledged is lost.

The server is the one that is shipped, unmodified. What it does to its store is recorded from outside, together with
what it receives and sends (power/recorder.c); from the records come the disk as a power cut might leave it, at any
moment, and the book of what the server had promised until then; farm's own store opens the one and must find the other.

Recorded with a small library that is preloaded, not with strace: strace makes every system call ten times as slow and
stops the threads at each, so a commit would hardly ever be under way while the loop goes on, and that is what is to be
tested. It may also not be allowed to trace. The library sees the same calls and writes the bytes down as they are; what
it would miss is noticed, because the records, done again, must give the same files to the last byte.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.reliability.power.cuts import figures, line
from tests.reliability.power.record import compile_recorder, record
from tests.reliability.power.starts import start_on_all

pytestmark = [pytest.mark.slow, pytest.mark.power]

JOBS = 6000
CUTS = int(os.environ.get("CUTS", "5000"))  # CUTS=20000 bin/check power for more of them
STARTS = int(os.environ.get("STARTS", "60"))  # and STARTS=500
START_JOBS = 1500
MUTANT_JOBS = 1500
MUTANT_CUTS = 300
MUTANT_STARTS = 15
STARTED = ("given out", "lost", "phantom", "refused", "put aside")
WRONG = ("lost", "phantom", "result", "corrupt", "refused")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload."""
    return compile_recorder(tmp_path_factory.mktemp("recorder"))


def test_no_power_cut_loses_what_was_acknowledged(
    recorder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures(record(tmp_path, recorder, JOBS, seed=1), CUTS, seed=1)
    with capsys.disabled():
        print(f"\n{line(found)}")
    assert {name: found[name] for name in WRONG} == dict.fromkeys(WRONG, 0)
    assert found["cuts"] == CUTS
    assert found["acknowledged"] >= JOBS * 9 // 10
    assert found["durably ended"] >= JOBS * 8 // 10
    assert found["checkpoints"] >= 4
    assert found["inside a sync"] >= CUTS // 50
    assert found["unfinished"] >= CUTS // 50, "hardly any cut left a torn transaction"


@pytest.mark.parametrize(
    ("mutant", "noticed"),
    [
        ("normal", ("lost",)),  # the log is not synced at each commit
        ("off", ("corrupt",)),  # nothing is ever synced
        ("early", ("lost",)),  # JOB_CREATED before the commit
    ],
)
def test_it_notices(mutant: str, noticed: tuple[str, ...], recorder: Path, tmp_path: Path) -> None:
    found: Counter[str] = figures(record(tmp_path, recorder, MUTANT_JOBS, 2, mutant), MUTANT_CUTS, seed=2)
    assert sum(found[name] for name in noticed) > 0, line(found)


def test_a_server_starts_on_what_a_power_cut_leaves(
    recorder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Itself, and it has what was acknowledged."""
    found = start_on_all(record(tmp_path, recorder, START_JOBS, seed=3), STARTS, seed=3)
    with capsys.disabled():
        print(f"\nstarts after a power cut: {', '.join(f'{found[name]} {name}' for name in ('cuts', *STARTED))}")
    assert found["cuts"] == STARTS
    assert {name: found[name] for name in STARTED[1:]} == dict.fromkeys(STARTED[1:], 0)
    assert found["given out"] > STARTS


def test_such_a_start_notices_a_log_that_is_not_synced(recorder: Path, tmp_path: Path) -> None:
    records = record(tmp_path, recorder, MUTANT_JOBS, 2, "normal")
    assert start_on_all(records, MUTANT_STARTS, seed=2)["lost"] > 0
