"""The classic conversation of clients and workers with a real server, on raw sockets."""

from __future__ import annotations

import pytest

from farm.protocol import packets as p
from tests.support import ServerProcess, Wire, req, wait_until, worker_and_client


@pytest.fixture
def pair(server: ServerProcess, function: bytes) -> tuple[Wire, Wire]:  # type: ignore[misc]
    """A worker for the test's own function, and a client."""
    with worker_and_client(server, function) as (worker, client):
        yield worker, client


def test_the_whole_cycle(pair: tuple[Wire, Wire], function: bytes) -> None:
    worker, client = pair
    worker.send(p.GRAB_JOB)
    worker.expect(p.NO_JOB)
    worker.send(p.PRE_SLEEP)
    worker.expect_nothing()
    handle = client.submit(function, b"in\0put", b"key")
    worker.expect(p.NOOP)
    worker.send(p.GRAB_JOB)
    worker.expect(p.JOB_ASSIGN, handle, function, b"in\0put")
    worker.send(p.WORK_COMPLETE, handle, b"out\0put")
    client.expect(p.WORK_COMPLETE, handle, b"out\0put")
    worker.send(p.GRAB_JOB)
    worker.expect(p.NO_JOB)
    client.expect_nothing()


@pytest.mark.parametrize(
    ("grab", "assign", "with_unique"),
    [
        (p.GRAB_JOB, p.JOB_ASSIGN, False),
        (p.GRAB_JOB_UNIQ, p.JOB_ASSIGN_UNIQ, True),
        (p.GRAB_JOB_ALL, p.JOB_ASSIGN_UNIQ, True),  # as gearmand where there is no reducer
    ],
)
def test_grab_forms(pair: tuple[Wire, Wire], function: bytes, grab: int, assign: int, with_unique: bool) -> None:
    worker, client = pair
    worker.send(grab)
    worker.expect(p.NO_JOB)
    handle = client.submit(function, b"in", b"key")
    worker.send(grab)
    worker.expect(assign, handle, function, *([b"key"] if with_unique else []), b"in")
    worker.send(p.WORK_COMPLETE, handle, b"")
    client.expect(p.WORK_COMPLETE, handle, b"")


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        (p.WORK_DATA, (b"part\0\xff",)),
        (p.WORK_DATA, (b"",)),
        (p.WORK_WARNING, (b"careful",)),
        (p.WORK_STATUS, (b"3", b"-7.5 apples")),  # passed on as sent, whatever it is
    ],
)
def test_what_a_running_job_sends_is_passed_on(
    pair: tuple[Wire, Wire], function: bytes, number: int, parts: tuple[bytes, ...]
) -> None:
    worker, client = pair
    handle = client.submit(function)
    worker.grab()
    for _ in range(2):
        worker.send(number, handle, *parts)
        client.expect(number, handle, *parts)
    worker.send(p.WORK_COMPLETE, handle, b"done")
    client.expect(p.WORK_COMPLETE, handle, b"done")


@pytest.mark.parametrize("end", [b"", b"\0"])
def test_fail_reaches_the_client_with_the_bare_handle(pair: tuple[Wire, Wire], function: bytes, end: bytes) -> None:
    worker, client = pair
    handle = client.submit(function)
    worker.grab()
    worker.send(p.WORK_FAIL, handle + end)
    client.expect(p.WORK_FAIL, handle)


def test_exception_for_who_asked_and_fail_for_who_did_not(
    server: ServerProcess, pair: tuple[Wire, Wire], function: bytes
) -> None:
    worker, client = pair
    with server.connect() as asked:
        asked.send(p.OPTION_REQ, b"exceptions")
        asked.expect(p.OPTION_RES, b"exceptions")
        handle = client.submit(function, b"", b"same")
        assert asked.submit(function, b"", b"same") == handle
        worker.grab()
        worker.send(p.WORK_EXCEPTION, handle, b"why")
        asked.expect(p.WORK_EXCEPTION, handle, b"why")
        client.expect(p.WORK_FAIL, handle)
        worker.send(p.WORK_FAIL, handle)  # Perl and PHP workers send it after their exception
        worker.expect_nothing()


@pytest.mark.parametrize("number", [p.WORK_DATA, p.WORK_WARNING, p.WORK_COMPLETE, p.WORK_EXCEPTION])
def test_nobody_reports_on_the_job_of_another(
    server: ServerProcess, pair: tuple[Wire, Wire], function: bytes, number: int
) -> None:
    worker, client = pair
    handle = client.submit(function)
    worker.grab()
    with server.connect() as other:
        other.send(number, handle, b"forged")
        other.expect_error(b"JOB_NOT_FOUND")
        other.send(number, b"H:0:0", b"made up")
        other.expect_error(b"JOB_NOT_FOUND")
        other.send(p.WORK_STATUS, handle, b"1", b"2")
        other.expect_error(b"JOB_NOT_FOUND")
        other.send(p.WORK_FAIL, handle)
        other.expect_error(b"JOB_NOT_FOUND")
        other.expect_nothing()
    worker.send(p.WORK_COMPLETE, handle, b"true")
    client.expect(p.WORK_COMPLETE, handle, b"true")
    worker.send(p.WORK_COMPLETE, handle, b"again")
    worker.expect_error(b"JOB_NOT_FOUND")
    worker.expect_nothing()


