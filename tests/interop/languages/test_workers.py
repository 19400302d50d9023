"""Each package as a worker: of farm's client, and of a raw client that sees the packets themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.protocol import packets as p
from tests.interop.languages.desk import BIG_S, Desk, Result, offers, prefix
from tests.interop.languages.packages import NAMES, able
from tests.interop.languages.test_clients import SIZES, noise
from tests.support import Packet, Wire

pytestmark = [pytest.mark.interop, pytest.mark.languages]

_LAST = (p.WORK_COMPLETE, p.WORK_FAIL, p.WORK_EXCEPTION)


def packets_of(wire: Wire, function: str, payload: bytes = b"in", unique: bytes = b"") -> list[Packet]:
    """Submit a job; its packets to the last, without the handle."""
    handle = wire.submit(function.encode(), payload, unique)
    came = [wire.packet()]
    while came[-1][0] not in _LAST:
        came.append(wire.packet())
    assert all(body.split(b"\0")[0] == handle for _, body in came), (handle, came)
    return [(number, body[len(handle) + 1 :]) for number, body in came]


@pytest.fixture(autouse=True)
def still_there(desk: Desk, request: pytest.FixtureRequest) -> object:
    """Whatever was asked of the worker, it goes on working."""
    name = request.node.callspec.params["name"]
    before = desk.worker(name)
    yield
    assert desk.submit(f"{prefix(name)}-echo", b"still there?") == Result(0, b"still there?", b"")
    assert before.popen.poll() is None, before.err.decode()


# -- of farm's client


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_payload_and_result_of_any_size_and_any_bytes(desk: Desk, name: str, size: int) -> None:
    assert desk.submit(f"{prefix(name)}-echo", noise(size), BIG_S) == Result(0, noise(size), b"")


@pytest.mark.parametrize("name", able("worker", "größe"))
def test_a_name_in_utf8(desk: Desk, name: str) -> None:
    assert desk.submit(f"{prefix(name)}-größe", b"data") == Result(0, b"data", b"")


@pytest.mark.parametrize("name", able("worker", "warn"))
def test_farms_client_shows_a_warning(desk: Desk, name: str) -> None:
    assert desk.submit(f"{prefix(name)}-warn", b"data") == Result(0, b"data", b"careful")


@pytest.mark.parametrize("name", able("worker", "raise"))
def test_farms_client_shows_an_exception(desk: Desk, name: str) -> None:
    code, out, err = desk.submit(f"{prefix(name)}-raise")
    assert (code, out) == (1, b"")
    assert b"it broke" in err


@pytest.mark.parametrize("name", able("worker", "fail"))
def test_farms_client_says_that_a_job_failed(desk: Desk, name: str) -> None:
    code, out, err = desk.submit(f"{prefix(name)}-fail")
    assert (code, out, err.startswith(b"farm: ")) == (1, b"", True)


# -- of a raw client


@pytest.mark.parametrize("name", able("worker", "stream"))
def test_data(desk: Desk, name: str, wire: Wire) -> None:
    came = packets_of(wire, f"{prefix(name)}-stream")
    if name == "abraxas":  # it gathers what is written, unless the server has an extension of abraxas's own
        assert came == [(p.WORK_COMPLETE, b"one two three")]
    else:
        assert came == [(p.WORK_DATA, b"one "), (p.WORK_DATA, b"two "), (p.WORK_COMPLETE, b"three")]


@pytest.mark.parametrize("name", able("worker", "warn"))
def test_a_warning(desk: Desk, name: str, wire: Wire) -> None:
    assert packets_of(wire, f"{prefix(name)}-warn") == [(p.WORK_WARNING, b"careful"), (p.WORK_COMPLETE, b"in")]


@pytest.mark.parametrize("name", able("worker", "status"))
def test_status(desk: Desk, name: str, wire: Wire) -> None:
    shares = [b"25\x00100", b"75\x00100"] if name == "abraxas" else [b"1\x004", b"3\x004"]
    came = packets_of(wire, f"{prefix(name)}-status")
    assert came == [*((p.WORK_STATUS, share) for share in shares), (p.WORK_COMPLETE, b"in")]


@pytest.mark.parametrize("name", able("worker", "fail"))
def test_fail(desk: Desk, name: str, wire: Wire) -> None:
    assert packets_of(wire, f"{prefix(name)}-fail") == [(p.WORK_FAIL, b"")]
    wire.expect_nothing()


@pytest.mark.parametrize("name", able("worker", "raise"))
def test_an_exception_for_a_client_that_asked(desk: Desk, name: str, wire: Wire) -> None:
    """It is the last packet, though some workers send WORK_FAIL after it. Perl's is frozen by Storable."""
    wire.send(p.OPTION_REQ, b"exceptions")
    wire.expect(p.OPTION_RES, b"exceptions")
    ((number, data),) = packets_of(wire, f"{prefix(name)}-raise")
    assert number == p.WORK_EXCEPTION
    assert b"it broke" in data
    wire.expect_nothing()


