"""`farm submit` is called in loops and hooks: its start must cost little more than the interpreter's own."""

from __future__ import annotations

import re

import pytest

from tests.bench.startup import BASELINE, FAILOVER, PYTHON, SCRIPT, measure
from tests.cli.rig import Rig

# Each costs milliseconds, or drags in others that do.
SLOW = {"asyncio", "typer", "click", "rich", "typing", "dataclasses", "re", "logging", "subprocess", "inspect"}
SLOW |= {
    "datetime",
    "hashlib",
    "importlib.metadata",
    "email",
    "json",
    "ssl",
    "ctypes",
    "argparse",
    "shutil",
    "tempfile",
    "difflib",
}
RATIO_MAX = 3.0
ROUNDS = 3  # a loaded machine may spoil one


def imported(importtime: str) -> set[str]:
    """The modules that -X importtime names."""
    return set(re.findall(r"^import time:.*\| +([\w.]+)$", importtime, re.M))


PLAIN = [["submit"], ["submit", "-b"], ["submit", "--no-wait"], ["submit", "-f", "in", "-q"]]
TERMS = [
    ["submit", "--retries", "5", "--retry-on", "75,signal", "--timeout", "1m30s"],
    ["submit", "--unique", "auto", "--if-exists", "skip", "--wait-timeout", "1m"],
    ["submit", "-b", "--in", "1h"],
]


@pytest.mark.parametrize("argv", PLAIN + TERMS)
def test_submit_imports_nothing_slow(rig: Rig, function: str, argv: list[str]) -> None:
    rig.write("in", "payload")
    rig.worker(function, "--", "cat")
    done = rig.run(*argv, function, stdin=b"payload", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.status == 0
    modules = imported(done.err)
    assert "farm.client.submit" in modules
    assert not modules & SLOW
    assert ("farm.cli.terms" in modules) == (argv in TERMS)


def test_nor_does_it_to_find_another_server(rig: Rig) -> None:
    """What failed is written down, for the next one to read."""
    for _ in range(2):
        several = f"127.0.0.1:1,{rig.env['FARM_SERVER']}"
        done = rig.submit("-b", "-n", "f", "-s", several, env={"PYTHONPROFILEIMPORTTIME": "1"})
        assert done.status == 0
        assert not imported(done.err) & SLOW
    assert (rig.home / ".cache/farm/servers").exists()


def test_server_and_worker_need_no_typer(rig: Rig, function: str) -> None:
    """They live long; but a cron job or a supervisor starts them often enough, and each holds what it has imported."""
    worker = rig.worker(function, "--", "cat", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "farm.worker.worker" in imported(worker.err())
    assert not imported(worker.err()) & {"asyncio", "typer", "click", "rich"}
    server = rig.server(env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "farm.server.server" in imported(server.err())
    assert not imported(server.err()) & {"asyncio", "typer", "click", "rich"}


@pytest.mark.alone
def test_submit_starts_within_three_times_an_empty_python(rig: Rig) -> None:
    found: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        medians = measure(rig, pairs=30)
        found.append({name: medians[name] / medians[BASELINE] for name in (PYTHON, SCRIPT, FAILOVER)})
        if max(found[-1].values()) <= RATIO_MAX:
            return
    raise AssertionError(f"more than {RATIO_MAX} times as long: {found}")