BACKGROUND = (p.SUBMIT_JOB_BG, p.SUBMIT_JOB_HIGH_BG, p.SUBMIT_JOB_LOW_BG)
FOREGROUND = (p.SUBMIT_JOB, p.SUBMIT_JOB_HIGH, p.SUBMIT_JOB_LOW)


@pytest.mark.parametrize("number", FOREGROUND + BACKGROUND)
def test_every_submit_form(pair: tuple[Wire, Wire], function: bytes, number: int) -> None:
    worker, client = pair
    handle = client.submit(function, b"in", number=number)
    assert worker.grab() == b"\0".join((handle, function, b"in"))
    worker.send(p.WORK_DATA, handle, b"some")
    worker.send(p.WORK_COMPLETE, handle, b"out")
    worker.expect_nothing()
    if number in FOREGROUND:
        client.expect(p.WORK_DATA, handle, b"some")
        client.expect(p.WORK_COMPLETE, handle, b"out")
    client.expect_nothing()


@pytest.mark.parametrize("number", BACKGROUND)
def test_a_background_job_outlives_its_client(
    server: ServerProcess, pair: tuple[Wire, Wire], function: bytes, number: int
) -> None:
    worker, _ = pair
    with server.connect() as client:
        handle = client.submit(function, b"in", number=number)
    assert worker.grab().startswith(handle)


def test_a_queued_foreground_job_ends_with_its_client(
    server: ServerProcess, pair: tuple[Wire, Wire], function: bytes
) -> None:
    worker, client = pair
    with server.connect() as gone:
        gone.submit(function, b"first")
        gone.half_close()
        gone.expect_end()
    kept = client.submit(function, b"second")
    assert worker.grab().startswith(kept)


def test_priorities_first_then_age(pair: tuple[Wire, Wire], function: bytes) -> None:
    worker, client = pair
    low, normal, high, high2, normal2, low2 = (
        client.submit(function, number=number)
        for number in (
            p.SUBMIT_JOB_LOW,
            p.SUBMIT_JOB,
            p.SUBMIT_JOB_HIGH,
            p.SUBMIT_JOB_HIGH_BG,
            p.SUBMIT_JOB_BG,
            p.SUBMIT_JOB_LOW_BG,
        )
    )
    grabbed = [worker.grab().split(b"\0")[0] for _ in range(6)]
    assert grabbed == [high, high2, normal, normal2, low, low2]


def test_equal_uniques_are_one_job_for_both_clients(
    server: ServerProcess, pair: tuple[Wire, Wire], function: bytes
) -> None:
    worker, client = pair
    with server.connect() as second:
        handle = client.submit(function, b"first", b"key")
        assert second.submit(function, b"second", b"key") == handle
        assert client.submit(function, b"third", b"other") != handle
        assert client.submit(function, b"first", b"") != client.submit(function, b"first", b"")
        assert worker.grab() == b"\0".join((handle, function, b"first"))
        assert second.submit(function, b"late", b"key", number=p.SUBMIT_JOB_HIGH) == handle  # it runs, and is joined
        worker.send(p.WORK_COMPLETE, handle, b"out")
        for wire in (client, second):
            wire.expect(p.WORK_COMPLETE, handle, b"out")
            wire.expect_nothing()
        assert second.submit(function, b"new", b"key") != handle  # it has ended


def test_the_unique_dash_compares_payloads(pair: tuple[Wire, Wire], function: bytes) -> None:
    _, client = pair
    first = client.submit(function, b"same", b"-")
    assert client.submit(function, b"same", b"-") == first
    assert client.submit(function, b"different", b"-") != first
    assert client.submit(function, b"", b"-") != client.submit(function, b"", b"-")


def test_a_unique_that_is_too_large(pair: tuple[Wire, Wire], function: bytes) -> None:
    _, client = pair
    client.submit(function, b"", b"u" * 64)
    client.send(p.SUBMIT_JOB, function, b"u" * 65, b"")
    client.expect_error(b"ARGUMENT_TOO_LARGE")
    client.expect_nothing()


def test_get_status(pair: tuple[Wire, Wire], function: bytes) -> None:
    worker, client = pair
    handle = client.submit(function)

    def expect(handle: bytes, *status: bytes) -> None:
        client.send(p.GET_STATUS, handle)
        client.expect(p.STATUS_RES, handle, *status)

    expect(handle, b"1", b"0", b"0", b"0")
    worker.grab()
    worker.expect_nothing()
    expect(handle, b"1", b"1", b"0", b"0")
    worker.send(p.WORK_STATUS, handle, b"2", b"10")
    client.expect(p.WORK_STATUS, handle, b"2", b"10")
    expect(handle, b"1", b"1", b"2", b"10")
    worker.send(p.WORK_COMPLETE, handle, b"")
    client.expect(p.WORK_COMPLETE, handle, b"")
    expect(handle, b"0", b"0", b"0", b"0")
    expect(b"H:no:such", b"0", b"0", b"0", b"0")
    expect(b"", b"0", b"0", b"0", b"0")


