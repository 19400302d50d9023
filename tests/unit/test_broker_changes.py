"""Admin commands beyond the listings everybody knows: byte for byte, who may give them, and what they change.

PROTOCOL section 2.
"""

from __future__ import annotations

import pytest

from farm.broker.broker import About
from farm.broker.effects import Effects, Forget
from farm.broker.job import first_id
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, NO_JOB, NOOP, SLEEP, Rig, Wire, error

OK = b"OK\r\n"
FULL = error(b"QUEUE_ERROR", b"Job queue is full")
DENIED = b"ERR PERMISSION_DENIED This+command+is+taken+from+this+machine+only\r\n"
IN_USE = b"ERR there are still connected workers or executing clients\r\n"


def unknown(word: bytes) -> bytes:
    return b"ERR UNKNOWN_COMMAND Unknown+server+command" + word + b"\r\n"


def incomplete(word: bytes) -> bytes:
    return b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+" + word + b"\r\n"


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def admin(rig: Rig) -> Wire:
    return rig.connect()


# -- listings


def test_prioritystatus_counts_what_is_queued(rig: Rig, admin: Wire) -> None:
    client, worker = rig.client(), rig.worker(b"f", b"idle")
    for number in (p.SUBMIT_JOB_HIGH, p.SUBMIT_JOB_HIGH, p.SUBMIT_JOB, p.SUBMIT_JOB_LOW_BG):
        client.submit(b"f", number=number)
    worker.grab()
    client.submit(b"a\tb")
    assert admin.ask(b"prioritystatus\n") == b"f\t1\t1\t1\t1\nidle\t0\t0\t0\t1\na\\tb\t0\t1\t0\t0\n.\n"


def test_show_jobs_tells_losses_whether_unwanted_and_whether_kept(rig: Rig, admin: Wire) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    first = client.submit(b"f", number=p.SUBMIT_JOB_BG)
    assert worker.grab() == first
    worker.leave()
    other = rig.client()
    second = other.submit(b"f", number=p.SUBMIT_JOB_HIGH)
    rig.worker(b"f").grab()
    other.leave()
    assert admin.ask(b"show jobs\r\n") == first + b"\t1\t0\t1\n" + second + b"\t0\t1\t0\n.\n"


def test_show_unique_jobs_has_a_line_for_each_job(rig: Rig, admin: Wire) -> None:
    client = rig.client()
    for unique in (b"key", b"", b"forged\n.\n"):
        client.submit(b"f", unique=unique)
    assert admin.ask(b"show unique jobs\n") == b"key\n\nforged\\x0a.\\x0a\n.\n"


def test_getpid_and_verbose(rig: Rig, admin: Wire) -> None:
    rig.broker.about = About(3051, "error", {})
    assert (admin.ask(b"getpid\n"), admin.ask(b"verbose\r\n")) == (b"OK 3051\n", b"OK ERROR\n")


def test_limits_lists_names_and_values(rig: Rig, admin: Wire) -> None:
    rig.broker.about = About(1, "info", {"connections_max": 4000, "stall_s": 0.5, "none": 0})
    assert admin.ask(b"limits\n") == b"connections_max\t4000\nstall_s\t0.5\nnone\t0\n.\n"


def test_large_limits_are_listed_exactly(rig: Rig, admin: Wire) -> None:
    rig.broker.about = About(1, "info", {"job_bytes_max": 1024**3, "jobs_max": 10_000_000})
    assert admin.ask(b"limits\n") == b"job_bytes_max\t1073741824\njobs_max\t10000000\n.\n"


