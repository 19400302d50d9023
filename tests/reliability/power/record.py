"""Starts a server with the recorder in it, gives it a load, and kills it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cli.rig import FARM, Rig, connect
from tests.interop.ends import lack
from tests.reliability.power.disk import Disk, read_log
from tests.reliability.power.load import Load
from tests.support import CHECKOUT

SOURCE = Path(__file__).parent / "recorder.c"
# Little is kept of what has ended, so that the oldest goes all the time; and some payloads are in the store only.
OPTIONS = ("--keep-results-size", "60k", "--payload-memory", "20k", "--disk-reserve", "1k")


def compile_recorder(directory: Path) -> Path:
    """The library to preload. Skips the test where there is no compiler, and fails in CI."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        lack("no C compiler (apt install gcc libc6-dev)")
    library = directory / "recorder.so"
    command = [
        str(compiler),
        "-Wall",
        "-Wextra",
        "-O2",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(SOURCE),
        "-lpthread",
    ]
    subprocess.run(command, check=True, timeout=60)
    return library


def record(directory: Path, library: Path, jobs: int, seed: int, mutant: str = "") -> Path:
    """Record a server under load; returns the file of the records. mutant: one of mutant.py; empty: farm as it is."""
    store, log = directory / "store", directory / "records"
    store.mkdir(mode=0o700)
    rig = Rig(directory)
    env = {
        "LD_PRELOAD": str(library),
        "RECORD_DIR": str(store),
        "RECORD_LOG": str(log),
        "PYTHONPATH": str(CHECKOUT),
    }
    program = [sys.executable, "-P", "-m", "tests.reliability.power.mutant", mutant] if mutant else [FARM]
    try:
        running = rig.background([*program, "server", "--listen", "127.0.0.1:0", "--store", str(store), *OPTIONS], env)
        running.wait_for("store: ")
        address = running.err().partition(" listening on ")[2].split()[0]
        Load(lambda: connect(address), jobs, seed).run()
        running.kill()
    finally:
        rig.end()
    _must_be_complete(store, log)
    return log


def _must_be_complete(store: Path, log: Path) -> None:
    """The records tell everything: doing them again gives the same files to the last byte."""
    disk = Disk()
    for op in read_log(log):
        if op.kind not in "A<>":
            disk.do(op)
    found = {name: content for name, content in disk.now().items() if name.startswith(b"jobs.db")}
    there = {os.fsencode(path.name): path.read_bytes() for path in store.iterdir() if path.name.startswith("jobs.db")}
    there.pop(b"jobs.db-shm", None)
    assert found.keys() == there.keys()
    for name, content in there.items():
        assert found[name] == content, f"the recorder has missed something of {name!r}"
