"""The cron entries of a broker: they are added and changed, and what is due is done. Rules, as in broker.py; what an
entry does when is decided in cron.py.

That a time is decided about and the job that comes of it are changes of the same turn: the journal has both or neither,
and so a crash between two turns neither loses a run nor repeats one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from farm.broker import cron, tries, waiting
from farm.broker.course import own_terms
from farm.broker.cron import Action, Drop, Entry, Run, Skip
from farm.broker.effects import CronGone, CronRow, Note
from farm.broker.job import WAITING, id_of
from farm.broker.terms import ANY, parse_submission
from farm.errors import PacketRefused

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.job import Job

ENTRIES_MAX = 1000  # of one server: `farm cron list` is read by people, and all of them may be due in the same turn
# Of a turn, so that others are served in between: what was missed in a long time takes 30 ms for each to find out.
FIRED_AT_ONCE_MAX = 10
PAYLOADS_MAX = 64 * 1024 * 1024  # bytes, of all entries: they are held in memory


class Crons:
    """All entries by name. next: when the first of them is due, by the wall clock. newest: the latest time of the clock
    that any of them knows of. strange: the names of those in the journal that are not understood."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.next = math.inf
        self.newest = -math.inf
        self.payload_size = 0
        self.strange: list[bytes] = []

    def reckon(self) -> None:
        """Entries have changed."""
        entries = self.entries.values()
        self.next = min((entry.next for entry in entries if entry.next is not None), default=math.inf)
        self.newest = max((entry.newest for entry in entries), default=-math.inf)
        self.payload_size = sum(len(entry.payload) for entry in entries)


def know(broker: Broker, row: CronRow) -> None:
    """What the journal knows of an entry. One that is not understood stays there, for whoever has written it."""
    try:
        entry = cron.from_words(row.name, row.words, row.payload or b"")
    except (ValueError, LookupError, TypeError, AttributeError):
        broker.crons.strange.append(row.name)
        return
    if entry.next is None:  # it may be that an earlier version could not evaluate it
        entry.plan(entry.newest)
    broker.crons.entries[entry.name] = entry
    broker.crons.reckon()


def lives_again(broker: Broker, job: Job) -> None:
    """A job is here again, after a restart or because it is run again: the entry that has submitted it, or has the name
    of the one that did, has one more that lives. In the journal the job's own terms say so, and nothing of the entry
    need be written for that."""
    entry = _entry_of(broker, job)
    if entry is not None and job.handle not in entry.live:
        entry.live.append(job.handle)


def run_again(broker: Broker, job: Job) -> None:
    """A job that had ended is run again. It waits for nobody; those of its entry that wait for their turn do so for it
    too, or they would begin beside it."""
    lives_again(broker, job)
    entry = _entry_of(broker, job)
    for handle in entry.live if entry is not None else ():
        other = broker.jobs.get(handle)
        if other is not None and other.state == WAITING and own_terms(other).cron == own_terms(job).cron:
            waiting.add(broker, other, job.id, ANY)
            tries.save_progress(broker, other)


def _entry_of(broker: Broker, job: Job) -> Entry | None:
    name = own_terms(job).cron
    return None if name is None else broker.crons.entries.get(name.decode("utf-8", "surrogateescape"))


# -- changing them


def add(broker: Broker, entries: list[Entry], now: float, replace: bool = False) -> None:
    """All of these entries or none. replace: also where there is one of the name already, which goes. One that says
    the same as the one that there is changes nothing. Raises PacketRefused."""
    wall, crons = now + broker.wall_offset, broker.crons
    new = [entry for entry in entries if not _is_known(crons, entry)]
    if len({entry.name for entry in entries}) < len(entries):
        raise _refused("Two entries have the same name")
    for entry in new:
        if entry.name in crons.entries and not replace:
            words = f"There is a cron entry {entry.name} already"
            raise PacketRefused(b"CRON_EXISTS", words.encode(errors="replace"), close=False)
        broker.function(entry.function)
    _must_have_room(broker, new)
    _find_jobs(broker, {_name(entry): entry for entry in new if entry.name not in crons.entries})
    for entry in new:
        earlier = crons.entries.get(entry.name)
        entry.created = wall
        if earlier is not None:
            entry.take_over(earlier, wall)
        else:
            entry.plan(wall)
        crons.entries[entry.name] = entry
        keep(broker, entry, payload=True)
    crons.reckon()


