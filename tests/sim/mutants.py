"""Rules broken on purpose, one at a time. The simulator must notice each, or it proves nothing.

A mutant is a few patches of farm's rules, in place for the time of a `with`. Those of what is kept and promised are in
`mutants_keeping`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest.mock import patch

from farm.broker import admin, dispatch, functions, giving_up, keeping, reports, restart
from farm.broker import broker as broker_module
from farm.broker.broker import Broker
from farm.broker.deadlines import Deadlines
from farm.broker.function import Function, JobQueue
from farm.broker.job import ABANDONED, CANCELLED, QUEUED, RUNNING, Job, first_id
from farm.broker.peer import Peer
from farm.errors import PacketRefused
from farm.protocol import packets
from farm.store.memory import MemoryStore
from tests.sim.mutants_cron import MUTANTS_OF_CRON
from tests.sim.mutants_keeping import KEEPING
from tests.sim.mutants_life import LIFE
from tests.sim.mutants_stops import STOPS
from tests.sim.world import CRON_ONE_OF, STEPS, tell

SEEDS = 200  # a mutant must be caught within so many

Patch = tuple[Any, str, Any]


class Mutant(NamedTuple):
    """A broken rule: what is wrong with it in a few words, and how to break it. every: of so many seeds one is used."""

    name: str
    patches: tuple[Patch, ...]
    every: int = 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The rule is broken while inside."""
        with ExitStack() as stack:
            for target, attribute, replacement in self.patches:
                stack.enter_context(patch.object(target, attribute, replacement))
            yield


class Catch(NamedTuple):
    """How a mutant was caught: after how many seeds (0: not at all), by whom, with which words."""

    seeds: int
    by: str
    message: str


def hunt(mutant: Mutant, check: bool, seeds: int = SEEDS, steps: int = STEPS) -> Catch:
    """Run seeds from 0 until one of them catches the mutant."""
    with mutant.applied():
        for number in range(seeds):
            result = tell(number * mutant.every, steps, check)
            if result.caught_by:
                return Catch(number + 1, result.caught_by, result.message)
    return Catch(0, "", "")


# -- queues


def _pop_last(queue: JobQueue) -> Job:
    queue.live -= 1
    while True:
        job = queue._jobs.pop()
        if job.state == QUEUED:
            return job


def _take_by_function(broker: Broker, peer: Peer) -> Job | None:
    for function in peer.can_do:
        for priority in (0, 1, 2):
            if function.queues[priority].live:
                peer.rotate(function)
                return function.take(priority)
    return None


# -- wake-ups

_wake, _awake, _stop_expecting, _can_do = Broker._wake, Broker._awake, Peer.stop_expecting, Broker.can_do


def _can_do_in_place(broker: Broker, peer: Peer, name: bytes, timeout_s: float, now: float) -> None:
    """Registered anew, a function keeps its place among those of its worker."""
    with patch.object(broker, "rules", broker.rules._replace(by_registration=False)):
        _can_do(broker, peer, name, timeout_s, now)


def _can_do_silently(broker: Broker, peer: Peer, name: bytes, timeout_s: float, now: float) -> None:
    function = broker.function(name)
    peer.can_do[function] = timeout_s
    function.workers[peer] = None
    if peer.asleep and peer.woken_for is None:
        function.sleepers[peer] = None


def _wake_as_many_as_needed(broker: Broker, function: Function, now: float) -> None:
    with patch.object(broker, "rules", broker.rules._replace(wake_all=False)):
        _wake(broker, function, now)


def _awake_for_nobody(broker: Broker, peer: Peer) -> None:
    _awake(broker, peer)


def _pre_sleep_blindly(broker: Broker, peer: Peer, now: float) -> None:
    broker._awake(peer)
    peer.sleep()


def _expect_for_ever(peer: Peer) -> None:
    if peer.expected and peer.woken_for is not None:
        peer.woken_for.wakes += 1
    _stop_expecting(peer)


def _tick_hastily(broker: Broker, now: float) -> None:
    """An old deadline of a worker that came, and was woken anew since, ends its new patience."""
    while broker.woken and broker.woken[0][0] <= now:
        _, function, peer = broker.woken.popleft()
        if peer.expected and peer.woken_for is function:
            peer.stop_expecting()
            broker._wake(function, now)


