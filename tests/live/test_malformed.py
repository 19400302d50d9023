"""What is no Gearman: each time an ERROR, a closed connection where it cannot go on, and everybody else unharmed."""

from __future__ import annotations

import struct

import pytest

from farm.protocol import packets as p
from tests.live.conftest import Start
from tests.support import ServerProcess, do_one_job, req, wait_until, worker_and_client

pytestmark = pytest.mark.usefixtures("unharmed")


def claimed(number: int, length: int) -> bytes:
    """A header that announces `length` bytes."""
    return b"\0REQ" + struct.pack(">II", number, length)


LONG = b"f" * 513

CLOSES = {
    "wrong magic": (b"\0BAD" + req(9)[4:], b"INVALID_MAGIC"),
    "short wrong magic": (b"\0\0", b"INVALID_MAGIC"),
    "zeros": (b"\0" * 1000, b"INVALID_MAGIC"),
    "TLS hello": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(11, 200)) * 30, b"INVALID_COMMAND"),
    "type 0": (req(0), b"INVALID_COMMAND"),
    "type 43": (req(43), b"INVALID_COMMAND"),
    "type 1000": (req(1000), b"INVALID_COMMAND"),
    "type 4 billion": (req(0xFFFFFFFF), b"INVALID_COMMAND"),
    "unknown type of a response": (b"\0RES" + req(99)[4:], b"INVALID_COMMAND"),
    "negative length": (claimed(p.SUBMIT_JOB, 0xFFFFFFFF), b"ARGUMENT_TOO_LARGE"),
    "huge length": (claimed(p.SUBMIT_JOB_BG, 0x7FFFFFFF), b"ARGUMENT_TOO_LARGE"),
    "huge length of a small packet": (claimed(p.GET_STATUS, 65537), b"ARGUMENT_TOO_LARGE"),
    "huge length of an empty packet": (claimed(p.GRAB_JOB, 0xFFFFFFFF), b"ARGUMENT_TOO_LARGE"),
    "submit without data": (req(p.SUBMIT_JOB, b"f", b"u"), b"INVALID_PACKET"),
    "submit without unique": (req(p.SUBMIT_JOB_BG, b"f"), b"INVALID_PACKET"),
    "empty submit": (req(p.SUBMIT_JOB_HIGH), b"INVALID_PACKET"),
    "timeout missing": (req(p.CAN_DO_TIMEOUT, b"f"), b"INVALID_PACKET"),
    "timeout too long": (req(p.CAN_DO_TIMEOUT, b"f", b"9" * 21), b"INVALID_PACKET"),
    "status without numbers": (req(p.WORK_STATUS, b"H:1"), b"INVALID_PACKET"),
    "NUL in function": (req(p.CAN_DO, b"a\0b"), b"INVALID_FUNCTION_NAME"),
    "newline in function": (req(p.CAN_DO, b"a\nb"), b"INVALID_FUNCTION_NAME"),
    "blank in function": (req(p.SUBMIT_JOB, b"a b", b"", b""), b"INVALID_FUNCTION_NAME"),
    "escape in function": (req(p.SUBMIT_JOB_BG, b"\x1b[2J", b"", b""), b"INVALID_FUNCTION_NAME"),
    "empty function": (req(p.CAN_DO, b""), b"INVALID_FUNCTION_NAME"),
    "empty function submitted": (req(p.SUBMIT_JOB, b"", b"", b""), b"INVALID_FUNCTION_NAME"),
    "long function": (req(p.CAN_DO, LONG), b"INVALID_FUNCTION_NAME"),
    "long function submitted": (req(p.SUBMIT_JOB_LOW, LONG, b"", b""), b"INVALID_FUNCTION_NAME"),
    "long function with timeout": (req(p.CAN_DO_TIMEOUT, LONG, b"1"), b"INVALID_FUNCTION_NAME"),
    "line too long": (b"x" * 4096, b"INVALID_COMMAND"),
    "endless line": (b"x" * 500_000, b"INVALID_COMMAND"),
}


@pytest.mark.parametrize("name", CLOSES)
def test_error_and_close(server: ServerProcess, name: str) -> None:
    data, code = CLOSES[name]
    with server.connect() as wire:
        wire.send(p.ECHO_REQ, b"before")
        wire.expect(p.ECHO_RES, b"before")
        wire.raw(data)
        wire.expect_error(code)
        wire.expect_end()


