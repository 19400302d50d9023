"""Mutants (see `mutants`) of what is kept, what waits for it, and what is read back: journal, promises, reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from unittest.mock import patch

from farm.broker import dispatch, keeping
from farm.broker.broker import Broker
from farm.broker.effects import Change, Effects, Finish, Forget, Save
from farm.broker.job import Job
from farm.broker.keeping import Report
from farm.broker.peer import Peer
from farm.errors import PacketRefused
from farm.protocol import packets
from farm.server.journal import Journal
from farm.server.promises import Promises, Send
from farm.store.memory import MemoryStore
from tests.sim.server import SimServer

Patches = tuple[tuple[Any, str, Any], ...]

# -- promises

_take_sends, _release = Promises.take, Promises.release


def _take_all(promises: Promises, sends: Sequence[Send], promised: Iterable[int], batch: int) -> Sequence[Send]:
    return sends


def _take_out_of_order(
    promises: Promises, sends: Sequence[Send], promised: Iterable[int], batch: int
) -> Sequence[Send]:
    waiting = set(promised) if batch else set()
    _take_sends(promises, [sends[index] for index in sorted(waiting)], range(len(waiting)), batch)
    return [send for index, send in enumerate(sends) if index not in waiting]


def _take_nothing(promises: Promises, sends: Sequence[Send], promised: Iterable[int], batch: int) -> Sequence[Send]:
    return _take_sends(promises, sends, range(len(sends)), batch)


def _take_early(promises: Promises, sends: Sequence[Send], promised: Iterable[int], batch: int) -> Sequence[Send]:
    return _take_sends(promises, sends, promised, max(0, batch - 1))


def _release_last_first(promises: Promises, durable: int) -> list[Send]:
    return list(reversed(_release(promises, durable)))


def _send_own_only(server: SimServer, effects: Effects) -> bool:
    """What a turn promises waits for what it changes, and for nothing else."""
    if not effects.changes:
        effects.promises = []
    return _send(server, effects)


def _send_first(server: SimServer, effects: Effects) -> bool:
    server._read_payloads(effects)
    if not server._send(effects):
        return False
    server._keep(effects)
    return True


_send = SimServer._send


def _join_promising_nothing(broker: Broker, job: Job, peer: Peer | None, background: bool, now: float) -> None:
    if background and job.background and peer is not None:  # else it is a cron entry that joins
        broker.effects.send(peer.id, packets.response(packets.JOB_CREATED, job.handle))
    else:
        _join(broker, job, peer, background, now)


_join = Broker._join


def _echo_at_once(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    broker.effects.send(peer.id, packets.response(packets.ECHO_RES, args[0]))


# -- the journal

_keep, _finish, _begin, _payload = Journal.keep, Journal._finish, Journal._begin, Journal.payload
_write = MemoryStore.write


def _keep_when_idle(journal: Journal, changes: list[Change]) -> None:
    _keep(journal, [] if journal._goal else changes)


def _keep_newest(journal: Journal, changes: list[Change]) -> None:
    journal._waiting = []
    _keep(journal, changes)


def _keep_no_end(journal: Journal, changes: list[Change]) -> None:
    _keep(journal, [change for change in changes if not isinstance(change, (Finish, Forget))])


def _keep_at_once(journal: Journal, changes: list[Change]) -> None:
    """A batch that comes while a commit is under way is written into the transaction that is being committed."""
    if journal._goal:
        journal._store.write(changes)
        journal.written += 1
    else:
        _keep(journal, changes)


def _begin_backwards(journal: Journal) -> None:
    journal._waiting.reverse()
    _begin(journal)


def _begin_with_one(journal: Journal) -> None:
    """A commit for each change."""
    rest = journal._waiting[1:]
    del journal._waiting[1:]
    _begin(journal)
    journal._waiting = rest


def _finish_all(journal: Journal) -> None:
    waits = bool(journal._waiting)
    _finish(journal)
    if waits:
        journal.durable = journal.written


def _finish_and_rest(journal: Journal) -> None:
    journal.durable = journal._goal
    journal._goal, journal._under_way = 0, []


def _finish_silently(journal: Journal) -> None:
    if journal._failure:
        journal._on_failure(journal._failure)
    else:
        journal._finish()


def _finish_failed(journal: Journal) -> None:
    journal._failure = None
    journal._finish()
    journal._on_commit()


def _close_at_once(journal: Journal) -> None:
    journal._end_thread()


def _payload_of_another(journal: Journal, id: int, decided: Sequence[Change] = ()) -> bytes:
    for change in (*decided, *journal._under_way, *journal._waiting):
        if isinstance(change, Save):
            return change.payload
    return _payload(journal, id, decided)


def _payload_on_disk(journal: Journal, id: int, decided: Sequence[Change] = ()) -> bytes:
    return journal._store.payload(id)


def _payload_without_the_newest(journal: Journal, id: int, decided: Sequence[Change] = ()) -> bytes:
    return _payload(journal, id)


def _read_after_keeping(server: SimServer, effects: Effects) -> bool:
    server._keep(effects)
    with patch.object(effects, "changes", []):
        server._read_payloads(effects)
    return server._send(effects)


def _payload_to_the_first_worker(effects: Effects, peer_id: int, job_id: int) -> None:
    _send_payload(effects, min((id for id, _ in effects.sends), default=peer_id), job_id)


_send_payload = Effects.send_payload


def _write_through(store: MemoryStore, changes: Sequence[Change]) -> None:
    _write(store, changes)
    MemoryStore.commit(store)


# -- what is kept of a job

_row, _end, _report, _broker_end = keeping.row, keeping.end, Report.take, Broker._end
_lose, _room, _hold = Broker._lose, Broker._must_have_room, Broker._hold_payload


def _row_by_the_other_clock(job: Job, wall_offset: float) -> Save:
    return _row(job, wall_offset)._replace(created=job.queued_at)


def _end_well(job: Job, outcome: str, *rest: Any) -> Finish | Forget:
    return _end(job, "done", *rest)


def _end_uncut(job: Job, *rest: Any) -> Finish | Forget:
    end = _end(job, *rest)
    return end._replace(cut=False) if isinstance(end, Finish) else end


def _end_with_nothing(job: Job, *rest: Any) -> Finish | Forget:
    end = _end(job, *rest)
    return end._replace(result=b"") if isinstance(end, Finish) else end


def _report_all(report: Report, number: int, data: bytes) -> None:
    report.size_max = 1 << 20
    _report(report, number, data)


def _report_one_stream(report: Report, number: int, data: bytes) -> None:
    _report(report, packets.WORK_DATA if number == packets.WORK_EXCEPTION else number, data)


def _report_trailer_as_log(report: Report, number: int, data: bytes) -> None:
    with patch.object(keeping, "parse_exit_trailer", lambda data: None):
        _report(report, number, data)


def _lose_and_remember(broker: Broker, job: Job, now: float) -> None:
    report = job.report
    _lose(broker, job, now)
    job.report = report


def _finish_unreported(broker: Broker, job: Job, outcome: str, now: float) -> None:
    job.report = None
    _broker_end(broker, job, outcome, now)


def _join_unaware(broker: Broker, job: Job, peer: Peer, background: bool, now: float) -> None:
    streamed, job.streamed = job.streamed, job.streamed and not background
    _join(broker, job, peer, background, now)
    job.streamed = streamed


def _room_for_nothing(broker: Broker, job: Job, peer: Peer, background: bool, now: float) -> None:
    if background and broker.no_room:
        raise PacketRefused(b"QUEUE_ERROR", b"Disk nearly full", close=False)
    _join(broker, job, peer, background, now)


def _hold_on(broker: Broker, job: Job, outcome: str, now: float) -> None:
    payload, job.payload = job.payload, None
    _broker_end(broker, job, outcome, now)
    job.payload = payload


KEEPING: tuple[tuple[str, Patches], ...] = (
    ("acknowledged before stored", ((SimServer, "_carry_out", _send_first),)),
    ("a promise is sent at once", ((Promises, "take", _take_all),)),
    ("a join of what is not durable is promised at once", ((Broker, "_join", _join_promising_nothing),)),
    ("packets overtake a promise", ((Promises, "take", _take_out_of_order),)),
    ("whatever is sent waits for the disk", ((Promises, "take", _take_nothing),)),
    ("a promise waits for the batch before its own", ((Promises, "take", _take_early),)),
    ("promises are kept a batch early", ((Promises, "release", lambda self, durable: _release(self, durable + 1)),)),
    ("promises are kept a batch late", ((Promises, "release", lambda self, durable: _release(self, durable - 1)),)),
    ("promises are kept newest first", ((Promises, "release", _release_last_first),)),
    ("promises are never kept", ((Journal, "_committed", _finish_silently),)),
    ("a promise waits for its own turn only", ((SimServer, "_send", _send_own_only),)),
    ("an echo is no barrier", ((dispatch, "_HANDLERS", {**dispatch._HANDLERS, packets.ECHO_REQ: _echo_at_once}),)),
    ("changes are lost while a commit is under way", ((Journal, "keep", _keep_when_idle),)),
    ("only the newest changes wait for the next commit", ((Journal, "keep", _keep_newest),)),
    ("changes go into the commit that is under way", ((Journal, "keep", _keep_at_once),)),
    ("a commit writes backwards", ((Journal, "_begin", _begin_backwards),)),
    ("a commit takes one change", ((Journal, "_begin", _begin_with_one),)),
    ("a commit counts for what waits", ((Journal, "_finish", _finish_all),)),
    ("what has gathered is not committed", ((Journal, "_finish", _finish_and_rest),)),
    ("a commit that failed counts", ((Journal, "_committed", _finish_failed),)),
    ("the last changes are not committed at the end", ((Journal, "close", _close_at_once),)),
    ("what was only written is kept", ((MemoryStore, "write", _write_through),)),
    ("an end is dropped on its way to the store", ((Journal, "keep", _keep_no_end),)),
    ("the payload of another job", ((Journal, "payload", _payload_of_another),)),
    ("a payload is looked for on the disk only", ((Journal, "payload", _payload_on_disk),)),
    ("a payload of the same turn is not found", ((Journal, "payload", _payload_without_the_newest),)),
    ("payloads are read when the turn's changes are kept", ((SimServer, "_carry_out", _read_after_keeping),)),
    ("a payload goes to another worker", ((Effects, "send_payload", _payload_to_the_first_worker),)),
    ("payloads count for ever", ((Broker, "_end", _hold_on),)),
    ("a job's age is told by the wrong clock", ((keeping, "row", _row_by_the_other_clock),)),
    ("every end is a good one", ((keeping, "end", _end_well),)),
    ("a report is not said to be cut", ((keeping, "end", _end_uncut),)),
    ("a result is not kept", ((keeping, "end", _end_with_nothing),)),
    ("a report is forgotten", ((Broker, "_end", _finish_unreported),)),
    ("a report grows without bound", ((Report, "take", _report_all),)),
    ("an exception is taken for a result", ((Report, "take", _report_one_stream),)),
    ("an exit code is taken for words", ((Report, "take", _report_trailer_as_log),)),
    ("a lost worker's report goes on", ((Broker, "_lose", _lose_and_remember),)),
    ("a report that began late counts as whole", ((Broker, "_join", _join_unaware),)),
    ("no room is no reason", ((Broker, "_must_have_room", lambda *_: None),)),
    ("no room for what is stored already", ((Broker, "_join", _room_for_nothing),)),
)
