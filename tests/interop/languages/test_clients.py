"""Each package as a client: of farm's worker, and of a raw worker that sends exactly what a worker may send."""

from __future__ import annotations

import random
import time

import pytest

from farm.protocol import packets as p
from tests.interop.languages.desk import BIG_S, Desk, Process, Result
from tests.interop.languages.packages import NAMES, able
from tests.support import Wire, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.languages]

SIZES = [0, 1, 65_537, 1 << 20, 16 << 20]


def noise(size: int) -> bytes:
    """Bytes of all values, NUL among them."""
    return random.Random(size).randbytes(size)


def take(desk: Desk, worker: Wire, function: str, jobs: int = 1) -> list[list[bytes]]:
    """Let a raw worker take so many jobs once they are queued; each as handle, function, unique, payload."""
    worker.send(p.CAN_DO, function.encode())
    worker.expect_nothing()
    wait_until(lambda: desk.status(function)[0] == jobs, what=f"{jobs} jobs of {function}")
    return [worker.grab(p.GRAB_JOB_UNIQ).split(b"\0", 3) for _ in range(jobs)]


# -- of farm's worker


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in able("client", "run") for size in SIZES if size or name in able("client", "empty")],
)
def test_payload_and_result_of_any_size_and_any_bytes(desk: Desk, name: str, size: int) -> None:
    function = desk.farm_worker("farm-collect", "--collect", "--", "cat")
    assert desk.client(name, "run", function, noise(size)).result(BIG_S) == Result(0, noise(size), b"")


@pytest.mark.parametrize("name", able("client", "data"))
def test_a_result_in_pieces(desk: Desk, name: str) -> None:
    """Longer than 64 KiB, it comes as WORK_DATA, unless the worker is told to collect it."""
    function = desk.farm_worker("farm-cat", "--", "cat")
    assert desk.client(name, "run", function, noise(1 << 20)).result() == Result(0, noise(1 << 20), b"")


@pytest.mark.parametrize("name", able("client", "run"))
def test_a_name_in_utf8(desk: Desk, name: str) -> None:
    function = desk.farm_worker("größe-日本", "--", "cat")
    assert desk.client(name, "run", function, b"data").result() == Result(0, b"data", b"")


@pytest.mark.parametrize("name", able("client", "fail"))
def test_farms_command_fails(desk: Desk, name: str) -> None:
    """What it wrote to stderr, and its exit code, come as warnings."""
    function = desk.farm_worker("farm-shell", "--", "sh")
    result = desk.client(name, "run", function, b"echo out; echo careful >&2; exit 7").result()
    assert result.code == 1
    assert result.out in (b"out\n", b"")  # a failed job has no result in a client that keeps it for the end
    warnings = ["warning careful", "warning farm: exit 7"] if name in able("client", "warning") else []
    if name == "abraxas":  # of the last warning it makes the error's text, if it has read it in time
        assert set(result.events) - {""} in ({*warnings, "fail"}, {*warnings, "exception farm: exit 7"})
    else:
        assert [line for line in result.events if line] == [*warnings, "fail"]


# -- of a raw worker


@pytest.mark.parametrize("name", able("client", "data"))
def test_all_that_a_worker_may_send(desk: Desk, name: str, function: str, wire: Wire) -> None:
    client = desk.client(name, "run", function, b"in")
    ((handle, _, _, payload),) = take(desk, wire, function)
    assert payload == b"in"
    wire.send(p.WORK_STATUS, handle, b"1", b"4")
    wire.send(p.WORK_DATA, handle, b"one ")
    wire.send(p.WORK_WARNING, handle, b"careful")
    wire.send(p.WORK_DATA, handle, b"two ")
    wire.send(p.WORK_COMPLETE, handle, b"three")
    code, out, _ = result = client.result()
    assert (code, out) == (0, b"one two three")
    expected = [
        line
        for feature, line in (("status", share(name, 1, 4)), ("warning", "warning careful"))
        if name in able("client", feature)
    ]
    assert sorted(result.events) == sorted(expected)
    wire.expect_nothing()