@pytest.mark.parametrize("name", CLOSES)
def test_error_arrives_though_more_input_follows(server: ServerProcess, name: str) -> None:
    """Closing with unread input would reset the connection, and the reset would overtake the ERROR."""
    data, code = CLOSES[name]
    with server.connect() as wire:
        wire.raw(req(p.ECHO_REQ, b"before") + data + b"y" * 300_000)
        wire.expect(p.ECHO_RES, b"before")
        wire.expect_error(code)
        wire.expect_end()


@pytest.mark.parametrize("name", ["wrong magic", "NUL in function", "submit without data"])
def test_nothing_after_a_fatal_packet_counts(server: ServerProcess, function: bytes, name: str) -> None:
    """Its sender would never hear of it: the connection is closing."""
    data, code = CLOSES[name]
    with server.connect() as wire, server.connect() as other:
        wire.raw(data + req(p.SUBMIT_JOB_BG, function, b"", b"unacknowledged"))
        wire.expect_error(code)
        wire.expect_end()
        assert [line for line in other.listing(b"status") if function in line] == []


UNEXPECTED = [5, 6, 8, 10, 11, 17, 19, 20, 24, 27, 31, 40, 42, 1002, 1003, 1004, 1005, 1006]


@pytest.mark.parametrize("number", UNEXPECTED)
def test_a_packet_that_only_servers_send_is_an_error_and_no_more(server: ServerProcess, number: int) -> None:
    with server.connect() as wire:
        wire.send(number, b"H:1", b"", b"", b"", b"", b"")
        assert wire.expect_error(b"INVALID_COMMAND") == b"Command not expected"
        wire.expect_nothing()


@pytest.mark.parametrize("number", [1, 7, 9, 13, 16])
def test_a_response_is_an_error_and_no_more(server: ServerProcess, function: bytes, number: int) -> None:
    with server.connect() as wire:
        wire.raw(b"\0RES" + req(number, function, b"", b"")[4:])
        assert wire.expect_error(b"INVALID_MAGIC") == b"Request magic expected"
        wire.expect_nothing()
        assert [line for line in wire.listing(b"status") if function in line] == []


def test_cancel_needs_the_extension(server: ServerProcess) -> None:
    with server.connect() as wire:
        wire.send(p.FARM_CANCEL, b"H:1")
        wire.expect_error(b"INVALID_COMMAND")
        wire.send(p.OPTION_REQ, b"farm-1")
        wire.expect(p.OPTION_RES, b"farm-1")
        wire.send(p.FARM_CANCEL, b"H:1")
        wire.expect(p.FARM_CANCEL_RES, b"H:1", b"unknown")


def test_heartbeats_need_the_extension_and_to_be_asked_for(server: ServerProcess) -> None:
    with server.connect() as wire:
        wire.send(p.OPTION_REQ, b"farm-heartbeat")
        wire.expect_error(b"UNKNOWN_OPTION")
        wire.send(p.FARM_ALIVE)
        wire.expect_error(b"INVALID_COMMAND")
        wire.send(p.OPTION_REQ, b"farm-1")
        wire.expect(p.OPTION_RES, b"farm-1")
        wire.send(p.FARM_ALIVE)
        wire.expect_error(b"INVALID_COMMAND")
        wire.send(p.OPTION_REQ, b"farm-heartbeat")
        wire.expect(p.OPTION_RES, b"farm-heartbeat")
        wire.expect(p.FARM_HEARTBEAT, b"4000")
        wire.send(p.FARM_ALIVE)
        wire.expect_nothing()


