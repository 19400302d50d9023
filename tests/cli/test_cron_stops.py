"""Cron entries and a command that does not mind TERM, with a real server, which is told what its clock shows, and real
workers: the next run does not begin beside it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from tests.cli.rig import Rig
from tests.support import CHECKOUT, wait_until

# The first one that runs ignores TERM (what is ignored stays so), the others say whether they run beside it: a worker
# reaps its command before it reports, so a process of its number is that command.
SCRIPT = b"""
if mkdir first 2> /dev/null; then trap '' TERM; echo $$ > pid; exec sleep 600; fi
if kill -0 $(cat pid) 2> /dev/null; then echo beside; else echo alone; fi
"""

# A server whose wall clock is the real one and what the file `clock` says; with a word more, it waits for no command.
SERVER = """
import pathlib, sys, time
real = time.time
time.time = lambda: real() + float(pathlib.Path("clock").read_text())
from farm.broker import stops
from farm.cli.main import main
if sys.argv.pop(1) == "hasty":
    stops.begin = lambda *_: None
main()
"""
BEFORE_S = 0.5  # of a minute: a worker kills its command after five seconds


class Clocked:
    """A server with an entry, whose times come when the test says so; and two workers, so that one is free."""

    def __init__(self, rig: Rig, kind: str, overlap: str) -> None:
        self.rig = rig
        self.show(30.0)
        argv = [sys.executable, "-P", "-c", SERVER, kind, "server", "--listen", "127.0.0.1:0"]
        rig.env["FARM_SERVER"] = rig.server_of(argv, {"PYTHONPATH": str(CHECKOUT)}).address
        rig.worker("f", "-j", "2", "--", "sh", count=2)
        self.run("add", "* * * * *", "f", "--overlap", overlap, "--zone", "UTC", stdin=SCRIPT)
        self.first = self.run("run", "f").decode().strip()
        rig.wait_file("pid")

    def run(self, *argv: str, stdin: bytes = b"") -> bytes:
        """`farm cron ...`, which must succeed."""
        done = self.rig.run("cron", *argv, stdin=stdin)
        assert (done.status, done.err) == (0, "")
        return done.out

    def show(self, second: float) -> None:
        """The server's clock shows this second of its minute."""
        path = self.rig.home / "clock"
        ahead = time.time() + (float(path.read_text()) if path.exists() else 0.0)
        offset = ahead - ahead % 60 + second - time.time()
        self.rig.write("clock.new", repr(offset))
        (self.rig.home / "clock.new").rename(path)

    def next(self) -> str:
        """The handle of the job of the next minute, which comes at once."""
        self.show(60.0 - BEFORE_S)
        wait_until(lambda: self.runs()[0]["id"] != self.first, what="the next run")
        return str(self.runs()[0]["id"])

    def runs(self) -> list[dict[str, Any]]:
        (entry,) = json.loads(self.run("show", "f", "--json"))["entries"]
        return list(entry["last"])

    def said(self, handle: str) -> bytes:
        """What the job has written, when it has ended well."""
        assert self.rig.run("wait", handle).status == 0
        return self.rig.run("result", handle).out

    def is_waited_for(self, handle: str) -> bool:
        """Whether it is said of this job that it waits for the command of the first."""
        told = self.rig.run("explain", handle).out.decode()
        return f"it waits for {self.first}: its command is still being stopped on worker " in told


def test_the_next_run_replaces_it_when_it_is_gone(lone_rig: Rig) -> None:
    clocked = Clocked(lone_rig, "", "replace")
    second = clocked.next()
    assert clocked.is_waited_for(second)
    shown = lone_rig.run("show", clocked.first).out.decode()
    assert "cancelled: replaced by the next run of cron entry f" in shown, "its end is told at once"
    assert clocked.said(second) == b"alone\n"


def test_the_next_run_in_the_queue_begins_when_it_is_gone(lone_rig: Rig) -> None:
    clocked = Clocked(lone_rig, "", "queue")
    assert lone_rig.run("cancel", clocked.first).out.decode() == f"{clocked.first}\ttold\n"
    second = clocked.next()
    assert clocked.is_waited_for(second)
    assert clocked.said(second) == b"alone\n"


@pytest.mark.parametrize("overlap", ["replace", "queue"])
def test_a_server_that_does_not_wait_is_noticed(lone_rig: Rig, overlap: str) -> None:
    clocked = Clocked(lone_rig, "hasty", overlap)
    if overlap == "queue":
        lone_rig.run("cancel", clocked.first)
    assert clocked.said(clocked.next()) == b"beside\n"