@pytest.mark.parametrize("size", [0, 1, 4095, 16 * 1024, 16 * 1024 + 1, 64 * 1024])
def test_echo(server: ServerProcess, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    with server.connect() as wire:
        wire.send(p.ECHO_REQ, data)
        wire.expect(p.ECHO_RES, data)


def test_options(server: ServerProcess) -> None:
    with server.connect() as wire:
        for option in (b"exceptions", b"EXCEPTIONS", b"farm-1"):
            wire.send(p.OPTION_REQ, option)
            wire.expect(p.OPTION_RES, option)
        for option in (b"farm-2", b"", b"exceptions\0", b"o" * 64):
            wire.send(p.OPTION_REQ, option)
            assert wire.expect_error(b"UNKNOWN_OPTION") == b"Server does not recognize given option"
        wire.expect_nothing()


def test_admin_lines_between_packets(pair: tuple[Wire, Wire], function: bytes) -> None:
    worker, client = pair
    handle = client.submit(function)
    worker.grab()
    worker.expect_nothing()
    echo = req(p.ECHO_REQ, b"x\n")
    client.raw(b"version\n" + echo + b"VERSION\r\n" + echo + echo + b"bogus\n" + echo + b"\n" + echo)
    assert client.line().startswith(b"OK ")
    client.expect(p.ECHO_RES, b"x\n")
    assert client.line().startswith(b"OK ")
    client.expect(p.ECHO_RES, b"x\n")
    client.expect(p.ECHO_RES, b"x\n")
    assert client.line() == b"ERR UNKNOWN_COMMAND Unknown+server+commandbogus\r\n"
    client.expect(p.ECHO_RES, b"x\n")
    assert client.line().startswith(b"ERR UNKNOWN_COMMAND ")
    client.expect(p.ECHO_RES, b"x\n")
    assert function + b"\t1\t1\t1\n" in client.listing(b"status")
    worker.send(p.SET_CLIENT_ID, b"me and\nmyself")
    worker.send(p.WORK_COMPLETE, handle, b"")
    client.expect(p.WORK_COMPLETE, handle, b"")
    (mine,) = [line for line in client.listing(b"workers") if function in line]
    assert mine.endswith(b" 127.0.0.1 me\\x20and\\x0amyself : " + function + b"\n")


def test_many_requests_in_one_segment_are_answered_in_order(server: ServerProcess) -> None:
    with server.connect() as wire:
        wire.raw(b"".join(req(p.ECHO_REQ, b"%d" % n) for n in range(5000)))
        for n in range(5000):
            wire.expect(p.ECHO_RES, b"%d" % n)


def test_abilities_come_and_go(pair: tuple[Wire, Wire], function: bytes) -> None:
    worker, client = pair
    client.submit(function)
    worker.send(p.CANT_DO, function)
    assert worker.grab() == b""
    worker.send(p.CAN_DO_TIMEOUT, function, b"5000")
    assert worker.grab()
    client.submit(function)
    worker.send(p.RESET_ABILITIES)
    assert worker.grab() == b""


def test_a_lost_workers_job_is_the_next_ones_first(
    server: ServerProcess, pair: tuple[Wire, Wire], function: bytes
) -> None:
    second, client = pair
    with server.connect() as first:
        first.send(p.CAN_DO, function)
        lost = client.submit(function, b"lost")
        also = client.submit(function, b"lost too")
        later = client.submit(function, b"later")
        assert first.grab().startswith(lost)
        assert first.grab().startswith(also)
        first.send(p.WORK_STATUS, lost, b"1", b"2")
        client.expect(p.WORK_STATUS, lost, b"1", b"2")
        second.send(p.PRE_SLEEP)
        second.expect(p.NOOP)  # `later` waits
        assert second.grab().startswith(later)
        second.send(p.PRE_SLEEP)
        second.expect_nothing()
        newest = client.submit(function, b"newest")
        second.expect(p.NOOP)
    wait_until(lambda: function + b"\t4\t1\t1\n" in second.listing(b"status"), what="the server noticed")
    first_of_all = [second.grab().split(b"\0")[0] for _ in range(3)]
    assert first_of_all == [lost, also, newest]
    client.send(p.GET_STATUS, lost)
    client.expect(p.STATUS_RES, lost, b"1", b"1", b"0", b"0")
    second.send(p.WORK_COMPLETE, lost, b"out")
    client.expect(p.WORK_COMPLETE, lost, b"out")


def test_a_sleeping_worker_hears_of_a_lost_job(server: ServerProcess, pair: tuple[Wire, Wire], function: bytes) -> None:
    sleeper, client = pair
    with server.connect() as first:
        first.send(p.CAN_DO, function)
        handle = client.submit(function)
        assert first.grab()
        sleeper.send(p.PRE_SLEEP)
        sleeper.expect_nothing()
    sleeper.expect(p.NOOP)
    assert sleeper.grab().startswith(handle)
