"""R23: an online backup under load has every job that was acknowledged before it began."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.broker.job import handle_of
from farm.protocol import packets as p
from farm.store.contract import StoreError
from farm.store.sqlite import SqliteStore
from tests.cli.rig import Rig
from tests.support import CHECKOUT, wait_until

ROUNDS = 20
SUBMITTERS, WINDOW = 3, 32

# Submits background jobs, WINDOW at a time, and writes the handle of each that is acknowledged.
_SUBMITTER = """
import sys
from farm.protocol import packets as p
from tests.cli.rig import connect
with connect(sys.argv[1]) as wire:
    number = 0
    while True:
        for _ in range(int(sys.argv[2])):
            number += 1
            wire.send(p.SUBMIT_JOB_BG, b"f", b"", b"%d" % number * 20)
        for _ in range(int(sys.argv[2])):
            kind, handle = wire.packet()
            assert kind == p.JOB_CREATED
            print(handle.decode(), flush=True)
"""
# Completes jobs, as fast as they come.
_WORKER = """
import sys
from farm.protocol import packets as p
from tests.cli.rig import connect
with connect(sys.argv[1]) as wire:
    wire.send(p.CAN_DO, b"f")
    while True:
        if body := wire.grab():
            wire.send(p.WORK_COMPLETE, body.split(b"\\0")[0], b"result")
"""


class Ledger:
    """What the submitters were told, as it comes out of their pipes."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self._threads: list[threading.Thread] = []

    def read(self, process: subprocess.Popen[str]) -> None:
        """All that this submitter writes from now on."""
        thread = threading.Thread(target=self._read, args=(process,))
        self._threads.append(thread)
        thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout as pipe:
            for line in pipe:
                if line.endswith("\n"):  # the last one may be half
                    self.acknowledged.append(line.strip())

    def end(self) -> None:
        """The submitters have been killed."""
        for thread in self._threads:
            thread.join()


def restored(path: Path) -> tuple[set[str], set[str]]:
    """The handles of the jobs that a server would run, and of those that have ended."""
    store = SqliteStore(str(path))
    store.open()
    jobs = {handle_of(save.id).decode() for save in store.load()}
    ended = {handle_of(id).decode() for (id,) in store._opened().execute("SELECT id FROM ended")}
    store.close()
    return jobs, ended


def under_load(tmp_path: Path, backup: Callable[[Rig, Path], None], rounds: int) -> list[set[str]]:
    """So many backups beside submitters and a worker; returns what had been acknowledged before each."""
    rig, ledger = Rig(tmp_path), Ledger()
    processes: list[subprocess.Popen[str]] = []
    try:
        server = rig.server("--store", str(tmp_path / "store"))
        for script in [_SUBMITTER] * SUBMITTERS + [_WORKER]:
            argv = [sys.executable, "-P", "-c", script, server.address, str(WINDOW)]
            env = {**rig.env, "PYTHONPATH": str(CHECKOUT)}
            process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
            processes.append(process)
            ledger.read(process)
        before: list[set[str]] = []
        for number in range(rounds):
            least = len(ledger.acknowledged) + 100
            wait_until(lambda least=least: len(ledger.acknowledged) >= least, what="jobs are acknowledged")
            before.append(set(ledger.acknowledged))
            backup(rig, tmp_path / f"backup-{number}")
            least = len(ledger.acknowledged) + 100
            wait_until(lambda least=least: len(ledger.acknowledged) >= least, what="the server goes on")
    finally:
        for process in processes:
            process.kill()
            process.wait()
        ledger.end()
        rig.end()
    return before


def by_farm(rig: Rig, destination: Path) -> None:
    """As it is meant."""
    done = rig.run("store", "backup", str(destination), str(destination.parent / "store"))
    assert done.status == 0, done.err


def without_the_log(rig: Rig, destination: Path) -> None:
    """The mutant: what somebody does who takes `jobs.db` for all of the store."""
    destination.mkdir()
    shutil.copy(destination.parent / "store" / "jobs.db", destination)


@pytest.mark.slow
def test_backups_under_load(tmp_path: Path) -> None:
    """Restored: all that was acknowledged before, queued or ended, and nothing that nobody submitted."""
    before = under_load(tmp_path, by_farm, ROUNDS)
    some_were_queued = some_had_ended = False
    for number, acknowledged in enumerate(before):
        jobs, ended = restored(tmp_path / f"backup-{number}")
        assert acknowledged - jobs - ended == set()
        assert not jobs & ended
        some_were_queued |= bool(jobs & acknowledged)
        some_had_ended |= bool(ended & acknowledged)
    assert some_were_queued and some_had_ended
    rig = Rig(tmp_path)
    try:
        server = rig.server("--store", str(tmp_path / f"backup-{ROUNDS - 1}"))
        with server.connect() as wire:
            wire.send(p.CAN_DO, b"f")
            handle = wire.grab().split(b"\0")[0].decode()
            assert handle in jobs
    finally:
        rig.end()
    print(f"{ROUNDS} backups, {len(before[-1])} jobs acknowledged before the last one, 0 lost")


@pytest.mark.slow
def test_it_notices_a_copy_without_the_log(tmp_path: Path) -> None:
    lost = set()
    for number, acknowledged in enumerate(under_load(tmp_path, without_the_log, 3)):
        try:
            jobs, ended = restored(tmp_path / f"backup-{number}")
        except StoreError:  # torn: it was copied while the server wrote
            continue
        lost |= acknowledged - jobs - ended
    assert lost
