"""Questions about jobs, and the commands that change them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.broker.asks import beyond
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench_life import Asker, Life, completes, fails, packet


def test_a_stock_peer_cannot_ask(life: Life) -> None:
    stock = life.client()
    for number, parts in ((p.FARM_ASK, (b"jobs", b"{}", b"")), (p.FARM_SUBMIT, (b"f", b"", b"", b""))):
        stock.send(request(number, *parts))
        assert packet(stock.received()[0])[1].startswith(b"INVALID_COMMAND")
    assert life.broker.jobs == {}


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        (b"nonsense", b"{}"),
        (b"jobs", b"no json"),
        (b"jobs", b"[]"),
        (b"jobs", b"[" * 60_000),
        (b"jobs", b'{"limit": "5"}'),
        (b"jobs", b'{"limit": -1}'),
        (b"jobs", b'{"limit": true}'),
        (b"jobs", b'{"limit": 1e999}'),
        (b"jobs", b'{"states": ["lost"]}'),
        (b"jobs", b'{"before": "ended:-1"}'),
        (b"jobs", b'{"before": "live:99999999999999999999999"}'),
        (b"job", b"{}"),
        (b"job", b'{"id": 5}'),
        (b"cancel", b'{"ids": "H:1:1"}'),
        (b"cancel", b'{"ids": [1]}'),
        (b"function", b'{"function": "f", "set": {"colour": "red"}}'),
        (b"function", b'{"function": "f", "set": {"retries": "5 timeout=1"}}'),
        (b"function", b'{"function": "f", "set": {"retries": 5}}'),
        (b"function", b'{"function": "f", "set": {"retries": "-1"}}'),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(client: Asker, verb: bytes, text: bytes) -> None:
    client.wire.send(request(p.FARM_ASK, verb, text, b""))
    number, body = packet(client.wire.received()[-1])
    assert (number, body.partition(b"\0")[0]) == (p.ERROR, b"INVALID_REQUEST")
    assert not client.life.changes


@pytest.mark.parametrize(
    "words",
    [
        b"colour=red",
        b"retries",
        b"retries=1 retries=2",
        b"retries=-1",
        b"retries=99999999999",
        b"timeout=soon",
        b"timeout=nan",
        b"in=-5",
        b"priority=urgent",
        b"background=yes",
        b"if-exists=maybe",
        b"retry-on=0",
        b"retry-on=5-1",
        b"retry-on=never",
        b"after=ok",
        b"after=good:H:1:1",
        b"after=" + b",".join(b"ok:H:1:%d" % n for n in range(65)),
        b"timeout=" + b"1" * 5000,
    ],
)
def test_strange_terms_are_refused(client: Asker, words: bytes) -> None:
    client.wire.send(request(p.FARM_SUBMIT, b"f", b"", words, b""))
    number, body = packet(client.wire.received()[-1])
    assert (number, body.partition(b"\0")[0]) == (p.ERROR, b"INVALID_REQUEST")
    assert client.life.broker.jobs == {}


def test_handles_are_found_by_their_beginning_their_number_and_last(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handles = [client.submit(b"f") for _ in range(12)]
    completes(worker, worker.grab())
    shard = handles[0].split(b":")[1].decode()

    def find(text: str) -> list[str]:
        return list(client.ask("find", text=text)["ids"])

    first, second = handles[0].decode(), handles[1].decode()
    assert find(first) == [first]
    assert find("last") == [handles[-1].decode()]
    assert find("12") == [handles[11].decode()]
    assert find("1") == [first]  # the ended one: a whole number is meant
    assert find("2") == [second]
    assert find(f"{shard}:2") == [second]
    assert find(f"H:{shard}:12") == [handles[11].decode()]
    assert len(find(f"H:{shard[:2]}")) == 10
    assert find("99") == find("H:zz") == find("x") == []
    assert find(shard) == find("H") == [], "what has no colon is no beginning of a handle"


def test_an_ended_job_of_any_earlier_life_is_found_by_its_number() -> None:
    """Also of one that is many lives back; the lives between may have left nothing."""
    life = Life()
    handles = []
    for number in range(60):
        if number in (0, 5, 30, 59):
            worker, client = life.worker(b"f"), life.farm_client()
            handles.append(client.submit(b"f"))
            completes(worker, worker.grab())
        life = life.again()
    found = life.farm_client().ask("find", text="1")["ids"]
    assert found == [handle.decode() for handle in reversed(handles)]
    assert life.farm_client().ask("find", text="2")["ids"] == []
    assert life.farm_client().ask("find", text="0")["ids"] == []


def test_a_listing_goes_page_by_page_live_jobs_first(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    ended = [client.submit(b"f") for _ in range(5)]
    for _ in ended:
        completes(worker, worker.grab())
    live = [client.submit(b"f") for _ in range(5)]
    listed, before = [], "live:"
    while before:
        page = client.ask("jobs", limit=3, before=before)
        assert len(page["jobs"]) <= 3
        listed += [job["id"].encode() for job in page["jobs"]]
        before = page["more"]
    assert listed == [*reversed(live), *reversed(ended)]


def test_a_listing_by_state_function_and_time(life: Life, client: Asker) -> None:
    worker = life.worker(b"f", b"g")
    dead = client.submit(b"f")
    fails(worker, worker.grab(), 1)
    life.wait(10)
    later = client.submit(b"g")
    delayed = client.submit(b"f", b"background=1 in=60")

    def ids(**fields: object) -> list[str]:
        return [job["id"] for job in client.ask("jobs", **fields)["jobs"]]

    assert ids(states=["dead"]) == [dead.decode()]
    assert ids(states=["queued"]) == [later.decode()]
    assert ids(states=["queued", "dead"]) == [later.decode(), dead.decode()]
    assert ids(function="f") == [delayed.decode(), dead.decode()]
    assert ids(since=life.wall - 5) == [delayed.decode(), later.decode()]


def test_output_is_told_beyond_what_is_there_and_when_there_is_more(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f")

    def ask(number: int, result: int, log: int, wait: bool) -> list[tuple[int, bytes]]:
        text = {"id": handle.decode(), "number": number, "result": result, "log": log, "wait": wait}
        client.wire.send(request(p.FARM_ASK, b"output", json.dumps(text).encode(), b""))
        return heard()

    def heard() -> list[tuple[int, bytes]]:
        return [packet(raw) for raw in client.wire.received()]

    assert ask(0, 0, 0, True) == []
    worker.grab()
    worker.send(request(p.WORK_DATA, handle, b"abc"))
    said = heard()
    assert said[0] == (p.FARM_OUTPUT, handle + b"\0result\0abc")
    assert said[1] == (p.FARM_OUTPUT, handle + b"\0log\0")
    assert ask(1, 3, 0, True) == []
    worker.send(request(p.WORK_WARNING, handle, b"err"))
    assert [body for _, body in heard()[:2]] == [handle + b"\0result\0", handle + b"\0log\0err"]
    assert ask(1, 3, 3, True) == []
    completes(worker, handle, b"def")
    said = heard()
    assert [body for _, body in said[:2]] == [handle + b"\0result\0def", handle + b"\0log\0"]
    assert json.loads(said[2][1].partition(b"\0")[2])["job"]["state"] == "done"


def test_cancel_a_queued_a_running_and_an_ended_one(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    stock = life.worker(b"f")
    told, unheard, queued = (client.submit(b"f") for _ in range(3))
    worker.grab()
    stock.grab()
    answer = client.ask(
        "cancel", ids=[told.decode(), unheard.decode(), queued.decode(), "H:1:9"], reason="  enough\nnow "
    )
    assert [result["outcome"] for result in answer["results"]] == ["told", "unheard", "cancelled", "unknown"]
    assert worker.received() == [response(p.FARM_JOB_CANCEL, told)]
    for handle in (told, unheard, queued):
        job = client.job(handle)
        assert (job["state"], job["reason"]) == ("cancelled", "enough now")
    completes(stock, unheard, b"late")
    assert client.state(unheard) == "cancelled"
    assert client.ask("cancel", ids=[queued.decode()])["results"][0]["outcome"] == "ended"
    assert life.again().broker.jobs == {}


def test_a_dead_job_is_run_again_under_its_handle_with_all_its_retries(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=1 backoff=1", unique=b"k", payload=b"input")
    for _ in range(2):
        life.wait(2)
        worker.grab()
        fails(worker, handle, 1)
    assert client.state(handle) == "dead"
    assert client.ask("retry", ids=[handle.decode()])["results"] == [{"id": handle.decode(), "outcome": "queued"}]
    assert client.ask("retry", ids=[handle.decode()])["results"][0]["outcome"] == "live"
    life = life.again()
    client, worker = life.farm_client(), life.worker(b"f")
    worker.send(request(p.GRAB_JOB_UNIQ))
    assert packet(worker.received()[-1])[1] == handle + b"\0f\0k\0input"
    fails(worker, handle, 1)
    assert client.state(handle) == "delayed"
    life.wait(2)
    worker.grab()
    completes(worker, handle)
    job = client.job(handle)
    assert (job["state"], [attempt["number"] for attempt in job["attempts_list"]]) == ("done", [1, 2, 3, 4])
    assert client.ask("retry", ids=[handle.decode()])["results"][0]["outcome"] == "done"


def test_purge_forgets_ended_jobs_only(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle, live = client.submit(b"f"), client.submit(b"f")
    worker.grab()
    fails(worker, handle, 1)
    answer = client.ask("purge", ids=[handle.decode(), live.decode(), "H:1:9"])
    assert [result["outcome"] for result in answer["results"]] == ["purged", "live", "unknown"]
    assert client.refused("job", id=handle.decode()) == b"JOB_NOT_FOUND"


def test_a_paused_function_gives_no_jobs_and_keeps_that_over_a_restart(life: Life, client: Asker) -> None:
    client.ask("pause", function="f")
    handle = client.submit(b"f")
    worker = life.worker(b"f", b"g")
    other = client.submit(b"g")
    assert worker.grab() == other
    completes(worker, other)
    worker.send(request(p.GRAB_JOB), request(p.PRE_SLEEP))
    assert worker.received() == [response(p.NO_JOB)]
    life = life.again()
    client, worker = life.farm_client(), life.worker(b"f")
    worker.send(request(p.PRE_SLEEP))
    assert [reason["code"] for reason in client.ask("explain", id=handle.decode())["reasons"]] == ["paused"]
    assert worker.received() == []
    client.ask("resume", function="f")
    assert worker.received() == [response(p.NOOP)]
    assert worker.grab() == handle


def test_settings_are_set_shown_taken_back_and_kept(life: Life, client: Asker) -> None:
    client.ask("function", function="f", set={"retries": "5", "timeout": "60", "retry-on": "75,signal"})
    client.ask("function", function="f", set={"timeout": None, "expires": "3600"})
    wanted = {"retries": "5", "retry-on": "75,signal", "expires": "3600"}
    for _ in range(2):
        (shown,) = client.ask("functions")["functions"]
        assert shown["settings"] == client.ask("function", function="f")["function"]["settings"] == wanted
        life = life.again()
        client = life.farm_client()
    assert client.refused("function", function="nobody") == b"UNKNOWN_FUNCTION"


def test_other_machines_may_look_and_change_nothing(life: Life, client: Asker) -> None:
    client.submit(b"f")
    client.wire.peer.may_change = False
    assert client.ask("jobs")["jobs"]
    for verb, fields in (
        ("cancel", {"ids": []}),
        ("retry", {"ids": []}),
        ("purge", {"ids": []}),
        ("pause", {"function": "f"}),
        ("function", {"function": "f", "set": {}}),
    ):
        assert client.refused(verb, **fields) == b"PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("terms", "code"),
    [(b"background=1", "no-worker"), (b"background=1 in=60", "delayed")],
)
def test_why_it_does_not_run(client: Asker, terms: bytes, code: str) -> None:
    handle = client.submit(b"f", terms)
    assert client.ask("explain", id=handle.decode())["reasons"][0]["code"] == code


def test_why_it_does_not_run_though_there_are_workers(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handles = [client.submit(b"f", b"background=1 retries=1 backoff=60") for _ in range(4)]
    worker.grab()

    def code(handle: bytes) -> object:
        return client.ask("explain", id=handle.decode())["reasons"][0]

    assert code(handles[0])["code"] == "running"  # type: ignore[index]
    assert code(handles[1])["code"] == "next"  # type: ignore[index]
    assert code(handles[3])["ahead"] == client.job(handles[3])["ahead"] == 2  # type: ignore[index]
    fails(worker, handles[0], 1)
    assert code(handles[0])["code"] == "back-off"  # type: ignore[index]
    waiting = client.submit(b"f", b"background=1 after=ok:" + handles[1])
    assert code(waiting)["id"] == handles[1].decode()  # type: ignore[index]


@given(st.lists(st.binary(max_size=4), max_size=6), st.integers(0, 30))
def test_what_is_beyond_what_is_there(pieces: list[bytes], have: int) -> None:
    whole = b"".join(pieces)
    assert beyond(pieces, len(whole), have) == whole[have:]


def test_a_question_costs_what_is_new(life: Life, client: Asker) -> None:
    """Whoever follows a job asks after each piece; the earlier ones are not looked at again."""

    class Seen(list[bytes]):
        looked_at = 0

        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("all of it")

        def __reversed__(self) -> Iterator[bytes]:
            for index in range(len(self) - 1, -1, -1):
                self.looked_at += 1
                yield self[index]

    worker = life.worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    worker.send(request(p.WORK_DATA, handle, b"x"))
    report = life.broker.jobs[handle].report
    assert report is not None
    seen = report.result = Seen(report.result)
    for _ in range(300):
        worker.send(request(p.WORK_DATA, handle, b"abc"))
    text = {"id": handle.decode(), "number": 1, "result": 898, "log": 0}
    client.wire.send(request(p.FARM_ASK, b"output", json.dumps(text).encode(), b""))
    assert packet(client.wire.received()[0]) == (p.FARM_OUTPUT, handle + b"\0result\0abc")
    assert seen.looked_at <= 2
    assert client.job(handle)["result_bytes"] == 901
