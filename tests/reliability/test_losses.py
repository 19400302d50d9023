"""The jobs that gearmand loses (RELIABILITY.md, rows A to G and M), with a durable store and kill -9.

Each was seen with gearmand 1.1.20 and its SQLite queue. Row I, the full disk, is R4, a test of its own;
what a server without a store can show of the other rows is in tests/interop/test_gearmand_losses.py.
"""

from __future__ import annotations

from farm.protocol import packets as p
from farm.store.sqlite import SqliteStore
from tests.reliability.daemon import Daemon
from tests.support import Wire, wait_until

BACKGROUND = p.SUBMIT_JOB_BG


def id_of(handle: bytes) -> int:
    """What the store calls the job: WIRE.md."""
    _, shard, sequence = handle.split(b":")
    return int(shard, 16) << 40 | int(sequence)


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


def test_loss_a_background_jobs_without_a_key(daemon: Daemon) -> None:
    """gearmand stored one of ten: its key in the table was the empty string."""
    with daemon.connect() as client:
        jobs = [(client.submit(b"f", b"%d" % number, number=BACKGROUND), b"%d" % number) for number in range(10)]
    daemon.restart()
    assert do_all(daemon) == jobs
    daemon.restart()
    assert do_all(daemon) == []


def test_loss_b_a_foreground_client_joins_and_leaves(daemon: Daemon) -> None:
    """gearmand gave the background job up together with the client."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"kept", b"key", BACKGROUND)
        with daemon.connect() as other:
            assert other.submit(b"f", b"", b"key") == handle
        wait_until(lambda: len(client.listing(b"workers")) == 1, what="the foreground client has left")
        assert queued(client)[1] == b"1"
    daemon.restart()
    assert do_all(daemon) == [(handle, b"kept")]


def test_loss_c_a_background_job_joins_a_foreground_one_whose_client_leaves(daemon: Daemon) -> None:
    """gearmand acknowledged it, never stored it, and forgot it when the client left."""
    with daemon.connect() as client:
        with daemon.connect() as first:
            handle = first.submit(b"f", b"kept", b"key")
            assert client.submit(b"f", b"", b"key", BACKGROUND) == handle
        wait_until(lambda: len(client.listing(b"workers")) == 1, what="the foreground client has left")
    assert do_all(daemon) == [(handle, b"kept")]


def test_loss_d_a_background_job_joins_a_foreground_one_and_the_server_dies(daemon: Daemon) -> None:
    """gearmand had nothing of it in its table."""
    with daemon.connect() as client, daemon.connect() as first:
        handle = first.submit(b"f", b"kept", b"key")
        alone = first.submit(b"f", b"nobody waits for it any more")
        assert client.submit(b"f", b"", b"key", BACKGROUND) == handle != alone
        daemon.restart()
    assert do_all(daemon) == [(handle, b"kept")]


def test_loss_d_also_when_it_runs_already(daemon: Daemon) -> None:
    """Stored from the middle of its life on."""
    with daemon.connect() as client, daemon.connect() as first, worker(daemon) as wire:
        handle = first.submit(b"f", b"kept", b"key")
        wire.grab()
        assert client.submit(b"f", b"", b"key", BACKGROUND) == handle
        daemon.restart()
    assert do_all(daemon) == [(handle, b"kept")]


def test_loss_e_handles_are_never_used_again(daemon: Daemon) -> None:
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


def test_loss_f_a_job_that_its_workers_die_of(daemon: Daemon) -> None:
    """gearmand gave it out 50 of 50 times and counted nothing. So does farm yet, but it counts, in this life of the
    server: `show jobs`. A limit comes with retries; until then --job-retries of `farm gearmand` sets one."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"poison", number=BACKGROUND)
        for losses in range(1, 6):
            with worker(daemon) as wire:
                assert wire.grab() == b"\0".join((handle, b"f", b"poison"))
            row = b"%s\t%d\t0\t1\n" % (handle, losses)
            wait_until(lambda row=row: client.listing(b"show jobs") == [row], what=f"loss {losses} is counted")
        with worker(daemon) as wire:
            wire.grab()
            daemon.restart()
    assert do_all(daemon) == [(handle, b"poison")]


def test_loss_g_a_background_job_that_fails_leaves_a_trace(daemon: Daemon) -> None:
    """gearmand deleted its row, and nobody ever heard of it."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"input", number=BACKGROUND)
    with worker(daemon) as wire:
        wire.send(p.SET_CLIENT_ID, b"w1")
        wire.grab()
        wire.send(p.WORK_DATA, handle, b"so far")
        wire.send(p.WORK_WARNING, handle, b"no such animal\n")
        wire.send(p.WORK_WARNING, handle, b"farm: exit 3\n")
        wire.send(p.WORK_FAIL, handle)
        wire.expect_nothing()
    daemon.restart()
    assert do_all(daemon) == []
    daemon.stop()
    store = SqliteStore(str(daemon.store))
    store.open()
    end = store.ended(id_of(handle))
    store.close()
    assert end is not None
    assert (end.outcome, end.exit_code, end.worker) == ("failed", 3, b"w1")
    assert (end.result, end.log) == (b"so far", b"no such animal\n")
    assert 0 < end.started <= end.ended


def test_loss_m_a_function_with_stored_jobs_cannot_be_dropped(daemon: Daemon) -> None:
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
