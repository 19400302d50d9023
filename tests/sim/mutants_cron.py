"""Mutants (see `mutants`) of cron: the nights on which clocks are set, clocks that jump, overlaps, missed times, other
lives, and what is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from farm.broker import cron, crons, restart, waiting
from farm.broker.broker import Broker
from farm.broker.cron import ALL, LAST, NONE, QUEUE, REPLACE, SKIP, Action, Entry, Submit
from farm.broker.effects import CronRow
from farm.broker.job import id_of
from farm.broker.schedule import Schedule

Patches = tuple[tuple[Any, str, Any], ...]

# -- the nights on which clocks are set

_certain, _shown = Schedule._next_certain, Schedule._next_shown
_SECOND = timedelta(seconds=1)


def _skipped_with_its_hour(schedule: Schedule, after: datetime) -> datetime:
    while True:
        found = _certain(schedule, after)
        if _shown(schedule, found - _SECOND) == found:
            return found
        after = found


def _moment_after_the_gap(schedule: Schedule, time: datetime) -> datetime:
    """02:30 comes at 03:30, instead of at the first minute that there is."""
    return time.replace(tzinfo=schedule._zone).astimezone(UTC)


def _either(schedule: Schedule, after: datetime) -> datetime:
    return min(_certain(schedule, after), _shown(schedule, after))


def _shown_once(schedule: Schedule, after: datetime) -> datetime:
    while True:
        after = _shown(schedule, after)
        if _certain(schedule, after - _SECOND) == after:
            return after


# -- clocks that jump

_tick, _plan, _fire = crons.tick, Entry.plan, crons._fire


def _tick_by_a_clock_set_back(broker: Broker, now: float) -> None:
    wall = now + broker.wall_offset
    for entry in broker.crons.entries.values():
        if entry.seen > wall:
            entry.seen = wall
            entry.plan(wall)
    broker.crons.reckon()
    _tick(broker, now)


def _plan_by_the_clock_alone(entry: Entry, wall: float) -> None:
    with patch.object(entry, "seen", -math.inf):
        _plan(entry, wall)


def _tick_though_stopping(broker: Broker, now: float) -> None:
    with patch.object(broker, "stopping", False):
        _tick(broker, now)


def _fire_and_forget(broker: Broker, entry: Entry, now: float) -> None:
    """The entry is kept as it was before."""
    with patch.object(crons, "keep", lambda *_: None):
        _fire(broker, entry, now)


def _fire_and_keep_later(broker: Broker, entry: Entry, now: float) -> None:
    """With the next of its times: the job is kept without that its time is decided about."""
    late = broker.__dict__.setdefault("kept_later", [])
    while late:
        crons.keep(broker, late.pop())
    _fire_and_forget(broker, entry, now)
    late.append(entry)


# -- missed times and overlaps

_due, _wanted, _overlapping, _queue = cron.due, cron._wanted, cron._OVERLAPPING, cron._queue


def _wanting(instead: dict[str, str]) -> Callable[[str, list[float], float], list[float]]:
    """One way to catch up does what another one does."""
    return lambda catch_up, times, wall: _wanted(instead.get(catch_up, catch_up), times, wall)


def _all_at_once(times: list[float], live: list[bytes], wall: float) -> list[Action]:
    return [
        action._replace(behind=False) if isinstance(action, Submit) else action for action in _queue(times, live, wall)
    ]


def _all_when_skipping(times: list[float], live: list[bytes], wall: float) -> list[Action]:
    """What is caught up with runs side by side, where nothing ran before."""
    return _overlapping[SKIP](times, live, wall) if live else _all_at_once(times, live, wall)


def _overlaps(way: str, rule: Callable[[list[float], list[bytes], float], list[Action]]) -> Patches:
    return ((cron, "_OVERLAPPING", {**_overlapping, way: rule}),)


def _due_beside_all(entry: Entry, wall: float, is_live: Callable[[bytes], bool]) -> list[Action]:
    return _due(entry, wall, lambda handle: False)


def _due_behind_the_ended(entry: Entry, wall: float, is_live: Callable[[bytes], bool]) -> list[Action]:
    return _due(entry, wall, lambda handle: True)


# -- other lives

_from_words, _know, _keep = cron.from_words, crons.know, crons.keep


def _from_words_without_jobs(name: bytes, words: bytes, payload: bytes) -> Entry:
    entry = _from_words(name, words, payload)
    entry.live = []
    return entry


def _from_words_not_paused(name: bytes, words: bytes, payload: bytes) -> Entry:
    entry = _from_words(name, words, payload)
    entry.paused = False
    return entry


def _from_words_with_the_defaults(name: bytes, words: bytes, payload: bytes) -> Entry:
    entry = _from_words(name, words, payload)
    entry.overlap, entry.catch_up = SKIP, NONE
    return entry


def _tick_from_the_start(broker: Broker, now: float) -> None:
    """What was missed while the server was down is not looked for."""
    if broker.__dict__.setdefault("looked_at_entries", False) is False:
        broker.__dict__["looked_at_entries"] = True
        for entry in broker.crons.entries.values():
            entry.plan(now + broker.wall_offset)
        broker.crons.reckon()
    _tick(broker, now)


def _keep_without_its_payload(broker: Broker, entry: Entry, payload: bool = False) -> None:
    broker.effects.changes.append(CronRow(crons._name(entry), cron.to_words(entry), entry.payload if payload else b""))


# -- jobs that are run again

_revive, _restore, _find_jobs = restart.revive, restart.restore, crons._find_jobs


def _unknown_to_entries(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The rule, as if no entry had anything to do with the job."""

    def unknown(*args: Any) -> Any:
        with patch.object(crons, "_entry_of", lambda *_: None):
            return rule(*args)

    return unknown


