"""What gearmand loses, with a durable store and kill -9: the rows A to G and M of farm/docs/gearmand.md, and its bugs
that only a restart shows.

Each was seen with gearmand 1.1.20 and its SQLite queue. I, the full disk, is in test_disk.py; what one life of a server
shows is in tests/interop/test_gearmand_losses.py.
"""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable

import pytest

from farm.errors import EXIT_CANNOT_CREATE
from farm.protocol import packets as p
from tests.reliability.conftest import Start
from tests.reliability.daemon import Daemon
from tests.support import CHECKOUT, PATIENCE_S, Wire, req, wait_until

BACKGROUND = p.SUBMIT_JOB_BG


def worker(daemon: Daemon, function: bytes = b"f") -> Wire:
    """One that can do it, and gets the answer to an echo only once all before is durable."""
    wire = daemon.connect()
    wire.send(p.OPTION_REQ, b"farm-sync")
    wire.expect(p.OPTION_RES, b"farm-sync")
    wire.send(p.CAN_DO, function)
    return wire


def do_all(daemon: Daemon) -> list[tuple[bytes, bytes]]:
    """Do every job that is queued, durably; returns (handle, payload) of each."""
    done = []
    with worker(daemon) as wire:
        while body := wire.grab():
            handle, _, payload = body.split(b"\0", 2)
            done.append((handle, payload))
            wire.send(p.WORK_COMPLETE, handle, b"")
        wire.expect_nothing()
    return done


def queued(wire: Wire, function: bytes = b"f") -> list[bytes]:
    """Its line of `status`, in words: name, all, running, workers."""
    return next((row.split(b"\t") for row in wire.listing(b"status") if row.startswith(function + b"\t")), [])


def left(wire: Wire) -> None:
    """Wait until this connection is the only one: the server knows that the others have left."""
    wait_until(lambda: len(wire.listing(b"workers")) == 1, what="the others have left")


