"""What gearmand 1.1.20 loses and gets wrong, as one life of farm's server shows it: tests called by its number.

Losses A to N were found by killing and starving gearmand, bugs 1 to 25 by reading and trying it. All of them are listed
in `farm/docs/gearmand.md`, with their tests: here, and where a server is killed or its disk is full, in
tests/reliability.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farm.protocol import packets as p
from tests.cli.rig import FARM, Rig, ServerRunning
from tests.support import Wire, req, wait_until

MIB = 1 << 20
GROWTH_MAX = 16 * MIB  # of the server's memory, whatever a peer does; gearmand's grew by hundreds


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerRunning]:
    """One server for all tests that can share it; it must still be well at the end."""
    rig = Rig(tmp_path_factory.mktemp("losses"))
    server = rig.server()
    yield server
    assert server.terminate().status == 0
    rig.end()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """For servers of a test's own."""
    rig = Rig(tmp_path)
    yield rig
    rig.end()


class Desk:
    """Connections to one server, and a function that nobody else uses."""

    def __init__(self, server: ServerRunning, function: bytes) -> None:
        self.server = server
        self.function = function
        self._stack = ExitStack()

    def wire(self) -> Wire:
        """A new connection."""
        return self._stack.enter_context(self.server.connect())

    def worker(self, *options: bytes) -> Wire:
        """One that can do the function."""
        worker = self.wire()
        for option in options:
            worker.send(p.OPTION_REQ, option)
            worker.expect(p.OPTION_RES, option)
        worker.send(p.CAN_DO, self.function)
        worker.expect_nothing()
        return worker

    def submit(self, payload: bytes, unique: bytes = b"", number: int = p.SUBMIT_JOB) -> tuple[Wire, bytes]:
        """A client with a job of it, and the handle."""
        client = self.wire()
        return client, client.submit(self.function, payload, unique, number)

    def leave(self, wire: Wire) -> None:
        """Close a connection; the server has noticed when this returns."""
        admin = self.wire()
        before = len(admin.listing(b"workers"))
        wire.close()
        wait_until(lambda: len(admin.listing(b"workers")) < before, what="the server notices")

    def ask(self, line: bytes) -> bytes:
        """The answer to an admin command of one line."""
        wire = self.wire()
        wire.raw(line)
        return wire.line()

    def row(self) -> bytes:
        """The function's line of `status`, without its name."""
        rows = [row for row in self.wire().listing(b"status") if row.startswith(self.function + b"\t")]
        return rows[0].removeprefix(self.function).strip() if rows else b""

    def close(self) -> None:
        """Every connection."""
        self._stack.close()