def _before_the_newest(broker: Broker, entry: Entry, behind: bool) -> list[bytes]:
    """What was run again, or by hand, may run beside the next one: it waits for the entry's newest job only."""
    stopped = [handle for handle in entry.live if id_of(handle) in broker.stops.by_id]
    newest = entry.live[-1:] if behind else []
    return [handle for handle in dict.fromkeys([*stopped, *newest]) if crons._may_run(broker, handle)]


# -- what is asked

_add, _pause, _remove, _run, _submit = crons.add, crons.pause, crons.remove, crons.run, crons._submit


def _add_one_by_one(broker: Broker, entries: list[Entry], now: float, replace: bool = False) -> None:
    for entry in entries:
        _add(broker, [entry], now, replace)


def _take_over_nothing(entry: Entry, earlier: Entry, wall: float) -> None:
    entry.plan(wall)


def _take_over_without_jobs(entry: Entry, earlier: Entry, wall: float) -> None:
    with patch.object(earlier, "live", []):
        _take_over(entry, earlier, wall)


_take_over = Entry.take_over


def _pause_and_run_on(broker: Broker, entry: Entry, paused: bool, now: float) -> None:
    entry.paused = paused
    crons.keep(broker, entry)


def _resume_from_its_last_time(broker: Broker, entry: Entry, paused: bool, now: float) -> None:
    """Times while it was paused are missed."""
    if entry.paused == paused:
        return
    entry.paused = paused
    entry.plan(entry.newest)
    broker.crons.reckon()
    crons.keep(broker, entry)


def _remove_for_this_life(broker: Broker, entry: Entry) -> None:
    del broker.crons.entries[entry.name]
    broker.crons.reckon()


def _remove_with_its_jobs(broker: Broker, entry: Entry) -> None:
    _remove(broker, entry)
    for handle in entry.live:
        job = broker.jobs.get(handle)
        if job is not None and not (job.course and job.course.ended):
            broker.drop(job, b"", 0.0)


def _run_instead_of_the_next(broker: Broker, entry: Entry, now: float) -> bytes:
    handle = _run(broker, entry, now)
    if entry.schedule is not None and entry.next is not None:
        entry.next = entry.schedule.next_after(entry.next)
        broker.crons.reckon()
    return handle


def _submit_without_terms(broker: Broker, entry: Entry, behind: bool, now: float) -> Any:
    with patch.object(entry, "terms", {}):
        return _submit(broker, entry, behind, now)


def _submit_unremembered(broker: Broker, entry: Entry, behind: bool, now: float) -> Any:
    """As one of its jobs."""
    job, joined = _submit(broker, entry, behind, now)
    if not joined:
        entry.live.clear()
    return job, joined