def export(daemon: Daemon, *options: str) -> list[dict[str, object]]:
    """What `farm store export` prints of the store, while the server runs."""
    command = [str(CHECKOUT / "bin" / "farm"), "store", "export", *options, str(daemon.store)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def slow(start: Start) -> Daemon:
    """A server whose commits take a while: what it says too early is lost with it."""
    return start(mutant="slow-disk")


@pytest.mark.parametrize("unique", [b"", b"-"])
def test_loss_A_bug_4_jobs_without_a_key_are_jobs_of_their_own(daemon: Daemon, unique: bytes) -> None:
    """gearmand stored one of ten: its key in the table was the empty string, or `-`."""
    with daemon.connect() as client:
        jobs = [(client.submit(b"f", b"%d" % number, unique, BACKGROUND), b"%d" % number) for number in range(10)]
    daemon.restart()
    assert do_all(daemon) == jobs
    daemon.restart()
    assert do_all(daemon) == []


@pytest.mark.parametrize("killed", [False, True])
def test_loss_B_bug_1_a_foreground_client_joins_and_leaves(daemon: Daemon, killed: bool) -> None:
    """gearmand gave the background job up together with the client."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"kept", b"key", BACKGROUND)
        with daemon.connect() as other:
            assert other.submit(b"f", b"", b"key") == handle
        left(client)
        assert queued(client)[1] == b"1"
    if killed:
        daemon.restart()
    assert do_all(daemon) == [(handle, b"kept")]


@pytest.mark.parametrize("killed", [False, True])
def test_loss_C_bug_1_a_background_job_joins_a_foreground_one_whose_client_leaves(daemon: Daemon, killed: bool) -> None:
    """gearmand acknowledged it, never stored it, and forgot it when the client left."""
    with daemon.connect() as client:
        with daemon.connect() as first:
            handle = first.submit(b"f", b"kept", b"key")
            assert client.submit(b"f", b"", b"key", BACKGROUND) == handle
        left(client)
        assert queued(client)[1] == b"1"
    if killed:
        daemon.restart()
    assert do_all(daemon) == [(handle, b"kept")]


def test_loss_D_a_background_job_joins_a_foreground_one_and_the_server_dies(slow: Daemon) -> None:
    """gearmand had nothing of it in its table."""
    with slow.connect() as client, slow.connect() as first:
        handle = first.submit(b"f", b"kept", b"key")
        alone = first.submit(b"f", b"nobody waits for it any more")
        assert client.submit(b"f", b"", b"key", BACKGROUND) == handle != alone
        slow.restart()
    assert do_all(slow) == [(handle, b"kept")]


def test_loss_D_also_when_it_runs_already(slow: Daemon) -> None:
    """Stored from the middle of its life on."""
    with slow.connect() as client, slow.connect() as first, worker(slow) as wire:
        handle = first.submit(b"f", b"kept", b"key")
        assert wire.grab()
        assert client.submit(b"f", b"", b"key", BACKGROUND) == handle
        slow.restart()
    assert do_all(slow) == [(handle, b"kept")]


def test_who_joins_a_job_that_is_being_stored_waits_too(slow: Daemon) -> None:
    """Two background submissions of one key: whichever is answered first, the job is on disk."""
    with slow.connect() as client, slow.connect() as other:
        client.send(BACKGROUND, b"f", b"key", b"kept")
        handle = other.submit(b"f", b"kept", b"key", BACKGROUND)
        slow.restart()
    assert do_all(slow) == [(handle, b"kept")]


def test_loss_E_bug_18_handles_are_never_used_again(daemon: Daemon) -> None:
    """gearmand counts from 1 in every life: an old handle named another job. Here a job keeps its handle."""
    seen: set[bytes] = set()
    left: list[tuple[bytes, bytes]] = []
    for life in range(4):
        assert do_all(daemon) == left
        with daemon.connect() as client:
            for handle in seen:  # all of them have ended, or went with the server
                client.send(p.GET_STATUS, handle)
                client.expect(p.STATUS_RES, handle, b"0", b"0", b"0", b"0")
            background, foreground = client.submit(b"f", b"%d" % life, number=BACKGROUND), client.submit(b"g")
        assert background != foreground
        assert seen.isdisjoint({background, foreground})
        seen |= {background, foreground}
        left = [(background, b"%d" % life)]
        daemon.restart()


def test_loss_F_the_losses_of_a_job_that_its_workers_die_of_are_counted(daemon: Daemon) -> None:
    """gearmand gave it out 50 of 50 times. So does farm, but it shows how often, in this life of the server: `show
    jobs`. `farm gearmand -j` sets a limit."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"poison", number=BACKGROUND)
        for losses in range(1, 6):
            with worker(daemon) as wire:
                assert wire.grab() == b"\0".join((handle, b"f", b"poison"))
            left(client)
            assert client.listing(b"show jobs") == [b"%s\t%d\t0\t1\n" % (handle, losses)]
        with worker(daemon) as wire:
            assert wire.grab()
            daemon.restart()
    assert do_all(daemon) == [(handle, b"poison")]


def test_loss_G_a_background_job_that_failed_is_kept(daemon: Daemon) -> None:
    """gearmand deleted its row, and nobody ever heard of it. Here what it was given, said and exited with can be seen,
    and it does not run again."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"input", number=BACKGROUND)
    with worker(daemon) as wire:
        wire.send(p.SET_CLIENT_ID, b"w1")
        assert wire.grab()
        wire.send(p.WORK_DATA, handle, b"so far")
        wire.send(p.WORK_WARNING, handle, b"no such animal\n")
        wire.send(p.WORK_WARNING, handle, b"farm: exit 3\n")
        wire.send(p.WORK_FAIL, handle)
        wire.expect_nothing()
    daemon.restart()
    assert do_all(daemon) == []
    assert export(daemon) == []
    (end,) = export(daemon, "--ended")
    times = [end.pop(name) for name in ("created", "started", "ended")]
    assert times == sorted(times) and times[0] > 0
    assert end == {
        "schema": "farm.store/1",
        "handle": handle.decode(),
        "function": "f",
        "unique": "",
        "priority": "normal",
        "outcome": "failed",
        "worker": "w1",
        "exit_code": 3,
        "cut": False,
        "reason": "exit 3",
        "failures": 1,
        "result": "so far",
        "log": "no such animal\n",
        "payload": "input",
    }


def test_loss_M_bug_16_a_function_with_jobs_is_not_dropped(daemon: Daemon) -> None:
    """gearmand said OK; the jobs were gone from memory and came back with the next start."""
    with daemon.connect() as client:
        jobs = [(client.submit(b"f", b"%d" % number, number=BACKGROUND), b"%d" % number) for number in range(3)]
        client.raw(b"drop function f\n")
        assert client.line() == b"ERR there are still connected workers or executing clients\r\n"
        assert queued(client)[1] == b"3"
    daemon.restart()
    assert do_all(daemon) == jobs
    with daemon.connect() as client:
        wait_until(lambda: queued(client)[3] == b"0\n", what="the worker has left")
        client.raw(b"drop function f\n")
        assert client.line() == b"OK\r\n"
    daemon.restart()
    assert do_all(daemon) == []


@pytest.mark.parametrize("unique", [b"", b"key"])
def test_bug_5_a_job_without_a_payload_is_a_job(daemon: Daemon, unique: bytes) -> None:
    """gearmand took it, and could not start again with it in its store."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"", unique, BACKGROUND)
    daemon.restart()
    assert do_all(daemon) == [(handle, b"")]
    daemon.restart()
    assert do_all(daemon) == []


def test_bug_24_a_server_whose_store_fails_at_the_end_of_a_job_leaves(daemon: Daemon) -> None:
    """gearmand told nobody, and kept the job as a running one for ever. Here the end does not count, and is not
    confirmed; the job runs once more, at a server whose store works, and then never again."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"x", number=BACKGROUND)
    # Its log on disk can grow no further; what it has to say on stderr is shorter.
    size = (daemon.store / "jobs.db-wal").stat().st_size
    assert size > len(daemon.log()) + 4096
    with worker(daemon) as wire:
        assert wire.grab()
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        # At once, for what a server that leaves has not read would reset the connection.
        wire.raw(req(p.WORK_COMPLETE, handle, b"result") + req(p.ECHO_REQ, b"durable?"))
        wire.expect_error(b"QUEUE_ERROR")
        wire.expect_end()
    assert daemon.process.wait(PATIENCE_S) == EXIT_CANNOT_CREATE
    assert "farm: error: " in daemon.log()
    daemon.start()
    assert do_all(daemon) == [(handle, b"x")]
    daemon.restart()
    assert do_all(daemon) == []


@pytest.mark.parametrize(
    ("mutant", "test"),
    [
        ("empty-key-is-a-key", lambda daemon: test_loss_A_bug_4_jobs_without_a_key_are_jobs_of_their_own(daemon, b"")),
        ("never-commits", lambda daemon: test_loss_B_bug_1_a_foreground_client_joins_and_leaves(daemon, True)),
        (
            "joining-is-not-stored",
            lambda daemon: test_loss_C_bug_1_a_background_job_joins_a_foreground_one_whose_client_leaves(daemon, True),
        ),
        ("joining-is-not-stored", test_loss_D_a_background_job_joins_a_foreground_one_and_the_server_dies),
        ("joining-is-not-stored", test_loss_D_also_when_it_runs_already),
        ("handles-start-again", test_loss_E_bug_18_handles_are_never_used_again),
        ("counts-no-losses", test_loss_F_the_losses_of_a_job_that_its_workers_die_of_are_counted),
        ("never-forgets", test_loss_G_a_background_job_that_failed_is_kept),
        ("drops-functions-with-jobs", test_loss_M_bug_16_a_function_with_jobs_is_not_dropped),
    ],
)
def test_a_broken_server_is_noticed(start: Start, mutant: str, test: Callable[[Daemon], None]) -> None:
    with pytest.raises(AssertionError, match=r"^assert (\[|False|b')"):  # of the test's own, not of the daemon's
        test(start(mutant=mutant))