def share(name: str, numerator: int, denominator: int) -> str:
    """The event of a WORK_STATUS: abraxas makes a quotient of it."""
    return f"status {numerator / denominator if name == 'abraxas' else f'{numerator}/{denominator}'}"


@pytest.mark.parametrize("action", ["run", "exceptions"])
@pytest.mark.parametrize("name", able("client", "run"))
def test_an_exception(desk: Desk, name: str, action: str, function: str, wire: Wire) -> None:
    """Shown by a client that asked for exceptions, a failure for others: none hangs."""
    if action == "exceptions" and name not in able("client", action):
        return
    client = desk.client(name, action, function, b"in")
    ((handle, *_),) = take(desk, wire, function)
    wire.send(p.WORK_EXCEPTION, handle, b"it broke")
    result = client.result()
    assert (result.code, result.out) == (1, b"")
    asked = action == "exceptions" or name in ("abraxas", "pecl-gearman")  # which always ask
    assert result.events[0] == ("exception it broke" if asked else "fail")
    wire.expect_nothing()


@pytest.mark.parametrize("name", able("client", "priority"))
def test_priorities(desk: Desk, name: str, function: str, wire: Wire) -> None:
    """Of jobs that are waited for and of background jobs."""
    clients: list[Process] = []
    for priority in ("low", "", "high"):
        for action in ("run", "background"):
            clients.append(desk.client(name, action, function, f"{priority} {action}".encode(), priority=priority))
            wait_until(lambda: desk.status(function)[0] == len(clients), what=clients[-1].err.decode())
    jobs = take(desk, wire, function, 6)
    assert [job[3].rstrip(b"\0").decode() for job in jobs] == [
        f"{priority} {action}" for priority in ("high", "", "low") for action in ("run", "background")
    ]
    for handle, *_ in jobs:
        wire.send(p.WORK_COMPLETE, handle, b"done")
    assert [client.result().code for client in clients] == [0] * 6
    assert [client.result().out for client in clients[::2]] == [b"done"] * 3


@pytest.mark.parametrize("name", able("client", "unique"))
def test_a_key_makes_one_job_of_two(desk: Desk, name: str, function: str, wire: Wire) -> None:
    clients = [desk.client(name, "run", function, b"in", unique="the-key") for _ in range(2)]
    wait_until(lambda: clients_of(desk, function, wire) == 2, what="both wait for the job")
    ((handle, _, unique, _),) = take(desk, wire, function)
    assert unique == b"the-key"
    wire.send(p.WORK_COMPLETE, handle, b"once")
    assert [client.result() for client in clients] == [Result(0, b"once", b"")] * 2


def clients_of(desk: Desk, function: str, wire: Wire) -> int:
    """How many clients wait for the job with the key: what STATUS_RES_UNIQUE ends with."""
    if not desk.status(function)[0]:
        return 0
    wire.send(p.GET_STATUS_UNIQUE, b"the-key")
    number, body = wire.packet()
    assert number == p.STATUS_RES_UNIQUE
    return int(body.split(b"\0")[-1])


@pytest.mark.parametrize("name", able("client", "parallel"))
def test_many_jobs_at_once(desk: Desk, name: str, function: str, wire: Wire) -> None:
    """They are answered in the opposite order."""
    lines = [b"%d\n" % number for number in range(20)]
    client = desk.client(name, "parallel", function, b"".join(lines))
    jobs = take(desk, wire, function, len(lines))
    assert sorted(job[3] for job in jobs) == sorted(lines)
    for handle, _, _, payload in reversed(jobs):
        wire.send(p.WORK_COMPLETE, handle, payload)
    code, out, err = client.result()
    assert (code, sorted(out.splitlines(keepends=True)), err) == (0, sorted(lines), b"")


@pytest.mark.parametrize("name", able("client", "background"))
def test_a_background_job(desk: Desk, name: str, function: str, wire: Wire) -> None:
    result = desk.client(name, "background", function, b"in", unique="k").result()
    assert result.code == 0, result
    if name in able("client", "own-status"):
        assert result.events == ["known 1 running 0"]
    ((handle, _, unique, payload),) = take(desk, wire, function)
    if name == "node-gearman":  # it adds an empty argument, and does not know the handle
        assert (unique, payload) == (b"k", b"in\0")
    else:
        assert (unique, payload, result.out) == (b"k", b"in", handle + b"\n")