@pytest.mark.parametrize("line", [b"prioritystatus", b"show jobs", b"SHOW Unique JOBS", b"show  jobs", b"Limits"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_empty_listing_is_a_dot_whatever_ends_the_line(admin: Wire, line: bytes, end: bytes) -> None:
    assert admin.ask(line + end) == b".\n"


# -- wrong words


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"show", unknown(b"show")),
        (b"SHOW", unknown(b"SHOW")),
        (b"show me", b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"),
        (b"show jobs now", b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"),
        (b"cancel", unknown(b"cancel")),
        (b"cancel job", unknown(b"cancel")),
        (b"cancel a b", b"ERR UNKNOWN_ERROR\r\n"),
        (b"cancel job H:1:1 H:1:2", b"ERR UNKNOWN_ERROR\r\n"),
        (b"cancel job H:1:1", b"ERR UNKNOWN_JOB\r\n"),
        (b"create", incomplete(b"create")),
        (b"create function", incomplete(b"create")),
        (b"create functions f", incomplete(b"create")),
        (b"create function f g", incomplete(b"create")),
        (b"drop", incomplete(b"drop")),
        (b"drop function", incomplete(b"drop")),
        (b"drop job f", incomplete(b"drop")),
        (b"drop function nowhere", b"ERR function not found\r\n"),
        (b"maxqueue", incomplete(b"maxqueue")),
        (b"maxqueue f 1 2", incomplete(b"maxqueue")),
        (b"maxqueue f 1 2 3 4", incomplete(b"maxqueue")),
        (b"maxqueue nowhere 5", OK),
        (b"shutdown", unknown(b"shutdown")),
        (b"shutdown graceful", unknown(b"shutdown")),
    ],
)
def test_the_answer_to_wrong_words(rig: Rig, admin: Wire, line: bytes, answer: bytes, end: bytes) -> None:
    assert admin.ask(line + end) == answer
    assert not rig.broker.functions
    assert not admin.closed


@pytest.mark.parametrize(
    "line", [b"create function f\n", b"drop function f\n", b"maxqueue f 1\n", b"cancel job H:1:1\n"]
)
def test_changes_need_permission_and_listings_do_not(rig: Rig, admin: Wire, line: bytes) -> None:
    rig.client().submit(b"g")
    admin.peer.may_change = False
    assert admin.ask(line) == DENIED
    assert admin.ask(b"status\n") == b"g\t1\t0\t0\n.\n"
    assert admin.ask(b"show jobs\n") == b"H:1:1\t0\t0\t0\n.\n"


# -- create, drop


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_function_is_created_under_its_whole_name_once(rig: Rig, admin: Wire, end: bytes) -> None:
    client = rig.client()
    for _ in range(2):
        assert admin.ask(b"CREATE Function Name" + end) == OK
    client.submit(b"Name")
    assert admin.ask(b"status\n") == b"Name\t1\t0\t0\n.\n"
    assert admin.ask(b"create function Name\n") == OK
    assert admin.ask(b"status\n") == b"Name\t1\t0\t0\n.\n"


def test_a_name_that_cannot_be_one_is_refused(rig: Rig, admin: Wire) -> None:
    answer = admin.ask(b"create function " + b"f" * 513 + b"\n")
    assert answer == b"ERR INVALID_FUNCTION_NAME Function+name+longer+than+512+bytes\r\n"
    assert not admin.closed
    assert not rig.broker.functions


@pytest.mark.parametrize("name", [b"Name", b"nAME"])
def test_an_unused_function_is_dropped_whatever_its_case(rig: Rig, admin: Wire, name: bytes) -> None:
    admin.ask(b"create function Name\n")
    assert admin.ask(b"drop function " + name + b"\r\n") == OK
    assert admin.ask(b"status\n") == b".\n"


def test_of_two_functions_the_one_of_that_very_name_is_dropped(rig: Rig, admin: Wire) -> None:
    admin.send(b"create function NAME\ncreate function name\n")
    admin.received()
    assert admin.ask(b"drop function name\n") == OK
    assert list(rig.broker.functions) == [b"NAME"]


def test_a_function_with_a_worker_is_not_dropped(rig: Rig, admin: Wire) -> None:
    worker = rig.worker(b"f")
    assert admin.ask(b"drop function f\n") == IN_USE
    worker.leave()
    assert admin.ask(b"drop function f\n") == OK


@pytest.mark.parametrize("what", ["queued", "running", "unwanted", "delayed"])
def test_a_function_with_a_job_is_not_dropped(rig: Rig, admin: Wire, what: str) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    if what == "delayed":
        client.send(request(p.SUBMIT_JOB_EPOCH, b"f", b"", b"9999999999", b""))
    else:
        client.submit(b"f")
    if what in ("running", "unwanted"):
        worker.grab()
    worker.send(request(p.CANT_DO, b"f"))
    if what == "unwanted":
        client.leave()
    assert admin.ask(b"drop function f\n") == IN_USE
    assert len(rig.broker.jobs) == 1


def test_a_worker_woken_for_a_dropped_function_comes_in_vain_and_serves_the_new_one(rig: Rig, admin: Wire) -> None:
    client, worker = rig.client(), rig.worker(b"f").send(SLEEP)
    client.submit(b"f")
    worker.send(request(p.CANT_DO, b"f"))
    client.leave()
    assert admin.ask(b"drop function f\n") == OK
    worker.received()
    handle = rig.client().submit(b"f")
    assert worker.send(GRAB).received() == [NO_JOB]
    rig.wait(5.0)
    assert worker.send(request(p.CAN_DO, b"f")).grab() == handle


# -- maxqueue


def fill(client: Wire, number: int = p.SUBMIT_JOB, most: int = 9) -> int:
    """How many more jobs of `f` are taken."""
    for count in range(most):
        client.send(request(number, b"f", b"", b""))
        if client.received() == [FULL]:
            return count
    return most


@pytest.mark.parametrize(
    ("words", "high", "normal", "low"),
    [
        (b"3", 3, 3, 3),
        (b"1 2 3", 1, 2, 3),
        (b"3 0 1", 3, 9, 1),
        (b"", 9, 9, 9),
        (b"0", 9, 9, 9),
        (b"-1", 9, 9, 9),
        (b"-99 2 -1", 9, 2, 9),
        (b"0003", 3, 3, 3),
        (b"9" * 300, 9, 9, 9),
        (b"9" * 5000, 9, 9, 9),  # more digits than `int` takes
        (b"0" * 5000 + b"3", 3, 3, 3),
        (b"-" + b"9" * 5000, 9, 9, 9),
    ],
)
def test_maxqueue_limits_each_priority(admin: Wire, words: bytes, high: int, normal: int, low: int) -> None:
    for number, most in ((p.SUBMIT_JOB_HIGH, high), (p.SUBMIT_JOB, normal), (p.SUBMIT_JOB_LOW_BG, low)):
        rig = Rig(line_max=8 * 1024)
        admin, client = rig.connect(b"create function f\n"), rig.client()
        admin.received()
        assert admin.ask(b"maxqueue f " + words + b"\r\n") == OK
        assert fill(client, number) == most


@pytest.mark.parametrize("words", [b"junk", b"1x", b"-", b"--1", b"1.5", b"+1", b"1\t2", "٣".encode(), b"1 2 x"])
def test_a_limit_that_is_no_number_changes_nothing(rig: Rig, admin: Wire, words: bytes) -> None:
    admin.ask(b"create function f\nmaxqueue f 3\n")
    assert admin.ask(b"maxqueue f " + words + b"\n") == incomplete(b"maxqueue")
    assert fill(rig.client()) == 3


def test_a_name_with_a_tab_is_one_word(rig: Rig, admin: Wire) -> None:
    """Perl's programs with a prefix have such functions."""
    assert admin.ask(b"create function a\tb\n") == OK
    assert admin.ask(b"maxqueue a\tb 1\n") == OK
    client = rig.client()
    client.submit(b"a\tb")
    client.send(request(p.SUBMIT_JOB, b"a\tb", b"", b""))
    assert client.received() == [FULL]
    client.leave()
    assert admin.ask(b"drop function a\tb\n") == OK


def test_the_limit_counts_all_jobs_of_the_function_running_and_delayed_ones_too(rig: Rig, admin: Wire) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    client.submit(b"f", number=p.SUBMIT_JOB_HIGH)
    client.submit(b"f", number=p.SUBMIT_JOB_LOW)
    worker.grab()
    client.send(request(p.SUBMIT_JOB_EPOCH, b"f", b"", b"9999999999", b""))
    client.received()
    admin.ask(b"maxqueue f 3\n")
    assert (fill(client), rig.changes[1:]) == (0, [])
    assert client.submit(b"g")  # another function has no such limit
    admin.ask(b"maxqueue f 4\n")
    assert fill(client) == 1
    admin.ask(b"maxqueue f\n")
    assert fill(client) == 9


def test_the_limit_holds_for_every_kind_of_submission(rig: Rig, admin: Wire) -> None:
    client = rig.client()
    client.submit(b"f")
    admin.ask(b"maxqueue f 1\n")
    client.send(
        request(p.SUBMIT_JOB_EPOCH, b"f", b"", b"9999999999", b""),
        request(p.SUBMIT_REDUCE_JOB, b"f", b"", b"r", b"", b""),
        request(p.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"", b"r", b"", b""),
    )
    assert client.received() == [FULL] * 3
    assert rig.changes == []


def test_a_duplicate_is_taken_though_the_queue_is_full(rig: Rig, admin: Wire) -> None:
    client = rig.client()
    handle = client.submit(b"f", unique=b"key")
    admin.ask(b"maxqueue f 1\n")
    assert fill(client) == 0
    assert client.submit(b"f", unique=b"key", number=p.SUBMIT_JOB_BG) == handle


def test_a_lowered_limit_takes_nothing_away(rig: Rig, admin: Wire) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handles = [client.submit(b"f") for _ in range(3)]
    admin.ask(b"maxqueue f 1\n")
    worker.grab()
    worker.leave()  # coming back is no new job
    assert [rig.worker(b"f").grab() for _ in range(3)] == handles


def test_a_dropped_function_loses_its_limit(rig: Rig, admin: Wire) -> None:
    admin.send(b"create function f\nmaxqueue f 1\ndrop function f\ncreate function f\n")
    assert fill(rig.client()) == 9


# -- cancel


def cancel(admin: Wire, handle: bytes) -> bytes:
    return admin.ask(b"cancel job " + handle + b"\n")


@pytest.mark.parametrize("number", [p.SUBMIT_JOB_HIGH, p.SUBMIT_JOB_HIGH_BG], ids=["foreground", "background"])
def test_a_queued_job_is_cancelled(rig: Rig, admin: Wire, number: int) -> None:
    client, other, worker = rig.client(), rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key", number=number)
    other.submit(b"f", unique=b"key")
    assert cancel(admin, handle) == OK
    failed = [response(p.WORK_FAIL, handle)]
    assert other.received() == failed
    assert client.received() == (failed if number == p.SUBMIT_JOB_HIGH else [])
    assert rig.changes[1:] == ([] if number == p.SUBMIT_JOB_HIGH else [Forget(first_id(1))])
    assert cancel(admin, handle) == b"ERR UNKNOWN_JOB\r\n"
    assert worker.send(GRAB).received() == [NO_JOB]
    assert client.submit(b"f", unique=b"key") != handle
    assert not other.peer.watches


def test_a_delayed_job_is_cancelled(rig: Rig, admin: Wire) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    client.send(request(p.SUBMIT_JOB_EPOCH, b"f", b"key", b"105", b""))
    (created,) = client.received()
    handle = client.submit(b"f", unique=b"key")
    assert created == response(p.JOB_CREATED, handle)
    assert cancel(admin, handle) == OK
    assert client.received() == [response(p.WORK_FAIL, handle)]
    assert rig.changes[1:] == [Forget(first_id(1))]
    assert rig.broker.next_deadline() is None
    rig.wait(10.0)
    assert worker.send(GRAB).received() == [NO_JOB]
    assert admin.ask(b"status\n") == b"f\t0\t0\t1\n.\n"


@pytest.mark.parametrize("number", [p.SUBMIT_JOB, p.SUBMIT_JOB_BG], ids=["foreground", "background"])
@pytest.mark.parametrize("end", [p.WORK_COMPLETE, p.WORK_FAIL, p.WORK_EXCEPTION, 0])
def test_a_running_job_is_cancelled_and_its_late_end_absorbed(rig: Rig, admin: Wire, number: int, end: int) -> None:
    client, joiner, worker = rig.client(b"exceptions"), rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key", number=number)
    joiner.submit(b"f", unique=b"key")
    worker.grab()
    assert cancel(admin, handle) == OK
    assert joiner.received() == [response(p.WORK_FAIL, handle)]
    assert len(client.received()) == (number == p.SUBMIT_JOB)
    forgotten = [Forget(first_id(1))] if number == p.SUBMIT_JOB_BG else []
    assert rig.changes[1:] == forgotten  # at once: its worker may never answer
    assert admin.ask(b"show jobs\n") == handle + b"\t0\t1\t0\n.\n"
    assert cancel(admin, handle) == b"ERR UNKNOWN_JOB\r\n"
    assert joiner.submit(b"f", unique=b"key") != handle
    if end:
        worker.send(request(p.WORK_DATA, handle, b"x"), request(end, handle, *([] if end == p.WORK_FAIL else [b"x"])))
        assert worker.received() == []
    else:
        worker.leave()
    assert (client.received(), joiner.received(), rig.changes[1:]) == ([], [], forgotten)
    assert handle not in rig.broker.jobs


def test_a_farm_worker_is_told_of_the_cancel_and_a_stock_one_is_not(rig: Rig, admin: Wire) -> None:
    client = rig.client()
    for option, told in ((b"farm-1", True), (b"exceptions", False)):
        handle = client.submit(b"f")
        worker = rig.client(option)
        worker.send(request(p.CAN_DO, b"f"))
        worker.grab()
        assert cancel(admin, handle) == OK
        assert worker.received() == ([response(p.FARM_JOB_CANCEL, handle)] if told else [])
        assert client.received() == [response(p.WORK_FAIL, handle)]


def test_a_background_joiner_makes_the_cancel_forget(rig: Rig, admin: Wire) -> None:
    client = rig.client()
    handle = client.submit(b"f", unique=b"key")
    client.submit(b"f", unique=b"key", number=p.SUBMIT_JOB_BG)
    cancel(admin, handle)
    assert client.received() == [response(p.WORK_FAIL, handle)]
    assert [type(change).__name__ for change in rig.changes] == ["Save", "Forget"]


def test_cancel_when_the_wake_up_is_under_way(rig: Rig, admin: Wire) -> None:
    first, second = (rig.worker(b"f").send(SLEEP) for _ in range(2))
    client = rig.client()
    cancel(admin, client.submit(b"f"))
    assert first.received() == [NOOP]
    assert first.send(GRAB, SLEEP).received() == [NO_JOB]
    client.received()
    handle = client.submit(b"f")
    assert second.received() == [NOOP]
    assert second.grab() == handle


def test_a_cancelled_jobs_key_survives_its_successor(rig: Rig, admin: Wire) -> None:
    """The end of the cancelled one must not make the new one of the same key unjoinable."""
    client, worker = rig.client(), rig.worker(b"f")
    old = client.submit(b"f", unique=b"key")
    worker.grab()
    cancel(admin, old)
    client.received()
    new = client.submit(b"f", unique=b"key")
    worker.send(request(p.WORK_COMPLETE, old, b""))
    assert client.submit(b"f", unique=b"key") == new


# -- shutdown


@pytest.mark.parametrize(
    ("line", "answer", "shutdown"),
    [
        (b"shutdown\n", OK, "now"),
        (b"SHUTDOWN Graceful\r\n", OK, "graceful"),
        (b"shutdown soon\n", incomplete(b"shutdown"), ""),
        (b"shutdown graceful now\n", incomplete(b"shutdown"), ""),
    ],
)
def test_shutdown_where_it_is_allowed(rig: Rig, line: bytes, answer: bytes, shutdown: str) -> None:
    admin, asked = rig.connect(), list[str]()
    admin.peer.may_stop = True
    turn = rig.turn

    def watching() -> None:
        asked.append(rig.broker.effects.shutdown)
        turn()

    rig.turn = watching  # type: ignore[method-assign]
    assert (admin.ask(line), asked) == (answer, [shutdown])


def test_a_wish_to_end_is_an_effect() -> None:
    effects = Effects()
    assert not effects
    effects.shutdown = "now"
    assert effects