@pytest.fixture
def desk(shared: ServerRunning, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """At the shared server."""
    desk = Desk(shared, request.node.name.split("[")[0].encode())
    yield desk
    desk.close()


def memory(server: ServerRunning, which: str = "VmRSS") -> int:
    """Bytes of the server's memory."""
    line = next(line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if which in line)
    return int(line.split()[1]) * 1024


# -- jobs that gearmand loses


def test_loss_E_bug_18_handles_never_repeat_without_a_store_either(rig: Rig) -> None:
    """gearmand counts from 1 again, and an old handle is another job's. Here nothing remembers the earlier lives."""
    old: set[bytes] = set()
    address = "127.0.0.1:0"
    for _ in range(3):
        server = rig.server("--listen", address)
        address = server.address
        with server.connect() as wire:
            new = {wire.submit(b"f", number=p.SUBMIT_JOB_BG) for _ in range(3)}
            assert not new & old
            old |= new
        server.kill()
    assert len(old) == 9


def test_loss_F_a_job_that_takes_its_workers_along_fails_in_the_end(rig: Rig) -> None:
    """With a limit; gearmand's -j means the same, and neither has one by default."""
    server = rig.background([FARM, "gearmand", "-L", "127.0.0.1", "-p", "0", "-j", "3", "--verbose", "NOTICE"])
    server.wait_for("store: ")
    host, _, port = server.err().partition(" listening on ")[2].split()[0].rpartition(":")
    where = (host, int(port))
    with Wire(where) as client:
        handle = client.submit(b"f", b"poison")
        for _ in range(3):
            with Wire(where) as worker:
                worker.send(p.CAN_DO, b"f")
                assert wait_for_job(worker).startswith(handle)
        client.expect(p.WORK_FAIL, handle)
        with Wire(where) as worker:
            worker.send(p.CAN_DO, b"f")
            assert worker.grab() == b""


def wait_for_job(worker: Wire) -> bytes:
    """A job that comes back from a worker that has just left."""
    found: list[bytes] = []
    wait_until(lambda: (job := worker.grab()) and (found.append(job) or True), what="the job comes back")  # type: ignore[func-returns-value]
    return found[0]


# -- memory and patience


def test_loss_H_bug_10_a_header_that_claims_4_gib_gets_nothing(rig: Rig) -> None:
    """gearmand reserves it, once for each connection."""
    server = rig.server()
    with server.connect() as warm_up:
        warm_up.expect_nothing()
    before = memory(server, "VmSize")
    for _ in range(20):
        with server.connect() as wire:
            wire.raw(b"\0REQ\0\0\0\7\xff\xff\xff\xff")
            wire.expect_error(b"ARGUMENT_TOO_LARGE")
            wire.expect_end()
    assert memory(server, "VmSize") - before < GROWTH_MAX


def test_loss_J_output_that_nobody_reads_is_not_held(rig: Rig) -> None:
    """The worker is held up instead: 128 MiB do not fit into what the sockets and the server hold together."""
    server = rig.server()
    with server.connect() as worker, Wire(_where(server), receive_buffer=4096) as client:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = client.submit(b"f")
        assert worker.grab()
        before = memory(server)
        worker.sock.settimeout(1.0)  # it takes nothing more
        piece = req(p.WORK_DATA, handle, b"x" * MIB)
        with pytest.raises(TimeoutError):
            worker.sock.sendall(piece * 128)
        assert memory(server) - before < GROWTH_MAX
        with server.connect() as other:
            other.expect_nothing()


def test_loss_K_a_line_without_an_end_is_refused(desk: Desk) -> None:
    before = memory(desk.server)
    wire = desk.wire()
    wire.raw(b"x" * 400_000)
    assert wire.expect_error(b"INVALID_COMMAND") == b"Line too long"
    assert memory(desk.server) - before < GROWTH_MAX


def test_loss_L_connections_that_stop_in_half_a_header_are_closed(rig: Rig) -> None:
    """All of them, and others are served meanwhile."""
    server = rig.server("--stall", "1s")
    with ExitStack() as stack:
        half = [stack.enter_context(server.connect()) for _ in range(100)]
        for wire in half:
            wire.raw(b"\0REQ\0\0")
        with server.connect() as other:
            other.expect_nothing()
        for wire in half:
            wire.expect_error(b"INVALID_PACKET")
            wire.expect_end()
    with server.connect() as admin:
        wait_until(lambda: len(admin.listing(b"workers")) == 1, what="nobody else is there")


@pytest.mark.parametrize("options", ["--ssl", "--ssl-ca-file x", "--ssl-certificate x", "--ssl-key x"])
def test_loss_N_bug_13_what_was_to_be_encrypted_is_not_served_in_the_clear(rig: Rig, options: str) -> None:
    done = rig.run("gearmand", "-L", "127.0.0.1", *options.split())
    assert done.status == 64
    assert options.split()[0] in done.err
    assert "hint: " in done.err


# -- jobs that nobody wants any more


@pytest.mark.parametrize("end", ["leaves", "is cancelled"])
@pytest.mark.parametrize("running", [False, True])
def test_bug_2_a_job_with_the_key_of_one_that_nobody_wants_is_run(desk: Desk, end: str, running: bool) -> None:
    """gearmand attaches it to the dead one."""
    first, dead = desk.submit(b"first", b"u")
    worker = desk.worker()
    if running:
        assert worker.grab().startswith(dead)
    if end == "leaves":
        desk.leave(first)
    else:
        assert desk.ask(b"cancel job %s\n" % dead) == b"OK\r\n"
    second, handle = desk.submit(b"second", b"u")
    assert handle != dead
    assert worker.grab() == b"\0".join((handle, desk.function, b"second"))
    worker.send(p.WORK_COMPLETE, handle, b"result")
    second.expect(p.WORK_COMPLETE, handle, b"result")


@pytest.mark.parametrize("end", ["leaves", "is cancelled"])
def test_bug_3_a_queued_job_that_nobody_wants_is_gone(desk: Desk, end: str) -> None:
    """From every listing and from what counts against a limit, though no worker ever looks."""
    assert desk.ask(b"create function %s\n" % desk.function) == b"OK\r\n"
    assert desk.ask(b"maxqueue %s 1\n" % desk.function) == b"OK\r\n"
    client, handle = desk.submit(b"x", desk.function)
    if end == "leaves":
        desk.leave(client)
    else:
        assert desk.ask(b"cancel job %s\n" % handle) == b"OK\r\n"
        client.expect(p.WORK_FAIL, handle)
        assert desk.ask(b"cancel job %s\n" % handle) == b"ERR UNKNOWN_JOB\r\n"
    assert desk.row() == b"0\t0\t0"
    admin = desk.wire()
    assert not any(line.startswith(handle) for line in admin.listing(b"show jobs"))
    assert desk.function + b"\n" not in admin.listing(b"show unique jobs")
    admin.send(p.GET_STATUS, handle)
    admin.expect(p.STATUS_RES, handle, b"0", b"0", b"0", b"0")
    desk.submit(b"y")  # there is room


def test_bug_17_the_limit_counts_what_waits_and_runs_and_nothing_else(desk: Desk) -> None:
    """As in gearmand over all priorities and with running jobs, for clients set it so; but not what nobody wants."""
    assert desk.ask(b"create function %s\n" % desk.function) == b"OK\r\n"
    assert desk.ask(b"maxqueue %s 2\n" % desk.function) == b"OK\r\n"
    first, _ = desk.submit(b"1", number=p.SUBMIT_JOB_HIGH)
    worker = desk.worker()
    assert worker.grab()
    second, _ = desk.submit(b"2", number=p.SUBMIT_JOB_LOW)
    late = desk.wire()
    late.send(p.SUBMIT_JOB, desk.function, b"", b"3")
    late.expect(p.ERROR, b"QUEUE_ERROR", b"Job queue is full")
    desk.leave(second)
    third = late.submit(desk.function, b"3")
    desk.leave(first)  # its worker goes on with what nobody wants: that it still runs is true, and it counts
    late.send(p.SUBMIT_JOB, desk.function, b"", b"4")
    late.expect(p.ERROR, b"QUEUE_ERROR", b"Job queue is full")
    desk.leave(worker)
    late.submit(desk.function, b"4")
    assert desk.worker().grab().startswith(third)


def test_bug_19_a_worker_hears_that_nobody_waits_for_its_job(desk: Desk) -> None:
    """One that asked for farm's extension. A stock one is told nothing, and may end it in peace."""
    client, handle = desk.submit(b"x")
    stock_client, stock_handle = desk.submit(b"y")
    worker, stock = desk.worker(b"farm-1"), desk.worker()
    assert worker.grab().startswith(handle)
    assert stock.grab().startswith(stock_handle)
    desk.leave(client)
    worker.expect(p.FARM_JOB_CANCEL, handle)
    desk.leave(stock_client)
    stock.expect_nothing()
    stock.send(p.WORK_COMPLETE, stock_handle, b"late")
    stock.expect_nothing()


def test_bug_20_a_lost_worker_s_jobs_are_first_again_in_their_order(desk: Desk) -> None:
    client = desk.wire()
    handles = [client.submit(desk.function, b"%d" % n) for n in range(4)]
    lost = desk.worker()
    assert [lost.grab().split(b"\0")[0] for _ in range(3)] == handles[:3]
    desk.leave(lost)
    worker = desk.worker()
    assert [worker.grab().split(b"\0")[0] for _ in range(4)] == handles


# -- time


def test_bug_6_every_job_of_a_worker_has_its_own_time(desk: Desk) -> None:
    """gearmand has one timer for a connection: it forgets the second job, and counts 4294967295 running ones. What the
    late worker says is dropped."""
    worker, client = desk.wire(), desk.wire()
    worker.send(p.CAN_DO_TIMEOUT, desk.function, b"1000")
    first, second = client.submit(desk.function, b"1"), client.submit(desk.function, b"2")
    assert worker.grab().startswith(first)
    worker.send(p.WORK_COMPLETE, first, b"in time")
    client.expect(p.WORK_COMPLETE, first, b"in time")
    begin = time.monotonic()
    assert worker.grab().startswith(second)
    wait_until(lambda: desk.row() == b"1\t0\t1", what="the second job is queued again")
    assert time.monotonic() - begin > 0.9
    worker.send(p.WORK_DATA, second, b"late")
    worker.send(p.WORK_COMPLETE, second, b"late")
    worker.expect_nothing()  # gearmand's ERROR would end its loop
    client.expect_nothing()
    worker.send(p.WORK_COMPLETE, second, b"again")
    worker.expect_error(b"JOB_NOT_FOUND")  # it has reported the end of the attempt that was its own
    other = desk.worker()
    assert other.grab().startswith(second)
    other.send(p.WORK_COMPLETE, second, b"result")
    client.expect(p.WORK_COMPLETE, second, b"result")
    assert desk.row() == b"0\t0\t2"


def test_bug_7_a_job_for_later_wakes_a_worker_when_it_is_due_and_hides_none(desk: Desk) -> None:
    worker, client = desk.worker(), desk.wire()
    client.send(p.SUBMIT_JOB_EPOCH, desk.function, b"", b"%d" % (time.time() + 3600), b"much later")
    assert client.packet()[0] == p.JOB_CREATED
    low = client.submit(desk.function, b"low", number=p.SUBMIT_JOB_LOW)
    assert worker.grab().startswith(low)
    worker.send(p.WORK_COMPLETE, low, b"")
    client.expect(p.WORK_COMPLETE, low, b"")
    worker.send(p.PRE_SLEEP)
    worker.expect_nothing()  # else it would grab in vain, again and again
    client.send(p.SUBMIT_JOB_EPOCH, desk.function, b"", b"%d" % (time.time() + 2), b"soon")
    _, soon = client.packet()
    worker.expect_nothing()
    assert worker.packet() == (p.NOOP, b"")
    assert worker.grab().startswith(soon)


# -- bytes on the wire


def test_bug_8_bug_25_an_exception_is_a_plain_failure_to_who_did_not_ask(desk: Desk) -> None:
    """gearmand's WORK_FAIL ends in NUL, and libgearman's clients wait for ever. And a worker that says WORK_FAIL after
    its exception, as Perl's do, gets no ERROR, of which they die."""
    plain, asked = desk.wire(), desk.wire()
    asked.send(p.OPTION_REQ, b"exceptions")
    asked.expect(p.OPTION_RES, b"exceptions")
    handle = plain.submit(desk.function, b"x", b"u")
    assert asked.submit(desk.function, b"x", b"u") == handle
    worker = desk.worker()
    assert worker.grab()
    worker.send(p.WORK_EXCEPTION, handle, b"why")
    worker.send(p.WORK_FAIL, handle)
    worker.expect_nothing()
    plain.expect(p.WORK_FAIL, handle)
    asked.expect(p.WORK_EXCEPTION, handle, b"why")
    plain.expect_nothing()
    asked.expect_nothing()


def test_bug_9_the_key_of_a_reduce_job_has_a_limit(desk: Desk) -> None:
    """gearmand sends a worker what lies behind it in memory."""
    client = desk.wire()
    for size in (65, 300):
        client.send(p.SUBMIT_REDUCE_JOB, desk.function, b"u" * size, b"r", b"", b"x")
        client.expect(p.ERROR, b"ARGUMENT_TOO_LARGE", b"Unique value too large")
    client.send(p.SUBMIT_REDUCE_JOB, desk.function, b"u" * 64, b"r", b"", b"x")
    _, handle = client.packet()
    worker = desk.worker()
    worker.send(p.GRAB_JOB_ALL)
    worker.expect(p.JOB_ASSIGN_ALL, handle, desk.function, b"u" * 64, b"r", b"x")


def test_bug_11_a_short_packet_is_refused_and_eats_no_other(desk: Desk) -> None:
    wire = desk.wire()
    wire.raw(req(p.SUBMIT_JOB, desk.function, b"u") + req(p.ECHO_REQ, b"the next"))
    assert b"lacks arguments" in wire.expect_error(b"INVALID_PACKET")
    wire.expect_end()
    assert desk.row() in (b"", b"0\t0\t0")


def test_bug_12_a_key_of_64_bytes_is_kept_whole(desk: Desk) -> None:
    key = b"k" * 64
    client, handle = desk.submit(b"x", key, p.SUBMIT_JOB_BG)
    client.send(p.GET_STATUS_UNIQUE, key)
    client.expect(p.STATUS_RES_UNIQUE, key, b"1", b"0", b"0", b"0", b"0")
    assert key + b"\n" in desk.wire().listing(b"show unique jobs")
    worker = desk.worker()
    assert worker.grab(p.GRAB_JOB_UNIQ) == b"\0".join((handle, desk.function, key, b"x"))


def test_bug_14_a_client_s_name_cannot_forge_a_line(desk: Desk) -> None:
    wire, admin = desk.wire(), desk.wire()
    before = len(admin.listing(b"workers"))
    wire.send(p.SET_CLIENT_ID, b"me : f\n99 10.0.0.1 you : g\n.\n")
    wire.expect_nothing()
    lines = admin.listing(b"workers")
    assert len(lines) == before
    assert sum(b"99\\x2010.0.0.1" in line for line in lines) == 1


def test_bug_15_admin_lines_are_read_whole(desk: Desk) -> None:
    """A name before a bare LF keeps its last letter, six words do not close. What programs parse stays as it is."""
    wire = desk.wire()
    for end in (b"\n", b"\r\n"):
        name = b"%s-%d" % (desk.function, len(end))
        wire.raw(b"create function " + name + end)
        assert wire.line() == b"OK\r\n"
        assert name + b"\t0\t0\t0\n" in wire.listing(b"status")
    wire.raw(b"maxqueue %s 1 2 3 4\n" % desk.function)
    assert wire.line().startswith(b"ERR INVALID_ARGUMENTS ")
    wire.raw(b"foo\n")
    assert wire.line() == b"ERR UNKNOWN_COMMAND Unknown+server+commandfoo\r\n"
    wire.expect_nothing()


@pytest.mark.parametrize("number", [b"1" * 12, b"9" * 20])
def test_bug_21_a_long_denominator_is_passed_on(desk: Desk, number: bytes) -> None:
    """gearmand closes the worker's connection."""
    client, handle = desk.submit(b"x")
    worker = desk.worker()
    assert worker.grab()
    worker.send(p.WORK_STATUS, handle, b"1", number)
    worker.expect_nothing()
    client.expect(p.WORK_STATUS, handle, b"1", number)
    client.send(p.GET_STATUS, handle)
    client.expect(p.STATUS_RES, handle, b"1", b"1", b"1", number)


# -- beside the wire


def test_bug_22_there_is_no_http_and_who_asks_for_it_is_told(rig: Rig, desk: Desk) -> None:
    """gearmand's reports failed jobs as 200. To farm's server a request is lines of unknown commands."""
    done = rig.run("gearmand", "-L", "127.0.0.1", "-r", "http")
    assert done.status == 64
    assert "hint: " in done.err
    wire = desk.wire()
    wire.raw(b"GET /%s HTTP/1.1\r\n" % desk.function)
    assert wire.line().startswith(b"ERR UNKNOWN_COMMAND ")
    assert desk.row() == b""


def test_bug_23_exit_codes_tell_the_truth_and_no_byte_is_eaten(rig: Rig) -> None:
    """`gearman` exits 0 when it cannot connect and when a signal ended the job, and -N eats the last byte."""
    assert rig.submit("-n", "f", "-s", "127.0.0.1:1").status == 69
    assert rig.run("status", "-s", "127.0.0.1:1").status == 69
    rig.env["FARM_SERVER"] = rig.server().address
    rig.worker("dies", "--cmd", "kill -KILL $$")
    rig.worker("cat", "--", "cat")
    assert rig.submit("-n", "dies").status == 128 + signal.SIGKILL
    for payload in (b"line\n", b"no end", b"\n", b"", b"\0"):
        done = rig.submit("cat", stdin=payload)
        assert (done.status, done.out) == (0, payload)


def _where(server: ServerRunning) -> tuple[str, int]:
    host, _, port = server.address.rpartition(":")
    return host, int(port)