# -- what else a client may ask


@pytest.mark.parametrize("name", able("client", "query"))
def test_the_status_of_a_job(desk: Desk, name: str, function: str, wire: Wire) -> None:
    with desk.connect() as client:
        client.submit(function.encode(), number=p.SUBMIT_JOB_BG)
    ((handle, *_),) = take(desk, wire, function)
    wire.send(p.WORK_STATUS, handle, b"3", b"4")
    wire.expect_nothing()
    progress = "0.75" if name == "abraxas" else "3 4"
    assert desk.client(name, "query", handle.decode()).result() == Result(0, f"1 1 {progress}\n".encode(), b"")


@pytest.mark.parametrize("name", able("client", "query"))
def test_the_status_of_no_job(desk: Desk, name: str) -> None:
    nothing = b"0 0 0\n" if name == "abraxas" else b"0 0 0 0\n"
    assert desk.client(name, "query", "H:nowhere:1").result() == Result(0, nothing, b"")


@pytest.mark.parametrize("name", able("client", "query-unique"))
def test_the_status_by_key(desk: Desk, name: str, function: str, wire: Wire) -> None:
    ask = desk.client(name, "query-unique", "-", unique=function)
    assert ask.result().out in (b"0 0 0 0\n", b"0 0 0 0 0\n")
    with desk.connect() as client:
        client.submit(function.encode(), unique=function.encode(), number=p.SUBMIT_JOB_BG)
    ((handle, *_),) = take(desk, wire, function)
    wire.send(p.WORK_STATUS, handle, b"3", b"4")
    wire.expect_nothing()
    code, out, _ = desk.client(name, "query-unique", "-", unique=function).result()
    assert (code, out[:8]) == (0, b"1 1 3 4\n")


@pytest.mark.parametrize("name", able("client", "epoch"))
def test_a_job_for_later(desk: Desk, name: str, function: str, wire: Wire) -> None:
    """A sleeping worker is woken when it is due, not before."""
    due = int(time.time()) + 2
    result = desk.client(name, "epoch", function, b"in", unique="k", when=due).result()
    assert result.code == 0, result
    wire.send(p.CAN_DO, function.encode())
    assert wire.grab() == b""
    wire.send(p.PRE_SLEEP)
    wire.expect(p.NOOP)
    assert time.time() >= due
    assert wire.grab().split(b"\0") == [result.out.strip(), function.encode(), b"in"]


@pytest.mark.parametrize("name", able("client", "echo"))
def test_echo(desk: Desk, name: str) -> None:
    assert desk.client(name, "echo", "-", b"some\0thing").result() == Result(0, b"echoed\n", b"")


@pytest.mark.parametrize("name", able("client", "admin"))
def test_admin_status(desk: Desk, name: str, function: str, wire: Wire) -> None:
    for unique in (b"1", b"2"):
        wire.submit(function.encode(), unique=unique, number=p.SUBMIT_JOB_BG)
    take(desk, wire, function, 2)
    wire.submit(function.encode(), unique=b"3", number=p.SUBMIT_JOB_BG)
    assert desk.client(name, "admin", function).result() == Result(0, b"3 2 1\n", b"")


@pytest.mark.parametrize("name", able("client", "cancel"))
def test_admin_cancel(desk: Desk, name: str, function: str, wire: Wire) -> None:
    handle = wire.submit(function.encode(), number=p.SUBMIT_JOB_BG).decode()
    assert desk.client(name, "cancel", handle).result().out == b"OK\n"
    assert desk.status(function) == (0, 0, 0)
    assert desk.client(name, "cancel", handle).result().out == b"ERR UNKNOWN_JOB\n"


def test_every_package_has_the_common_part() -> None:
    """Or the lists above would leave one out unnoticed."""
    for feature in ("run", "background", "priority", "unique", "data", "fail", "parallel"):
        assert able("client", feature) == NAMES
