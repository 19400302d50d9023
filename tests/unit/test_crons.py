"""Cron entries in the broker: what is asked, what is submitted; a crash neither loses a run nor repeats one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farm.broker import crons
from farm.broker.effects import Change, CronGone, CronRow, Save
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench_life import KEEPING, WALL, Asker, Life, completes, fails, packet

HOUR, DAY = 3600.0, 86400.0
REPLACED = "replaced by the next run of cron entry e"


@pytest.fixture
def life() -> Life:
    """The wall clock shows a quarter to an hour, UTC."""
    found = Life(now=-WALL % HOUR + HOUR * 3 / 4)
    assert found.wall % HOUR == 2700.0
    return found


@pytest.fixture
def client(life: Life) -> Asker:
    return life.farm_client()


def add(client: Asker, payload: bytes = b"", **fields: object) -> Any:
    """Add an entry; every hour where it does not say."""
    asked = {"name": "e", "line": "0 * * * *", "function": "f", **fields}
    client.wire.send(request(p.FARM_ASK, b"cron add", json.dumps(asked).encode(), payload))
    number, body = packet(client.wire.received()[-1])
    assert number == p.FARM_ANSWER, body
    return json.loads(body.partition(b"\0")[2])


def refusal(client: Asker, payload: bytes = b"", **fields: object) -> tuple[bytes, str]:
    """Code and text of the ERROR for such an entry."""
    asked = {"name": "e", "line": "0 * * * *", "function": "f", **fields}
    client.wire.send(request(p.FARM_ASK, b"cron add", json.dumps(asked).encode(), payload))
    number, body = packet(client.wire.received()[-1])
    assert number == p.ERROR, body
    code, _, text = body.partition(b"\0")
    return code, text.decode()


def shown(client: Asker) -> Any:
    """The only entry."""
    (entry,) = client.ask("cron")["entries"]
    return entry


def notes(client: Asker) -> list[tuple[bool, str | None]]:
    """Of its runs, oldest first: whether there is a job, and the note."""
    return [(run["id"] is not None, run["note"]) for run in reversed(shown(client)["last"])]


def jobs(life: Life) -> list[bytes]:
    """The handles of all live jobs, oldest first."""
    return list(life.broker.jobs)


def set_clock(life: Life, seconds: float) -> None:
    """The wall clock is set by so much, and looked at."""
    life.broker.wall_offset += seconds
    life.broker.tick(life.now)
    life.turn()


def test_it_submits_a_background_job_with_its_payload_each_time(life: Life, client: Asker) -> None:
    added = add(client, b"the payload", terms={"priority": "high", "retries": "2"})["entry"]
    assert added["next_at"] == WALL + life.now + 900
    assert (added["payload_bytes"], added["last"], added["zone"], added["fault"]) == (11, [], "UTC", None)
    life.wait(899)
    assert not jobs(life)
    life.wait(1)
    (handle,) = jobs(life)
    job = client.job(handle)
    assert (job["function"], job["priority"], job["background"], job["retries"]) == ("f", "high", True, 2)
    worker = life.farm_worker(b"f")
    worker.send(request(p.GRAB_JOB))
    assert worker.received()[-1] == response(p.JOB_ASSIGN, handle, b"f", b"the payload")
    completes(worker, handle)
    life.wait(HOUR)
    assert len(jobs(life)) == 1 and jobs(life) != [handle]
    at = added["next_at"]
    assert [run["at"] for run in shown(client)["last"]] == [at + HOUR, at]


def test_a_worker_that_sleeps_is_woken(life: Life, client: Asker) -> None:
    add(client)
    worker = life.farm_worker(b"f")
    worker.send(request(p.PRE_SLEEP))
    life.wait(900)
    assert worker.received() == [response(p.NOOP)]


# -- what is refused


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"line": "61 * * * *"}, "not a cron line: bad minute in '61 * * * *'"),
        ({"line": "30 2 31 2 *"}, "this cron line never comes: '30 2 31 2 *'"),
        ({"line": "@reboot"}, "@reboot is no time"),
        ({"line": 5}, "line is no text"),
        ({"zone": "Mars/Olympus"}, "there is no time zone 'Mars/Olympus'"),
        ({"name": ""}, "The name of an entry is a word of at most 128 characters"),
        ({"name": "a b"}, "The name of an entry is a word of at most 128 characters"),
        ({"name": "a\u009bb"}, "The name of an entry is a word of at most 128 characters"),
        ({"name": "n" * 129}, "The name of an entry is a word of at most 128 characters"),
        ({"name": "\ud800"}, "The name of an entry is a word of at most 128 characters"),
        ({"overlap": "maybe"}, "overlap is none of skip, queue, replace"),
        ({"catch_up": "some"}, "catch_up is none of none, last, all"),
        (
            {"overlap": "replace", "catch_up": "all"},
            "With overlap replace only the last of the times that were missed can be caught up with",
        ),
        ({"terms": {"at": "5"}}, "A cron entry has no term at"),
        ({"terms": {"background": "0"}}, "A cron entry has no term background"),
        ({"terms": {"retries": 5}}, "Bad value of retries"),
        ({"terms": {"retries": "5 timeout=1"}}, "Bad value of retries"),
        ({"terms": {"retries": "-1"}}, "Bad value of retries: -1"),
        ({"terms": {"priority": "urgent"}}, "Bad value of priority: urgent"),
        ({"terms": []}, "terms is no object"),
        ({"entries": {}}, "entries is no list of at most 1000 objects"),
        ({"entries": [5]}, "entries is no list of at most 1000 objects"),
        ({"entries": [{"name": "x"}]}, "function is no text"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(client: Asker, fields: dict[str, object], text: str) -> None:
    assert refusal(client, **fields) == (b"INVALID_REQUEST", text)
    assert not client.life.changes and not client.life.broker.crons.entries
    assert not client.wire.closed


def test_bad_names_of_functions_and_keys_keep_the_connection(client: Asker) -> None:
    assert refusal(client, function="a b")[0] == b"INVALID_FUNCTION_NAME"
    assert refusal(client, unique="u" * 65) == (b"ARGUMENT_TOO_LARGE", "Unique value too large")
    assert not client.wire.closed and not client.life.broker.functions


def test_a_name_twice(life: Life, client: Asker) -> None:
    add(client, b"p")
    before = len(life.changes)
    assert add(client, b"p") and len(life.changes) == before  # the same again is no mistake
    assert refusal(client, b"other") == (b"CRON_EXISTS", "There is a cron entry e already")
    life.wait(900)
    replaced = add(client, b"other", line="30 * * * *", replace=True)["entry"]
    assert len(replaced["last"]) == 1 and replaced["next_at"] == life.wall + 1800
    life.wait(1800)
    assert notes(client) == [(True, None), (False, f"{jobs(life)[0].decode()} has not ended")]


def test_all_or_none(client: Asker) -> None:
    good = {"name": "a", "line": "@daily", "function": "f", "payload": "one"}
    assert refusal(client, entries=[good, {**good, "name": "b", "line": "x"}])[0] == b"INVALID_REQUEST"
    assert refusal(client, entries=[good, good]) == (b"INVALID_REQUEST", "Two entries have the same name")
    assert not client.life.changes
    added = add(client, entries=[good, {**good, "name": "b", "payload": "zwei \udcff"}])["entries"]
    assert [entry["name"] for entry in added] == ["a", "b"]
    assert [row.payload for row in client.life.journal.cron.values()] == [b"one", b"zwei \xff"]


def test_limits(life: Life, client: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crons, "ENTRIES_MAX", 2)
    monkeypatch.setattr(crons, "PAYLOADS_MAX", 100)
    add(client, b"x" * 60)
    assert refusal(client, b"x" * 41, name="g")[0] == b"QUEUE_ERROR"
    add(client, b"x" * 40, name="g")
    assert refusal(client, name="h") == (b"QUEUE_ERROR", "More than 2 cron entries")
    client.ask("cron remove", name="g")
    add(client, b"x" * 40, name="h")
    life.broker.no_room = "1 MiB free"
    client.ask("cron remove", name="h")
    assert refusal(client, name="h") == (b"QUEUE_ERROR", "Disk nearly full: 1 MiB free")


def test_from_another_machine_only_looking_is_allowed(client: Asker) -> None:
    add(client)
    client.wire.peer.may_change = False
    for verb in ("cron remove", "cron pause", "cron resume", "cron run"):
        assert client.refused(verb, name="e") == b"PERMISSION_DENIED"
    assert refusal(client)[0] == b"PERMISSION_DENIED"
    assert shown(client)["name"] == "e"


@pytest.mark.parametrize("verb", ["cron remove", "cron pause", "cron resume", "cron run"])
def test_no_such_entry(client: Asker, verb: str) -> None:
    assert client.refused(verb, name="nobody") == b"CRON_NOT_FOUND"


# -- by hand


def test_run_remove_pause_resume(life: Life, client: Asker) -> None:
    add(client)
    answer = client.ask("cron run", name="e")
    assert answer["id"] == jobs(life)[0].decode() and answer["entry"]["last"][0]["note"] == "by hand"
    assert client.ask("cron pause", name="e")["entry"]["next_at"] is None
    assert life.broker.next_deadline() is None
    life.wait(2 * HOUR)
    assert len(jobs(life)) == 1
    assert client.ask("cron run", name="e")["id"] == jobs(life)[1].decode()  # also while it is paused
    assert client.ask("cron resume", name="e")["entry"]["next_at"] == life.wall + 900  # what was paused is not missed
    gone = client.ask("cron remove", name="e")["entry"]
    assert gone["name"] == "e" and client.ask("cron")["entries"] == []
    life.wait(2 * HOUR)
    assert len(jobs(life)) == 2


def test_what_was_done_is_durable_before_it_is_said(life: Life, client: Asker) -> None:
    add(client)
    client.wire.send(request(p.FARM_ASK, b"cron run", b'{"name": "e"}', b""))
    assert isinstance(life.changes[-2], Save) and isinstance(life.changes[-1], CronRow)
    for verb in (b"cron pause", b"cron remove"):
        peer = client.wire.peer
        from farm.broker import dispatch

        dispatch.receive(life.broker, peer, p.FARM_ASK, verb + b'\0{"name": "e"}\0', life.now)
        assert life.broker.effects.promises == [len(life.broker.effects.sends) - 1]
        life.turn()
    assert isinstance(life.changes[-1], CronGone)


# -- runs that overlap


def test_skip_until_the_job_has_ended(life: Life, client: Asker) -> None:
    add(client)
    worker = life.farm_worker(b"f")
    life.wait(900)
    handle = worker.grab()
    life.wait(HOUR)
    assert notes(client) == [(True, None), (False, f"{handle.decode()} has not ended")]
    completes(worker, handle)
    life.wait(HOUR)
    assert notes(client)[-1] == (True, None)


def test_a_job_that_is_to_be_tried_again_has_not_ended(life: Life, client: Asker) -> None:
    add(client, terms={"retries": "5", "backoff": "7200"})
    worker = life.farm_worker(b"f")
    life.wait(900)
    handle = worker.grab()
    fails(worker, handle, 3)
    life.wait(HOUR)
    assert notes(client)[-1] == (False, f"{handle.decode()} has not ended")


def test_queue_runs_one_after_the_other(life: Life, client: Asker) -> None:
    add(client, overlap="queue")
    workers = [life.farm_worker(b"f") for _ in range(3)]
    life.wait(900)
    first = workers[0].grab()
    life.wait(2 * HOUR)
    _, second, third = jobs(life)
    assert (client.state(second), client.state(third)) == ("waiting", "waiting")
    fails(workers[0], first, 1)
    assert (client.state(second), client.state(third)) == ("queued", "waiting")
    assert workers[1].grab() == second
    completes(workers[1], second)
    assert workers[2].grab() == third


def test_replace_ends_the_one_before(life: Life, client: Asker) -> None:
    add(client, overlap="replace")
    worker = life.farm_worker(b"f")
    life.wait(900)
    first = worker.grab()
    life.wait(HOUR)
    assert response(p.FARM_JOB_CANCEL, first) in worker.received()
    record = client.job(first)
    assert (record["state"], record["reason"]) == ("cancelled", REPLACED)
    assert notes(client) == [(True, None), (True, None)]
    (second,) = [handle for handle in jobs(life) if handle != first]
    assert client.state(second) == "waiting"
    fails(worker, first, 143)
    assert client.state(second) == "queued"


def test_replace_waits_for_all_commands_that_are_being_stopped(life: Life, client: Asker) -> None:
    """Also for one that somebody started by hand."""
    add(client, overlap="replace")
    workers = [life.farm_worker(b"f") for _ in range(2)]
    life.wait(900)
    running = [workers[0].grab(), client.ask("cron run", name="e")["id"].encode()]
    assert workers[1].grab() == running[1]
    life.wait(HOUR)
    (last,) = [handle for handle in jobs(life) if handle not in running]
    assert client.state(last) == "waiting"
    fails(workers[1], running[1], 143)
    assert client.state(last) == "waiting"
    fails(workers[0], running[0], 143)
    assert client.state(last) == "queued"


@pytest.mark.parametrize(("overlap", "note"), [("skip", "{} has not ended"), ("queue", None)])
def test_a_cancelled_run_overlaps_until_its_command_is_gone(
    life: Life, client: Asker, overlap: str, note: str | None
) -> None:
    add(client, overlap=overlap)
    worker = life.farm_worker(b"f")
    life.wait(900)
    first = worker.grab()
    life.wait(HOUR - 5)
    client.ask("cancel", ids=[first.decode()])
    assert client.state(first) == "cancelled"
    life.wait(6)
    assert notes(client)[-1] == (overlap == "queue", note and note.format(first.decode()))
    (*_, last) = jobs(life)
    assert client.state(last) == ("cancelled" if overlap == "skip" else "waiting")
    fails(worker, first, 143)
    assert client.state(last) == ("cancelled" if overlap == "skip" else "queued")


def test_run_by_hand_waits_for_nobody(life: Life, client: Asker) -> None:
    add(client)
    worker = life.farm_worker(b"f")
    life.wait(900)
    first = worker.grab()
    client.ask("cancel", ids=[first.decode()])
    assert client.state(client.ask("cron run", name="e")["id"].encode()) == "queued"


def test_a_key(life: Life, client: Asker) -> None:
    """Its jobs join another of their key, as any submission does."""
    add(client, unique="k")
    other = client.submit(b"f", unique=b"k")
    life.wait(900)
    assert jobs(life) == [other]
    assert shown(client)["last"][0] | {"at": 0} == {"at": 0, "id": other.decode(), "note": "joined one of its key"}


def test_a_key_that_counts_although_its_job_has_ended(life: Life, client: Asker) -> None:
    add(client, unique="k")
    worker = life.farm_worker(b"f")
    client.submit(b"f", b"background=1 unique-for=7200", b"k")
    completes(worker, worker.grab())
    life.wait(900)
    assert notes(client) == [(False, "its key still counts as that of a job that has ended")]


def test_no_room_is_noted_and_the_next_time_is_another_chance(life: Life, client: Asker) -> None:
    add(client)
    life.broker.no_room = "1 MiB free"
    life.wait(900)
    assert notes(client) == [(False, "Disk nearly full: 1 MiB free")]
    life.broker.no_room = ""
    life.wait(HOUR)
    assert notes(client)[-1] == (True, None)


# -- restarts and clocks


def rows(changes: list[Change]) -> list[type]:
    return [type(change) for change in changes if isinstance(change, Save | CronRow)]


def test_the_job_and_that_its_time_is_decided_about_are_kept_together(life: Life, client: Asker) -> None:
    add(client)
    before = len(life.changes)
    life.now += 900
    life.broker.tick(life.now)
    assert rows(life.broker.effects.changes) == [Save, CronRow]  # of one turn, and so of one commit
    life.turn()
    assert rows(life.changes[before:]) == [Save, CronRow]


@pytest.mark.parametrize("kept", [True, False])
def test_killed_around_the_time(life: Life, client: Asker, kept: bool) -> None:
    """Before its commit or after it: one job either way."""
    add(client, b"payload")
    life.now += 900
    life.broker.tick(life.now)
    if kept:
        life.turn()
    again = life.again()
    again.wait(1)
    assert len(again.broker.jobs) == 1
    assert notes(again.farm_client()) == [(True, None)]
    worker = again.farm_worker(b"f")
    worker.send(request(p.GRAB_JOB))
    assert worker.received()[-1].endswith(b"payload")


@pytest.mark.parametrize(
    ("catch_up", "away", "wanted"),
    [
        ("none", 900 + 60, [(True, None)]),
        ("none", 900 + 61, [(False, "was missed")]),
        ("none", 900 + 3 * HOUR, [(False, "3 were missed"), (True, None)]),
        ("last", 900 + 3 * HOUR + 600, [(False, "3 were missed"), (True, "600 s late")]),
        ("all", 900 + HOUR + 120, [(True, "3720 s late"), (True, "120 s late")]),
    ],
)
def test_the_server_was_away(life: Life, client: Asker, catch_up: str, away: float, wanted: object) -> None:
    add(client, catch_up=catch_up)
    life.now += away
    again = life.again()
    again.wait(0)
    assert notes(again.farm_client()) == wanted
    again.wait(59)
    assert notes(again.farm_client()) == wanted


def test_the_same_when_only_the_clock_jumps(life: Life, client: Asker) -> None:
    add(client, catch_up="all")
    set_clock(life, 900 + HOUR)
    assert notes(client) == [(True, "3600 s late"), (True, None)]
    first, second = jobs(life)
    assert (client.state(first), client.state(second)) == ("queued", "waiting")


def test_set_back_within_a_day_nothing_runs_twice_and_nothing_is_lost(life: Life, client: Asker) -> None:
    add(client)
    worker = life.farm_worker(b"f")
    life.wait(900)
    completes(worker, worker.grab())
    set_clock(life, -2 * HOUR)
    again = life.again()
    again.broker.wall_offset -= 2 * HOUR
    asker = again.farm_client()
    again.wait(3 * HOUR - 1)
    assert notes(asker) == [(True, None)]
    again.wait(1)
    assert notes(asker) == [(True, None), (True, None)]


def test_a_clock_that_was_wrong_by_years(life: Life, client: Asker) -> None:
    """It is noticed without anybody coming, and the entry goes on."""
    add(client)
    set_clock(life, 3650 * DAY)
    assert len(notes(client)) >= 1
    set_clock(life, -3650 * DAY)
    assert notes(client)[-1] == (False, "the clock was set back by more than a day: starts afresh")
    entry = shown(client)
    assert entry["next_at"] == life.wall + 900 and entry["created_at"] <= life.wall
    before = len(life.changes)
    set_clock(life, 0)
    assert len(life.changes) == before, "once"
    for handle in jobs(life):
        client.ask("cancel", ids=[handle.decode()])
    life.wait(900)
    assert notes(client)[-1] == (True, None)


def test_an_entry_made_while_the_clock_was_wrong(life: Life, client: Asker) -> None:
    set_clock(life, 3650 * DAY)
    add(client)
    set_clock(life, -3650 * DAY)
    assert shown(client)["next_at"] == life.wall + 900


def test_nights_in_berlin(life: Life, client: Asker) -> None:
    """From one end of the year to the other the job of half past two runs once a night."""
    start = 1_767_225_600.0  # 2026-01-01 UTC
    life.broker.wall_offset = start - life.now
    add(client, line="30 2 * * *", zone="Europe/Berlin")
    worker = life.farm_worker(b"f")
    ran = []
    for _ in range(365):
        deadline = life.broker.next_deadline()
        assert deadline is not None
        life.wait(deadline - life.now)
        completes(worker, worker.grab())
        ran.append(life.now + life.broker.wall_offset)
    hours = [(time - start) % DAY / HOUR for time in ran]
    assert hours[:87] == [1.5] * 87 and hours[87] == 1.0  # on March 29 there is no half past two: at three
    assert hours[88:297] == [0.5] * 209 and hours[297] == 0.5  # on October 25 there are two: at the first
    assert hours[298:] == [1.5] * 67


def test_stopping_it_submits_nothing_and_the_next_start_does(life: Life, client: Asker) -> None:
    add(client)
    life.broker.stopping = True
    assert life.broker.next_deadline() is None
    life.now += 900
    life.broker.tick(life.now)
    life.turn()
    assert not jobs(life)
    again = life.again()
    again.wait(1)
    assert len(again.broker.jobs) == 1


def test_an_entry_whose_zone_has_gone_is_shown_and_can_be_removed(life: Life, client: Asker) -> None:
    add(client)
    row = life.journal.cron[b"e"]
    life.journal.cron[b"e"] = row._replace(words=row.words.replace(b'"UTC"', b'"Mars/Olympus"'))
    again = life.again()
    asker = again.farm_client()
    assert (shown(asker)["fault"], shown(asker)["next_at"]) == ("there is no time zone 'Mars/Olympus'", None)
    again.wait(DAY)
    assert not again.broker.jobs
    asker.ask("cron remove", name="e")
    assert not life.journal.cron


def test_an_entry_whose_zone_has_come_back(life: Life, client: Asker) -> None:
    add(client, catch_up="last")
    life.journal.cron[b"e"] = life.journal.cron[b"e"]._replace(
        words=life.journal.cron[b"e"].words.replace(b'"next":' + str(life.wall + 900).encode(), b'"next":null')
    )
    life.now += 1000
    again = life.again()
    again.wait(1)
    assert notes(again.farm_client()) == [(True, "100 s late")]


def test_a_note_for_the_log(life: Life, client: Asker) -> None:
    add(client)
    life.broker.narrate = True
    life.now += 900
    life.broker.tick(life.now)
    (note,) = [note for note in life.broker.effects.notes if note.event == "cron"]
    assert (note.handle, note.function, note.detail) == (jobs(life)[0], b"f", "e")


# -- SUBMIT_JOB_SCHED


def schedule(life: Life, *fields: bytes, unique: bytes = b"u", payload: bytes = b"p") -> tuple[int, bytes]:
    stock = life.client()
    stock.send(request(p.SUBMIT_JOB_SCHED, b"f", unique, *fields, payload))
    return packet(stock.received()[-1])


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ((b"5", b"", b"-1", b"*", b""), "5 * * * *"),
        ((b"0", b"12", b"1", b"1", b""), "0 12 1 1 *"),
        ((b"0", b"12", b"", b"", b"0"), "0 12 * * 1"),  # Monday
        ((b"0", b"12", b"", b"", b"6"), "0 12 * * 7"),  # Sunday
        ((b"", b"", b"", b"", b""), "* * * * *"),
    ],
)
def test_scheduled_by_a_stock_client(life: Life, client: Asker, fields: tuple[bytes, ...], line: str) -> None:
    assert schedule(life, *fields) == (p.JOB_CREATED, b"sched:f:u")
    entry = shown(client)
    assert (entry["name"], entry["line"], entry["zone"], entry["unique"]) == ("sched:f:u", line, "UTC", "u")
    before = len(life.changes)
    assert schedule(life, *fields) == (p.JOB_CREATED, b"sched:f:u")
    assert len(life.changes) == before, "the same again is nothing new"
    assert schedule(life, *fields, payload=b"q") == (p.JOB_CREATED, b"sched:f:u")
    assert life.broker.crons.entries["sched:f:u"].payload == b"q"


@pytest.mark.parametrize(
    "fields",
    [
        (b"60", b"", b"", b"", b""),
        (b"", b"24", b"", b"", b""),
        (b"0", b"0", b"31", b"2", b""),
        (b"", b"", b"", b"", b"7"),
        (b"x", b"", b"", b"", b""),
        (b"-2", b"", b"", b"", b""),
        (b"9" * 5000, b"", b"", b"", b""),
        ("²".encode(), b"", b"", b"", b""),
    ],
)
def test_what_no_clock_shows_is_refused(life: Life, fields: tuple[bytes, ...]) -> None:
    number, body = schedule(life, *fields)
    assert (number, body.partition(b"\0")[0]) == (p.ERROR, b"INVALID_REQUEST")
    assert not life.changes


def test_it_is_scheduled_from_the_servers_own_machine_only(life: Life, client: Asker) -> None:
    stock = life.client()
    stock.peer.may_change = False
    stock.send(request(p.SUBMIT_JOB_SCHED, b"f", b"k", b"1", b"2", b"", b"", b"", b""))
    words = b"This is taken from the server's own machine only"
    assert stock.received() == [response(p.ERROR, b"PERMISSION_DENIED", words)]
    assert client.ask("cron")["entries"] == []


def test_scheduled_without_a_key(life: Life) -> None:
    assert schedule(life, b"5", b"", b"", b"", b"", unique=b"") == (p.JOB_CREATED, b"sched:f:")
    assert schedule(life, b"5", b"", b"", b"", b"", unique=b"-") == (p.JOB_CREATED, b"sched:f:82079eb1")
    assert schedule(life, b"5", b"", b"", b"", b"", unique=b"a b\x80") == (
        p.JOB_CREATED,
        "sched:f:a\\x20b\ufffd".encode(),
    )


def test_scheduled_it_runs_and_outlives_the_server(life: Life) -> None:
    schedule(life, b"0", b"", b"", b"", b"")
    again = life.again(KEEPING)
    again.wait(900)
    worker = again.worker(b"f")
    worker.send(request(p.GRAB_JOB))
    assert worker.received()[-1].endswith(b"f\0p")