@pytest.mark.parametrize("name", able("worker", "raise"))
def test_an_exception_for_a_client_that_did_not(desk: Desk, name: str, wire: Wire) -> None:
    assert packets_of(wire, f"{prefix(name)}-raise")[-1] == (p.WORK_FAIL, b"")
    wire.expect_nothing()


@pytest.mark.parametrize("name", able("worker", "unique"))
def test_the_key_reaches_the_worker(desk: Desk, name: str, wire: Wire) -> None:
    assert packets_of(wire, f"{prefix(name)}-unique", unique=b"the-key") == [(p.WORK_COMPLETE, b"the-key")]


@pytest.mark.parametrize("name", able("worker", "echo"))
def test_an_empty_result(desk: Desk, name: str, wire: Wire) -> None:
    """Perl's worker leaves out the NUL after the handle then."""
    assert packets_of(wire, f"{prefix(name)}-echo", b"")[-1] == (p.WORK_COMPLETE, b"")


@pytest.mark.parametrize("name", ["Gearman::Client"])
def test_what_counts_as_false_in_perl_is_an_empty_result(desk: Desk, name: str, wire: Wire) -> None:
    assert packets_of(wire, f"{prefix(name)}-echo", b"0") == [(p.WORK_COMPLETE, b"")]


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_at_it(desk: Desk, name: str, wire: Wire) -> None:
    """Background jobs, all queued at once, then one after the other: it never sleeps through one."""
    function = f"{prefix(name)}-echo"
    for number in range(100):
        wire.submit(function.encode(), b"x", b"%d" % number, p.SUBMIT_JOB_BG)
    desk.wait_status(function, 0, 0, 1)
    for number in range(100):
        assert packets_of(wire, function, b"%d" % number)[-1][0] == p.WORK_COMPLETE


@pytest.mark.parametrize("name", able("worker", "id"))
def test_its_id_and_functions_are_listed(desk: Desk, name: str, wire: Wire) -> None:
    rows = [line.decode().split() for line in wire.listing(b"workers")]
    (functions,) = [row[4:] for row in rows if row[2] == prefix(name)]
    assert set(functions) >= {f"{prefix(name)}-{offer}" for offer in offers(name)}


@pytest.mark.parametrize("name", able("worker", "late"))
def test_a_timeout(desk: Desk, name: str, wire: Wire, tmp_path: Path) -> None:
    """The job goes back to the queue and to another worker, whose result counts; the late one does no harm:
    an ERROR for it would end the loop of libgearman's, PHP's and Perl's workers."""
    function, go = f"{prefix(name)}-late", tmp_path / "go"
    with desk.connect() as other:
        handle = wire.submit(function.encode(), str(go).encode())
        desk.wait_status(function, 1, 1, 1)
        other.send(p.CAN_DO, function.encode())
        other.send(p.PRE_SLEEP)
        other.expect(p.NOOP)
        assert other.grab().split(b"\0")[0] == handle
        other.send(p.WORK_COMPLETE, handle, b"in time")
        wire.expect(p.WORK_COMPLETE, handle, b"in time")
    go.touch()
