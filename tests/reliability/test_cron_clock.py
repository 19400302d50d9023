"""Cron at a real server whose clock is set: both nights of daylight saving, and a clock that is wrong by years.

As in test_clock.py, libfaketime gives the server a wall clock of its own. The rules themselves are tried with a clock
that is turned by hand in tests/unit/test_crons.py; here it is the server that has to look at it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from farm.protocol import packets as p
from tests.reliability.conftest import Start
from tests.reliability.test_clock import SLACK_S, YEAR, Clocked, status
from tests.support import Wire, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

BERLIN = ZoneInfo("Europe/Berlin")
BEFORE_S = 3  # of a time: so long the tests have to prepare


class Cron:
    """A client of a clocked server that asks about its entries."""

    def __init__(self, clocked: Clocked, wire: Wire) -> None:
        self.clocked = clocked
        self._wire = wire
        wire.send(p.OPTION_REQ, b"farm-1")
        wire.expect(p.OPTION_RES, b"farm-1")

    def set(self, text: str, fold: int = 0) -> None:
        """The server's clock is to show this time of Berlin, in BEFORE_S seconds."""
        wanted = datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()
        self.clocked.set(int(wanted - BEFORE_S - time.time()))

    def ask(self, verb: str, **asked: object) -> Any:
        """The answer, as an object."""
        self._wire.send(p.FARM_ASK, verb.encode(), json.dumps(asked).encode(), b"")
        number, body = self._wire.packet()
        assert number == p.FARM_ANSWER, body
        return json.loads(body.partition(b"\0")[2])

    def add(self, name: str, line: str, **more: object) -> None:
        """An entry in Berlin, of which several may live."""
        fields = {"function": "f", "zone": "Europe/Berlin", "overlap": "queue", **more}
        self.ask("cron add", name=name, line=line, **fields)

    def ran(self, name: str) -> list[str]:
        """When its jobs were for, by the clocks of Berlin, oldest first."""
        (entry,) = [entry for entry in self.ask("cron")["entries"] if entry["name"] == name]
        times = [datetime.fromtimestamp(run["at"], BERLIN) for run in reversed(entry["last"]) if run["id"]]
        return [time.isoformat(" ", "minutes") for time in times]

    def wait_for(self, name: str, *wanted: str) -> None:
        """Until it ran at these times, and at no others."""
        wait_until(lambda: self.ran(name) == list(wanted), BEFORE_S + SLACK_S + 5, what=f"{name} has run {wanted}")


@pytest.fixture
def cron(start: Start, tmp_path: Path) -> Iterator[Cron]:
    clocked = Clocked(start, tmp_path, "", "--store", "memory")
    with clocked.daemon.connect() as wire:
        yield Cron(clocked, wire)


def test_the_hour_that_is_skipped(cron: Cron) -> None:
    cron.set("2026-03-29 03:00")
    cron.add("nightly", "30 2 * * *")
    cron.add("often", "*/15 * * * *")
    cron.wait_for("nightly", "2026-03-29 03:00+02:00")
    cron.wait_for("often", "2026-03-29 03:00+02:00")


def test_the_hour_that_comes_twice(cron: Cron) -> None:
    cron.set("2026-10-25 02:30")
    cron.add("nightly", "30 2 * * *")
    cron.add("hourly", "30 * * * *")
    cron.wait_for("nightly", "2026-10-25 02:30+02:00")
    cron.set("2026-10-25 02:30", fold=1)
    cron.wait_for("hourly", "2026-10-25 02:30+02:00", "2026-10-25 02:30+01:00")
    assert cron.ran("nightly") == ["2026-10-25 02:30+02:00"]


def test_set_back_it_runs_nothing_again(cron: Cron) -> None:
    cron.set("2026-06-01 12:00")
    cron.add("hourly", "0 * * * *")
    cron.wait_for("hourly", "2026-06-01 12:00+02:00")
    cron.set("2026-06-01 12:00")
    time.sleep(BEFORE_S + 2)
    assert cron.ran("hourly") == ["2026-06-01 12:00+02:00"]
    cron.set("2026-06-01 13:00")
    cron.wait_for("hourly", "2026-06-01 12:00+02:00", "2026-06-01 13:00+02:00")


def test_set_forward_what_was_missed_is_made_up_for(cron: Cron) -> None:
    """Nobody comes and nothing else is due: the server looks at its clock by itself."""
    cron.set("2026-06-01 12:30")
    cron.add("none", "0 * * * *")
    cron.add("last", "0 * * * *", catch_up="last")
    cron.add("all", "0 * * * *", catch_up="all")
    cron.set("2026-06-01 15:10")
    cron.wait_for("last", "2026-06-01 15:00+02:00")
    cron.wait_for("all", *(f"2026-06-01 {hour}:00+02:00" for hour in (13, 14, 15)))
    assert cron.ran("none") == []


def test_wrong_by_ten_years_and_set_right(cron: Cron) -> None:
    cron.clocked.set(10 * YEAR)
    cron.add("hourly", "0 * * * *")
    cron.set("2026-06-01 12:00")
    cron.wait_for("hourly", "2026-06-01 12:00+02:00")


def test_killed_at_the_very_minute(start: Start, tmp_path: Path) -> None:
    """Again and again, a little before the time and a little after it: each time runs once, whatever the disk has of
    it, and the entry is there with its payload."""
    clocked = Clocked(start, tmp_path)
    daemon = clocked.daemon
    hours = range(12, 18)
    for hour in hours:
        with daemon.connect() as wire:
            cron = Cron(clocked, wire)
            cron.set(f"2026-06-01 {hour}:00")
            if hour == hours[0]:  # "all": on a busy machine the clock may go on before a new life has looked at it
                cron.add("hourly", "0 * * * *", catch_up="all")
        time.sleep(BEFORE_S - 0.3 + 0.1 * (hour - hours[0]))
        daemon.restart()
    with daemon.connect() as wire:
        cron = Cron(clocked, wire)
        cron.wait_for("hourly", *(f"2026-06-01 {hour}:00+02:00" for hour in hours))
        assert status(wire)[1] == b"%d" % len(hours)