MUTANTS_OF_CRON: tuple[tuple[str, Patches], ...] = (
    ("a certain time goes with the hour that is skipped", ((Schedule, "_next_certain", _skipped_with_its_hour),)),
    ("a certain time that is skipped comes an hour later", ((Schedule, "_moment", _moment_after_the_gap),)),
    ("a certain time runs twice in an hour that is twice", ((Schedule, "_next_certain", _either),)),
    ("other times run though their hour is skipped", ((Schedule, "_next_shown", _either),)),
    ("other times stop while an hour comes again", ((Schedule, "_next_shown", _shown_once),)),
    ("a clock set back runs times again", ((crons, "tick", _tick_by_a_clock_set_back),)),
    ("resumed, it runs again what it ran", ((Entry, "plan", _plan_by_the_clock_alone),)),
    ("an entry waits for a clock that was wrong", ((cron, "CLOCK_WRONG_S", math.inf),)),
    ("an entry starts afresh for an hour", ((cron, "CLOCK_WRONG_S", 1800.0),)),
    ("nobody looks when an entry is due", ((crons, "next_deadline", lambda *_: None),)),
    ("a stopping server submits for its entries", ((crons, "tick", _tick_though_stopping),)),
    ("that a time is decided about is not kept", ((crons, "_fire", _fire_and_forget),)),
    ("it is kept after the job", ((crons, "_fire", _fire_and_keep_later),)),
    ("what is two minutes old is not missed", ((cron, "LATE_MAX_S", 120.0),)),
    ("catch-up none makes up for the last", ((cron, "_wanted", _wanting({NONE: LAST})),)),
    ("catch-up last makes up for nothing", ((cron, "_wanted", _wanting({LAST: NONE})),)),
    ("catch-up all makes up for the last", ((cron, "_wanted", _wanting({ALL: LAST})),)),
    ("catch-up last makes up for all", ((cron, "_wanted", _wanting({LAST: ALL})),)),
    ("what is caught up with runs at once", _overlaps(SKIP, _all_when_skipping)),
    ("overlap skip does not look", _overlaps(SKIP, _queue)),
    ("overlap queue does not wait", _overlaps(QUEUE, _all_at_once)),
    ("overlap replace leaves the earlier job", _overlaps(REPLACE, lambda times, _, wall: [Submit(times[-1])])),
    ("overlaps are ignored", ((cron, "due", _due_beside_all),)),
    ("a job that has ended overlaps", ((cron, "due", _due_behind_the_ended),)),
    (
        "overlaps are ignored after a restart",
        ((cron, "from_words", _from_words_without_jobs), (restart, "restore", _unknown_to_entries(_restore))),
    ),
    ("a job that is run again is none of its entry's", ((restart, "revive", _unknown_to_entries(_revive)),)),
    ("run again, it is its entry's until a restart", ((restart, "restore", _unknown_to_entries(_restore)),)),
    ("those that wait do not wait for one that is run again", ((crons, "run_again", crons.lives_again),)),
    ("one runs early when the one before is cancelled", ((waiting, "hand_down", lambda *_: None),)),
    ("one runs beside what is run again", ((crons, "_before", _before_the_newest),)),
    ("an entry that is added anew knows nothing of its jobs", ((crons, "_find_jobs", lambda *_: None),)),
    ("what was missed is forgotten at a restart", ((crons, "tick", _tick_from_the_start),)),
    ("a pause is forgotten at a restart", ((cron, "from_words", _from_words_not_paused),)),
    ("a restart makes an entry one of the usual", ((cron, "from_words", _from_words_with_the_defaults),)),
    ("an entry loses its payload", ((crons, "keep", _keep_without_its_payload),)),
    ("a removed entry is back after a restart", ((crons, "remove", _remove_for_this_life),)),
    ("entries are added one by one", ((crons, "add", _add_one_by_one),)),
    ("a replaced entry is a new one", ((Entry, "take_over", _take_over_nothing),)),
    ("a replaced entry knows nothing of its jobs", ((Entry, "take_over", _take_over_without_jobs),)),
    ("a paused entry runs on", ((crons, "pause", _pause_and_run_on),)),
    ("times while it was paused are missed", ((crons, "pause", _resume_from_its_last_time),)),
    ("a removed entry takes its jobs along", ((crons, "remove", _remove_with_its_jobs),)),
    ("run by hand, it does not run at its time", ((crons, "run", _run_instead_of_the_next),)),
    ("an entry's jobs have no terms", ((crons, "_submit", _submit_without_terms),)),
    ("an entry knows its newest job only", ((crons, "_submit", _submit_unremembered),)),
)