def _next_deadline_hastily(broker: Broker) -> float | None:
    return broker.woken[0][0] if broker.woken else None


# -- workers that are lost

_lose, _disconnect = Broker._lose, Broker.disconnect


def _lose_for_good(broker: Broker, job: Job, now: float) -> None:
    broker._release(job)
    job.state = CANCELLED
    broker._remove(job, now, "lost")


def _lose_and_double(broker: Broker, job: Job, now: float) -> None:
    _lose(broker, job, now)
    if job.state == QUEUED:
        job.function.enqueue(_twin(job, now))


def _twin(job: Job, now: float) -> Job:
    twin = Job(job.id, job.function, job.unique, job.priority, job.background, b"", now)
    twin.payload, twin.payload_size = job.payload, job.payload_size
    twin.watchers, twin.reducer, twin.due = job.watchers, job.reducer, job.due
    return twin


def _lose_without_release(broker: Broker, job: Job, now: float) -> None:
    job.function.requeue(_twin(job, now))
    broker._wake(job.function, now)


def _lose_nothing(broker: Broker, job: Job, now: float) -> None:
    pass


def _disconnect_backwards(broker: Broker, peer: Peer, now: float) -> None:
    peer.holds = dict(reversed(peer.holds.items()))
    _disconnect(broker, peer, now)


# -- who may do what


def _held_by_anybody(broker: Broker, peer: Peer, handle: bytes) -> Job | None:
    job = broker.jobs.get(handle)
    return job if job is not None and job.worker is not None else None


def _exception_to_all(broker: Broker, peer: Peer, job: Job, body: bytes, now: float) -> None:
    broker.relay(job, reports._packet(packets.WORK_EXCEPTION, body))
    broker.finish(job, False, now)
    peer.ended = job.handle


def _refuse_and_listen(broker: Broker, peer: Peer, refused: PacketRefused) -> None:
    broker.effects.send(peer.id, packets.response(packets.ERROR, refused.code, refused.text))
    if refused.close:
        broker.effects.close(peer.id)


# -- coalescing

_function, _join, _unwatch, _restore = Broker.function, Broker._join, giving_up.unwatch, restart.restore


def _function_sharing_keys(broker: Broker, name: bytes) -> Function:
    function = _function(broker, name)
    function.coalescing = next(iter(broker.functions.values())).coalescing
    return function


def _join_unsaved(broker: Broker, job: Job, peer: Peer, background: bool, now: float) -> None:
    job.background |= background
    _join(broker, job, peer, background, now)


def _join_without_upgrade(broker: Broker, job: Job, peer: Peer | None, background: bool, now: float) -> None:
    if background and peer is not None:  # else it is a cron entry that joins
        broker.effects.send(peer.id, packets.response(packets.JOB_CREATED, job.handle))
    else:
        _join(broker, job, peer, background, now)


def _join_without_watching(broker: Broker, job: Job, peer: Peer, background: bool, now: float) -> None:
    broker.effects.send(peer.id, packets.response(packets.JOB_CREATED, job.handle))


def _join_untold(broker: Broker, job: Job, peer: Peer, background: bool, now: float) -> None:
    job.streamed &= background
    _join(broker, job, peer, background, now)


def _so_far_of_a_part(job: Job) -> list[tuple[int, bytes]] | None:
    with patch.object(job.report, "cut", False) if job.report else nullcontext():
        return _so_far(job)


def _so_far_without_its_code(job: Job) -> list[tuple[int, bytes]] | None:
    with patch.object(job.course, "exit_code", -1) if job.course else nullcontext():
        return _so_far(job)


def _tell_again(broker: Broker, job: Job, peer: Peer, said: list[tuple[int, bytes]] | None) -> None:
    _tell_late(broker, job, peer, _so_far(job))


_so_far, _tell_late = keeping.so_far, Broker._tell_late


def _unwatch_background_too(broker: Broker, job: Job, peer: Peer, now: float) -> bytes:
    job.background = False
    return _unwatch(broker, job, peer, now)


