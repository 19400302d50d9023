"""R12: the clocks that nobody sets. Monotonic time begins anew with each boot, and does not count while a machine is
suspended; boot time counts that too. Nothing that farm keeps may hang on where they stand, and a time in which the
server did not run must not be held against anybody.

A time namespace gives a process such clocks of its own, with any beginning; they cannot be moved while it runs. To a
server that runs, a suspend is a wall clock that was set forward beside a true monotonic one: that is test_clock.py.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from farm.protocol import packets as p
from tests.cli.rig import FARM
from tests.interop.ends import lack, need
from tests.reliability.conftest import Start
from tests.reliability.daemon import Daemon
from tests.reliability.test_clock import SLACK_S, START_MAX_S, grab, sleeps
from tests.support import PATIENCE_S, Wire, wait_until

pytestmark = pytest.mark.slow

DAY, YEAR = 86400, 365 * 86400
JUST_BOOTED_S = 5
WAIT_S = 6  # until a delayed job's time, and before a failed one is tried again

# (monotonic, boot time) of a machine, in seconds, in two lives of a server
LIVES = {
    "booted again": ((10 * YEAR, 10 * YEAR), (JUST_BOOTED_S, JUST_BOOTED_S)),
    "on an older machine": ((JUST_BOOTED_S, JUST_BOOTED_S), (10 * YEAR, 10 * YEAR)),
    "long suspended": ((DAY, DAY), (DAY, 10 * YEAR)),
}


def on_a_machine(monotonic_s: float, boot_s: float) -> tuple[str, ...]:
    """What to put before a command so that its clocks stand so. Skips where the system does not allow it."""
    need("unshare")
    now, boot = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    offsets = [f"--monotonic={int(monotonic_s - now)}", f"--boottime={int(boot_s - boot)}"]
    under = ("unshare", "--time", *offsets)
    code = "import time; print(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))"
    tried = subprocess.run([*under, "python3", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    if tried.returncode:  # not root, or a kernel without time namespaces: nothing that could be installed
        pytest.skip(f"no time namespace of the test's own: {tried.stderr.strip()}")
    found = [float(word) for word in tried.stdout.split()]
    if not all(abs(there - wanted) < SLACK_S for there, wanted in zip(found, (monotonic_s, boot_s), strict=True)):
        lack(f"unshare --time gives other clocks than were asked for: {found}")
    return under


def ask(client: Wire, verb: bytes, **request: object) -> dict[str, Any]:
    """The answer to a question."""
    client.send(p.FARM_ASK, verb, json.dumps(request).encode(), b"")
    number, body = client.packet()
    assert number == p.FARM_ANSWER, (number, body)
    found: dict[str, Any] = json.loads(body.partition(b"\0")[2])
    return found


def extended(client: Wire) -> None:
    """It may ask."""
    client.send(p.OPTION_REQ, b"farm-1")
    client.expect(p.OPTION_RES, b"farm-1")


def submit(client: Wire, function: bytes, terms: bytes, unique: bytes = b"") -> bytes:
    """A background job with terms; returns its handle."""
    client.send(p.FARM_SUBMIT, function, unique, b"background=1 " + terms, b"")
    number, handle = client.packet()
    assert number == p.JOB_CREATED, (number, handle)
    return handle


def two_lives(start: Start, first: tuple[float, float], second: tuple[float, float], mutant: str = "") -> None:
    """What waits in the one waits in the other, for as long as was left."""
    daemon = start(mutant=mutant, under=on_a_machine(*first))
    with daemon.connect() as client, daemon.connect() as worker:
        extended(client)
        begin = time.time()
        failing = submit(client, b"f", b"retries=1 backoff=%d" % WAIT_S)
        worker.send(p.CAN_DO, b"f")
        assert grab(worker) == failing
        worker.send(p.WORK_FAIL, failing)
        worker.expect_nothing()
        failed = time.time()
        due = int(failed) + WAIT_S
        queued, later = submit(client, b"f", b""), submit(client, b"f", b"at=%d" % due)
        held = submit(client, b"k", b"unique-for=%d" % (2 * WAIT_S), b"key")
        expiring = submit(client, b"k", b"expires=%d" % WAIT_S)
        wait_until(lambda: ask(client, b"job", id=failing.decode())["job"]["state"] == "delayed")
    daemon.kill()
    daemon.under = on_a_machine(*second)
    daemon.start()
    with daemon.connect() as client, daemon.connect() as worker:
        extended(client)
        worker.send(p.CAN_DO, b"f")
        assert grab(worker) == queued
        sleeps(worker)
        assert time.time() < due, "the machine is too slow to tell"
        job = ask(client, b"job", id=held.decode())["job"]
        assert begin - 1 <= job["created_at"] <= failed + SLACK_S
        assert submit(client, b"k", b"unique-for=1", b"key") == held
        came: dict[bytes, float] = {}
        while len(came) < 2:
            if handle := grab(worker):
                came[handle] = time.time()
            else:
                worker.send(p.PRE_SLEEP)
                worker.expect(p.NOOP)
        assert came.keys() == {failing, later}
        assert due <= came[later] <= due + START_MAX_S + SLACK_S
        assert failed + WAIT_S * 0.75 <= came[failing] <= failed + WAIT_S + START_MAX_S + SLACK_S
        wait_until(lambda: ask(client, b"job", id=expiring.decode())["job"]["state"] == "expired")
        assert failed + WAIT_S <= time.time() + 1 <= failed + WAIT_S + START_MAX_S + SLACK_S + 1


@pytest.mark.parametrize("lives", LIVES)
def test_no_life_takes_over_the_clock_of_the_one_before(start: Start, lives: str) -> None:
    two_lives(start, *LIVES[lives])


def test_ends_on_machines_of_different_age_agree(start: Start) -> None:
    """No time of such a clock goes over the wire: a client and a worker in a container have clocks of their own."""
    daemon = start(under=on_a_machine(JUST_BOOTED_S, JUST_BOOTED_S))
    old = on_a_machine(10 * YEAR, 10 * YEAR)
    where = ("--server", f"127.0.0.1:{daemon.port}")
    begin = time.monotonic()
    worker = subprocess.Popen(
        [*old, FARM, "work", *where, "--timeout", "30s", "f", "--", "cat"], stderr=subprocess.PIPE
    )
    try:
        done = subprocess.run(
            [FARM, "submit", *where, "--timeout", "30s", "f"], input=b"payload", capture_output=True, timeout=PATIENCE_S
        )
        assert (done.returncode, done.stdout) == (0, b"payload"), done.stderr
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0
    finally:
        worker.kill()
        worker.communicate()
    assert time.monotonic() - begin < PATIENCE_S


def frozen(start: Start, mutant: str = "") -> bool:
    """The server stands still for longer than a job may take, which its worker has ended meanwhile. Returns whether the
    end counts."""
    daemon: Daemon = start(mutant=mutant)
    with daemon.connect() as client, daemon.connect() as worker:
        extended(client)
        worker.send(p.CAN_DO_TIMEOUT, b"f", b"2000")
        handle = submit(client, b"f", b"")
        assert grab(worker) == handle
        daemon.send(signal.SIGSTOP)
        worker.send(p.WORK_COMPLETE, handle, b"")
        time.sleep(3)  # its clock goes on, and it does not
        daemon.send(signal.SIGCONT)
        worker.expect_nothing()
        return bool(ask(client, b"job", id=handle.decode())["job"]["state"] == "done")


def test_a_time_in_which_it_stood_still_is_held_against_nobody(start: Start) -> None:
    """What has come meanwhile is read before anybody is given up."""
    assert frozen(start)


def broken_base(start: Start) -> None:
    two_lives(start, *LIVES["on an older machine"], mutant="keeps-monotonic-times")


def broken_order(start: Start) -> None:
    assert frozen(start, "looks-at-the-time-first")


@pytest.mark.parametrize("test", [broken_base, broken_order], ids=["keeps-monotonic-times", "looks-at-the-time-first"])
def test_a_broken_server_is_noticed(start: Start, test: Callable[[Start], None]) -> None:
    with pytest.raises(AssertionError):
        test(start)