def _find_jobs(broker: Broker, new: dict[bytes, Entry]) -> None:
    """One of a name that was there before, and was removed, goes on with the jobs of that one: by their terms they are
    its own. (It walks all jobs.)"""
    for job in broker.jobs.values() if new else ():
        name = own_terms(job).cron
        if name is not None and (entry := new.get(name)) is not None:
            entry.live.append(job.handle)


def _is_known(crons: Crons, entry: Entry) -> bool:
    earlier = crons.entries.get(entry.name)
    return earlier is not None and entry.same_as(earlier)


def _must_have_room(broker: Broker, new: list[Entry]) -> None:
    crons = broker.crons
    if len(crons.entries.keys() | {entry.name for entry in new}) > ENTRIES_MAX:
        raise PacketRefused(b"QUEUE_ERROR", b"More than %d cron entries" % ENTRIES_MAX, close=False)
    sizes = {name: len(entry.payload) for name, entry in crons.entries.items()}
    sizes.update((entry.name, len(entry.payload)) for entry in new)
    if sum(sizes.values()) > PAYLOADS_MAX:
        words = b"Payloads of cron entries of more than %d bytes together" % PAYLOADS_MAX
        raise PacketRefused(b"QUEUE_ERROR", words, close=False)
    if broker.no_room and new:
        raise PacketRefused(b"QUEUE_ERROR", b"Disk nearly full: " + broker.no_room.encode(), close=False)


def remove(broker: Broker, entry: Entry) -> None:
    """It is no more. Its jobs go on."""
    del broker.crons.entries[entry.name]
    broker.crons.reckon()
    broker.effects.changes.append(CronGone(_name(entry)))


def pause(broker: Broker, entry: Entry, paused: bool, now: float) -> None:
    """Submit nothing, or do so again: times meanwhile are not missed."""
    if entry.paused != paused:
        entry.paused = paused
        entry.plan(now + broker.wall_offset)
        broker.crons.reckon()
        keep(broker, entry)


def run(broker: Broker, entry: Entry, now: float) -> bytes:
    """Submit its job now, whatever its times are and whether or not one lives, or is being stopped. Returns the handle.
    Raises PacketRefused."""
    wall = now + broker.wall_offset
    _forget_ended(broker, entry)
    if len(entry.live) >= cron.LIVE_MAX:
        raise PacketRefused(b"QUEUE_ERROR", b"%d of its jobs have not ended" % cron.LIVE_MAX, close=False)
    job, joined = _submit(broker, entry, [], now)
    if job is None:
        raise PacketRefused(b"QUEUE_ERROR", b"Its key still counts as that of a job that has ended", close=False)
    entry.remember(Run(wall, job.handle, "by hand, joined" if joined else "by hand"))
    keep(broker, entry)
    return job.handle


def keep(broker: Broker, entry: Entry, payload: bool = False) -> None:
    """The journal is to have it as it is now."""
    row = CronRow(_name(entry), cron.to_words(entry), entry.payload if payload else None)
    broker.effects.changes.append(row)


def _name(entry: Entry) -> bytes:
    return entry.name.encode("utf-8", "surrogateescape")


def _refused(words: str) -> PacketRefused:
    return PacketRefused(b"INVALID_REQUEST", words.encode(errors="replace"), close=False)


# -- what is due


def next_deadline(broker: Broker) -> float | None:
    """When `tick` has something to do, by the wall clock; None: never."""
    return None if broker.stopping or math.isinf(broker.crons.next) else broker.crons.next