def _unwatch_and_stay_open(broker: Broker, job: Job, peer: Peer, now: float) -> bytes:
    outcome = _unwatch(broker, job, peer, now)
    if job.state == ABANDONED and job.key is not None:
        broker._start_coalescing(job, job.key)
    return outcome


def _restore_without_key(broker: Broker, saved: Any, now: float) -> None:
    _restore(broker, saved, now)
    for job in broker.jobs.values():
        broker._stop_coalescing(job)


# -- time

_tick, _next_deadline, _line_up, _time_out = Broker.tick, Broker.next_deadline, Broker._line_up, Broker._time_out
_held, _release, _absorbed = Broker.held, Broker._release, reports._absorbed


def _next_deadline_without_timeouts(broker: Broker) -> float | None:
    with patch.object(broker, "timeouts", Deadlines()):
        return _next_deadline(broker)


def _next_deadline_without_delayed(broker: Broker) -> float | None:
    with patch.object(broker, "delayed", Deadlines()):
        return _next_deadline(broker)


def _time_out_and_keep(broker: Broker, job: Job, now: float) -> None:
    """It is queued once more, and its worker keeps it."""
    job.function.enqueue(_twin(job, now))
    broker._wake(job.function, now)


def _time_out_and_listen(broker: Broker, job: Job, now: float) -> None:
    assert job.worker is not None
    broker.__dict__.setdefault("late", {})[job.worker.id, job.handle] = None
    _time_out(broker, job, now)


def _held_until_late(broker: Broker, peer: Peer, handle: bytes) -> Job | None:
    job = _held(broker, peer, handle)
    if job is None and (peer.id, handle) in broker.__dict__.get("late", {}):
        job = broker.jobs.get(handle)
        return job if job is not None and job.worker is not None else None
    return job


def _absorb_reports_only(broker: Broker, peer: Peer, number: int, handle: bytes, now: float) -> bool:
    return number not in reports._ENDS and _absorbed(broker, peer, number, handle, now)


def _absorb_for_ever(broker: Broker, peer: Peer, number: int, handle: bytes, now: float) -> bool:
    return handle in peer.late or _absorbed(broker, peer, number, handle, now)


def _absorb_without_the_failure(broker: Broker, peer: Peer, number: int, handle: bytes, now: float) -> bool:
    with patch.object(packets, "WORK_EXCEPTION", -1):
        return _absorbed(broker, peer, number, handle, now)


def _time_out_at_the_tail(broker: Broker, job: Job, now: float) -> None:
    with patch.object(Function, "requeue", Function.enqueue):
        _time_out(broker, job, now)


def _time_out_untold(broker: Broker, job: Job, now: float) -> None:
    with patch.object(giving_up, "tell_worker", lambda *_: None):
        _time_out(broker, job, now)


def _time_out_telling_again(broker: Broker, job: Job, now: float) -> None:
    if job.state == ABANDONED:
        giving_up.tell_worker(broker, job, now)
    _time_out(broker, job, now)


def _tick_backwards(broker: Broker, now: float) -> None:
    """As it was: each is put in front of those that were due before it."""
    while (job := broker.timeouts.pop(now)) is not None:
        broker._time_out(job, now)
    _tick(broker, now)


def _wake_though_stopping(broker: Broker, function: Function, now: float) -> None:
    with patch.object(broker, "stopping", False):
        _wake(broker, function, now)


def _release_and_keep_the_time(broker: Broker, job: Job) -> None:
    """The time of one attempt counts for the next one, of a worker that set none."""
    known = broker.timeouts._due.get(job.id)
    _release(broker, job)
    if known is not None and job.state in (RUNNING, ABANDONED):
        broker.timeouts.set(job, known[0])


def _time_out_if_running(broker: Broker, job: Job, now: float) -> None:
    if job.worker is not None:
        _time_out(broker, job, now)


def _line_up_at_once(broker: Broker, job: Job, now: float) -> None:
    job.function.enqueue(job)
    broker._wake(job.function, now)


def _line_up_forgetting(broker: Broker, job: Job, now: float) -> None:
    job.due = 0.0
    _line_up(broker, job, now)