def test_http_is_lines_of_unknown_commands(server: ServerProcess) -> None:
    with server.connect() as wire:
        wire.raw(b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n")
        assert [wire.line()[:19] for _ in range(3)] == [b"ERR UNKNOWN_COMMAND"] * 3
        wire.expect_nothing()


def test_a_body_that_should_not_be_there_is_ignored(server: ServerProcess) -> None:
    with server.connect() as wire:
        wire.send(p.GRAB_JOB, b"extra")
        wire.expect(p.NO_JOB)
        wire.expect_nothing()


CUT_SHORT = {
    "in the magic": b"\0RE",
    "in the header": req(p.GRAB_JOB)[:9],
    "before the body": claimed(p.SUBMIT_JOB, 100),
    "in the body": req(p.SUBMIT_JOB_BG, b"f", b"u", b"payload")[:-1],
    "in a large body": claimed(p.SUBMIT_JOB_BG, 1_000_000) + b"f\0u\0" + b"x" * 500_000,
    "in a line": b"stat",
}


@pytest.mark.parametrize("name", CUT_SHORT)
def test_cut_short_by_a_close(server: ServerProcess, name: str) -> None:
    with server.connect() as wire:
        wire.raw(req(p.ECHO_REQ, b"before") + CUT_SHORT[name])
        wire.half_close()
        wire.expect(p.ECHO_RES, b"before")
        wire.expect_error(b"INVALID_PACKET")
        wire.expect_end()


@pytest.mark.parametrize("name", CUT_SHORT)
def test_stalled(server: ServerProcess, name: str) -> None:
    """The shared server has a `stall_s` of half a second."""
    with server.connect() as wire, server.connect() as idle:
        wire.raw(req(p.ECHO_REQ, b"before") + CUT_SHORT[name])
        wire.expect(p.ECHO_RES, b"before")
        wire.expect_error(b"INVALID_PACKET")
        wire.expect_end()
        idle.expect_nothing()  # waiting between packets is no stall


def test_a_whole_packet_at_half_close_is_answered(server: ServerProcess) -> None:
    """`echo version | nc` half-closes at once."""
    with server.connect() as wire:
        wire.raw(b"version\n" + req(p.ECHO_REQ, b"x" * 65536))
        wire.half_close()
        assert wire.line().startswith(b"OK ")
        wire.expect(p.ECHO_RES, b"x" * 65536)
        wire.expect_end()


def test_a_client_that_vanishes_inside_a_packet_leaves_nothing(server: ServerProcess) -> None:
    before = server.fds()
    for data in CUT_SHORT.values():
        with server.connect() as wire:
            wire.raw(data)
    wait_until(lambda: server.fds() <= before, what="descriptors are given back")


def test_max_job_size(start: Start) -> None:
    small = start(max_job_size=1000)
    with small.connect() as wire:
        wire.raw(claimed(p.SUBMIT_JOB, 1000 + 1024 + 1))
        wire.expect_error(b"ARGUMENT_TOO_LARGE")
        wire.expect_end()
    with worker_and_client(small, b"f") as (worker, client):
        do_one_job(worker, client, b"f", b"x" * 970)


def test_a_result_that_is_too_large_fails_its_job(start: Start) -> None:
    """A stock worker's too, whose several jobs are told apart by the handle at the packet's beginning."""
    small = start(max_job_size=1000)
    for lone, number in ((True, p.WORK_COMPLETE), (True, p.WORK_STATUS), (False, p.WORK_DATA)):
        with worker_and_client(small, b"f") as (worker, client):
            other = b"" if lone else client.submit(b"f")
            handle = client.submit(b"f")
            while worker.grab():
                pass
            worker.raw(claimed(number, 100_000) + (b"" if lone else handle + b"\0x"))
            worker.expect_error(b"ARGUMENT_TOO_LARGE")
            worker.expect_end()
            sent, words = client.packet()
            assert (sent, words.partition(b" ")[0]) == (p.WORK_WARNING, handle + b"\0farm:")
            client.expect(p.WORK_WARNING, handle, b"farm: exit 125 farm\n")
            client.expect(p.WORK_FAIL, handle)
            with small.connect() as next_worker:
                next_worker.send(p.CAN_DO, b"f")
                assert next_worker.grab().partition(b"\0")[0] == other


def test_who_holds_nothing_fails_nothing(start: Start) -> None:
    small = start(max_job_size=1000)
    with worker_and_client(small, b"f") as (worker, client):
        handle = client.submit(b"f")
        with small.connect() as stranger:
            stranger.raw(claimed(p.WORK_COMPLETE, 100_000) + handle + b"\0x")
            stranger.expect_error(b"ARGUMENT_TOO_LARGE")
            stranger.expect_end()
        client.expect_nothing()
        assert worker.grab().startswith(handle)