def tick(broker: Broker, now: float) -> None:
    """Do what is due."""
    crons, wall = broker.crons, now + broker.wall_offset
    if broker.stopping or (wall < crons.next and crons.newest <= wall + cron.CLOCK_WRONG_S):
        return
    fired = 0
    for entry in list(crons.entries.values()):
        if entry.newest > wall + cron.CLOCK_WRONG_S:
            entry.start_afresh(wall)
            keep(broker, entry)
        if entry.next is not None and entry.next <= wall and fired < FIRED_AT_ONCE_MAX:
            _fire(broker, entry, now)
            fired += 1
    crons.reckon()  # where some are left, the next turn is at once


def _fire(broker: Broker, entry: Entry, now: float) -> None:
    wall = now + broker.wall_offset
    actions = cron.due(entry, wall, lambda handle: _may_run(broker, handle))
    _forget_ended(broker, entry)
    for action in actions:
        _do(broker, entry, action, now)
    entry.seen = wall
    entry.plan(wall)
    keep(broker, entry)


def _do(broker: Broker, entry: Entry, action: Action, now: float) -> None:
    if isinstance(action, Drop):
        job = waiting.live(broker, action.handle)
        if job is not None:
            broker.drop(job, b"replaced by the next run of cron entry " + _name(entry), now)
        return
    if isinstance(action, Skip):
        _remember(broker, entry, Run(action.at, b"", action.note))
        return
    try:
        job, joined = _submit(broker, entry, _before(broker, entry, action.behind), now)
    except PacketRefused as refused:  # no room: whoever looks at the entry is told
        _remember(broker, entry, Run(action.at, b"", refused.text.decode(errors="replace")))
        return
    if job is None:
        _remember(broker, entry, Run(action.at, b"", "its key still counts as that of a job that has ended"))
    else:
        _remember(broker, entry, Run(action.at, job.handle, "joined one of its key" if joined else action.note))


def _remember(broker: Broker, entry: Entry, run: Run) -> None:
    entry.remember(run)
    if broker.narrate:
        detail = f"{entry.name}: {run.note}" if run.note else entry.name
        broker.effects.notes.append(Note("cron" if run.handle else "cron skipped", run.handle, entry.function, detail))


def _before(broker: Broker, entry: Entry, behind: bool) -> list[bytes]:
    """The jobs of the entry that must be over before the next one runs: all whose commands are being stopped, and if it
    is to run behind the others, those that none of these waits for: the newest, and what was run again, or by hand."""
    stopped = [handle for handle in entry.live if id_of(handle) in broker.stops.by_id]
    if not behind:
        return stopped
    jobs = [job for handle in entry.live if (job := waiting.live(broker, handle)) is not None]
    waited_for = {id for job in jobs if job.course is not None for id in job.course.after}
    last = [job.handle for job in jobs if job.id not in waited_for]
    return list(dict.fromkeys([*stopped, *last]))


def _submit(broker: Broker, entry: Entry, before: list[bytes], now: float) -> tuple[Job | None, bool]:
    """The job, and whether it was there already. Raises PacketRefused."""
    wanted = parse_submission(entry.words, now + broker.wall_offset)
    terms = wanted.terms._replace(cron=_name(entry), after=tuple((ANY, handle) for handle in before))
    known = len(broker.jobs)
    job = broker.submit(None, entry.function, entry.unique, wanted.priority, True, entry.payload, now, terms=terms)
    if job is not None and job.handle not in entry.live:
        entry.live.append(job.handle)
    return job, len(broker.jobs) == known


def _may_run(broker: Broker, handle: bytes) -> bool:
    """Whether the job has not ended, or has, and its command is being stopped."""
    return waiting.live(broker, handle) is not None or id_of(handle) in broker.stops.by_id


def _forget_ended(broker: Broker, entry: Entry) -> None:
    entry.live = [handle for handle in entry.live if _may_run(broker, handle)]