def _tick_silently(broker: Broker, now: float) -> None:
    while (job := broker.delayed.pop(now + broker.wall_offset)) is not None:
        job.move("due")
        job.function.delayed -= 1
        job.function.enqueue(job)
    _tick(broker, now)


def _tick_by_the_first_clock(broker: Broker, now: float) -> None:
    offset = broker.__dict__.setdefault("first_offset", broker.wall_offset)
    with patch.object(broker, "wall_offset", offset):
        _tick(broker, now)


def _restore_without_delayed(broker: Broker, saved: Any, now: float) -> None:
    if saved.due <= now + broker.wall_offset:
        _restore(broker, saved, now)


def _restore_due(broker: Broker, saved: Any, now: float) -> None:
    _restore(broker, saved._replace(due=0.0), now)


# -- administrators and reducers

_cancel_by_admin, _save = giving_up.cancel_by_admin, Broker._save
_answer, _maxqueue, _option = admin.answer, admin._maxqueue, dispatch._option


def _cancel_and_stay_open(broker: Broker, handle: bytes, now: float) -> bool:
    job = broker.jobs.get(handle)
    done = _cancel_by_admin(broker, handle, now)
    if job is not None and job.state == ABANDONED and job.key is not None:
        broker._start_coalescing(job, job.key)
        job.payload = job.payload or b""
    return done


def _cancel_unforgotten(broker: Broker, handle: bytes, now: float) -> bool:
    job = broker.jobs.get(handle)
    if job is not None:
        job.background = False
    return _cancel_by_admin(broker, handle, now)


def _cancel_unheard(broker: Broker, handle: bytes, now: float) -> bool:
    job = broker.jobs.get(handle)
    for watcher in job.watchers if job is not None and job.state != ABANDONED else ():
        del watcher.watches[handle]
    if job is not None:
        job.watchers.clear()
    return _cancel_by_admin(broker, handle, now)


def _cancel_again(broker: Broker, handle: bytes, now: float) -> bool:
    return _cancel_by_admin(broker, handle, now) or handle in broker.jobs


def _answer_at_any_space(broker: Broker, peer: Peer, line: bytes, now: float) -> None:
    _answer(broker, peer, b" ".join(line.split()), now)


def _maxqueue_of_anything(broker: Broker, words: list[bytes], now: float) -> bytes:
    return _maxqueue(broker, [*words[:2], *(word if word.strip(b"-").isdigit() else b"0" for word in words[2:])], now)


def _option_and_close(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    if len(args[0]) > 63:
        raise PacketRefused(b"UNKNOWN_OPTION", b"Server does not recognize given option")
    _option(broker, peer, args, now)


def _save_without_reducer(broker: Broker, job: Job) -> None:
    _save(broker, job)
    broker.effects.changes[-1] = broker.effects.changes[-1]._replace(reducer=b"")  # type: ignore[call-arg]


def _restore_without_reducer(broker: Broker, saved: Any, now: float) -> None:
    _restore(broker, saved._replace(reducer=b""), now)


def _drop_with_jobs(broker: Broker, function: Function) -> bool:
    return not function.workers and broker.functions.pop(function.name) is function


def _take_in_order(broker: Broker, peer: Peer) -> Job | None:
    for function in peer.can_do:
        for priority in (0, 1, 2):
            if function.queues[priority].live:
                return function.take(priority)
    return None


def _lose_patiently(broker: Broker, job: Job, now: float) -> None:
    with patch.object(broker, "rules", broker.rules._replace(losses_max=0)):
        _lose(broker, job, now)


# -- handles and the journal

_remove, _load = Broker._remove, MemoryStore.load


def _remove_and_reuse(broker: Broker, job: Job, now: float, outcome: str) -> None:
    _remove(broker, job, now, outcome)
    if job.id == broker._next_id - 1:
        broker._next_id = job.id


def _remove_unforgotten(broker: Broker, job: Job, now: float, outcome: str) -> None:
    job.background = False
    _remove(broker, job, now, outcome)


def _load_backwards(store: MemoryStore) -> Iterator[Any]:
    return reversed(list(_load(store)))


MUTANTS = (
    Mutant("last in, first out", ((JobQueue, "pop", _pop_last),)),
    Mutant("priority only within a function", ((Broker, "_take", _take_by_function),)),
    Mutant("CAN_DO wakes nobody", ((Broker, "can_do", _can_do_silently),)),
    Mutant("a woken worker's job is not passed on", ((Broker, "_awake", _awake_for_nobody),)),
    Mutant("PRE_SLEEP ignores jobs that wait", ((Broker, "pre_sleep", _pre_sleep_blindly),)),
    Mutant("a woken worker is expected for ever", ((Peer, "stop_expecting", _expect_for_ever),)),
    Mutant("patience never ends", ((Broker, "tick", lambda *_: None), (Broker, "next_deadline", lambda *_: None))),
    Mutant(
        "an old deadline cuts patience short",
        ((Broker, "tick", _tick_hastily), (Broker, "next_deadline", _next_deadline_hastily)),
    ),
    Mutant("a job is lost with its worker", ((Broker, "_lose", _lose_for_good),)),
    Mutant("a lost worker's job runs twice", ((Broker, "_lose", _lose_and_double),)),
    Mutant("a lost worker keeps its job though it is queued", ((Broker, "_lose", _lose_without_release),)),
    Mutant("a lost worker's job stays where it is", ((Broker, "_lose", _lose_nothing),)),
    Mutant("requeued at the tail", ((Function, "requeue", Function.enqueue),)),
    Mutant("several jobs requeued backwards", ((Broker, "disconnect", _disconnect_backwards),)),
    Mutant("a stranger may report", ((Broker, "held", _held_by_anybody),)),
    Mutant("packets after a fatal one count", ((dispatch, "refuse", _refuse_and_listen),)),
    Mutant("exceptions go to all", ((reports, "_exception", _exception_to_all),)),
    Mutant("coalescing across functions", ((Broker, "function", _function_sharing_keys),)),
    Mutant("an empty unique coalesces", ((Broker, "_key", lambda broker, unique, payload: unique),)),
    Mutant("`-` is a key like others", ((Broker, "_key", lambda broker, unique, payload: unique or None),)),
    Mutant("background joins foreground, not saved", ((Broker, "_join", _join_unsaved),)),
    Mutant("background joins foreground, which stays one", ((Broker, "_join", _join_without_upgrade),)),
    Mutant("a foreground joiner hears nothing", ((Broker, "_join", _join_without_watching),)),
    Mutant("a late joiner is not told", ((Broker, "_join", _join_untold),)),
    Mutant("a late joiner misses what is kept", ((keeping, "so_far", lambda job: None),)),
    Mutant("a late joiner is told a part as if it were all", ((keeping, "so_far", _so_far_of_a_part),)),
    Mutant("a late joiner misses the exit code", ((keeping, "so_far", _so_far_without_its_code),)),
    Mutant("who listens is told all again", ((Broker, "_tell_late", _tell_again),)),
    Mutant("a client that leaves takes a background job", ((giving_up, "unwatch", _unwatch_background_too),)),
    Mutant("an abandoned job can be joined", ((giving_up, "unwatch", _unwatch_and_stay_open),)),
    Mutant("a restored job has no key", ((restart, "restore", _restore_without_key),)),
    Mutant("a handle is used twice", ((Broker, "_remove", _remove_and_reuse),)),
    Mutant("handles start again after a restart", ((broker_module, "first_id", lambda shard: first_id(7)),)),
    Mutant("an end is not stored", ((Broker, "_remove", _remove_unforgotten),)),
    Mutant("restored newest first", ((MemoryStore, "load", _load_backwards),)),
    Mutant("a timeout never fires", ((Broker, "_time_out", lambda *_: None),)),
    Mutant("nobody looks when a worker's time is up", ((Broker, "next_deadline", _next_deadline_without_timeouts),)),
    Mutant("a timed-out job runs a second time while held", ((Broker, "_time_out", _time_out_and_keep),)),
    Mutant(
        "the late report of a timed-out worker counts",
        ((Broker, "_time_out", _time_out_and_listen), (Broker, "held", _held_until_late)),
    ),
    Mutant("a late report is refused", ((Peer, "expect_late", lambda *_: None),)),
    Mutant("a late end is refused", ((reports, "_absorbed", _absorb_reports_only),)),
    Mutant("a late job is never over", ((reports, "_absorbed", _absorb_for_ever),)),
    Mutant("a failure after a late exception is refused", ((reports, "_absorbed", _absorb_without_the_failure),)),
    Mutant("a timed-out job is requeued at the tail", ((Broker, "_time_out", _time_out_at_the_tail),)),
    Mutant("a timed-out worker is not told", ((Broker, "_time_out", _time_out_untold),)),
    Mutant("a worker is told twice to give a job up", ((Broker, "_time_out", _time_out_telling_again),)),
    Mutant("several timed-out jobs requeued backwards", ((Broker, "tick", _tick_backwards),)),
    Mutant("a stopping server wakes", ((Broker, "_wake", _wake_though_stopping),)),
    Mutant("a drain waits for jobs of later", ((Broker, "busy", lambda self: bool(self.jobs)),)),
    Mutant(
        "a time outlives its attempt",
        ((Broker, "_release", _release_and_keep_the_time), (Broker, "_time_out", _time_out_if_running)),
    ),
    Mutant("a job runs before its time", ((Broker, "_line_up", _line_up_at_once),)),
    Mutant("a job's time is forgotten", ((Broker, "_line_up", _line_up_forgetting),)),
    Mutant("a due job wakes nobody", ((Broker, "tick", _tick_silently),)),
    Mutant("nobody looks when a job is due", ((Broker, "next_deadline", _next_deadline_without_delayed),)),
    Mutant("the wall clock is read once", ((Broker, "tick", _tick_by_the_first_clock),)),
    Mutant("a restart loses delayed jobs", ((restart, "restore", _restore_without_delayed),)),
    Mutant("a restart runs delayed jobs at once", ((restart, "restore", _restore_due),)),
    Mutant("a cancelled job can be joined", ((giving_up, "cancel_by_admin", _cancel_and_stay_open),)),
    Mutant("a cancelled background job is not forgotten", ((giving_up, "cancel_by_admin", _cancel_unforgotten),)),
    Mutant("who waits for a cancelled job hears nothing", ((giving_up, "cancel_by_admin", _cancel_unheard),)),
    Mutant("a job can be cancelled twice", ((giving_up, "cancel_by_admin", _cancel_again),)),
    Mutant("maxqueue is ignored", ((admin, "_CHANGES", {**admin._CHANGES, b"maxqueue": lambda *_: b"OK\r\n"}),)),
    Mutant("what is no limit lifts it", ((admin, "_CHANGES", {**admin._CHANGES, b"maxqueue": _maxqueue_of_anything}),)),
    Mutant("a TAB ends a word", ((admin, "answer", _answer_at_any_space),)),
    Mutant(
        "a long option closes the connection",
        ((dispatch, "_HANDLERS", {**dispatch._HANDLERS, packets.OPTION_REQ: _option_and_close}),),
    ),
    Mutant("a full queue counts what is queued only", ((Function, "jobs", property(lambda self: self.queued)),)),
    Mutant("a function with jobs is dropped", ((functions, "drop", _drop_with_jobs),)),
    Mutant("a reducer is not stored", ((Broker, "_save", _save_without_reducer),)),
    Mutant("a restart loses reducers", ((restart, "restore", _restore_without_reducer),)),
    Mutant(
        "no worker is told the reducer",
        ((dispatch, "_HANDLERS", {**dispatch._HANDLERS, 39: dispatch._grab(packets.JOB_ASSIGN_UNIQ)}),),
    ),
    Mutant("a function registered anew keeps its place", ((Broker, "can_do", _can_do_in_place),)),
    Mutant("the first registered function first", ((Broker, "_take_by_registration", _take_in_order),)),
    Mutant("functions do not take turns", ((Peer, "rotate", lambda *_: None),)),
    Mutant("a job wakes one sleeper where it is to wake all", ((Broker, "_wake", _wake_as_many_as_needed),)),
    Mutant("a job never fails for its lost workers", ((Broker, "_lose", _lose_patiently),)),
    *(Mutant(name, patches) for name, patches in (*KEEPING, *LIFE, *STOPS)),
    *(Mutant(name, patches, CRON_ONE_OF) for name, patches in MUTANTS_OF_CRON),
)
