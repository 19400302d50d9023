"""Mutants (see `mutants`) of a job's life: attempts, pauses, limits, dependencies, keys, cancels, settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from farm.broker import asks, course, dispatch, functions, giving_up, keeping, record, restart, retry, tries, waiting
from farm.broker.broker import Broker
from farm.broker.effects import Attempt, Finish, Forget, Progress, Purge, Revive, Setting, UniqueUntil
from farm.broker.function import Function
from farm.broker.job import DONE, FAILED, QUEUED, RUNNING, Job, handle_of
from farm.broker.peer import Peer
from farm.broker.retry import Failure
from farm.broker.terms import NOTHING, Terms, over
from farm.protocol import extension, packets
from farm.server.journal import Past
from tests.sim.server import SimServer

Patches = tuple[tuple[Any, str, Any], ...]

# -- attempts

_delay, _lose, _time_out, _again, _begun = retry.delay_s, Broker._lose, Broker._time_out, tries.again, tries.begun
_resume, _save_progress, _try_again = restart.resume, tries.save_progress, Broker.try_again
_note, _end = tries.note_attempt, keeping.end


def _one_more(terms: Terms, failure: Failure, failures: int, id: int) -> float | None:
    return _delay(terms._replace(retries=(terms.retries or 0) + 1) if terms.retries else terms, failure, failures, id)


def _one_fewer(terms: Terms, failure: Failure, failures: int, id: int) -> float | None:
    return _delay(terms, failure, failures + 1, id)


def _at_once(terms: Terms, failure: Failure, failures: int, id: int) -> float | None:
    return None if _delay(terms, failure, failures, id) is None else 0.0


def _never_doubled(terms: Terms, failure: Failure, failures: int, id: int) -> float | None:
    pause = _delay(terms, failure, failures, id)
    return None if pause is None else _delay(terms, failure, 1, id)


def _uncapped(terms: Terms, failure: Failure, failures: int, id: int) -> float | None:
    return _delay(terms._replace(backoff_max_s=None), failure, failures, id)


def _too_soon_after_a_timeout(terms: Terms, failure: Failure, failures: int, id: int) -> float | None:
    with patch.object(retry, "TIMEOUT_PAUSE_S", 0.0):
        return _delay(terms, failure, failures, id)


def _resume_forgetting(**forgotten: Any) -> Callable[[Broker, Job, Progress], None]:
    def resume(broker: Broker, job: Job, progress: Progress) -> None:
        _resume(broker, job, progress._replace(**forgotten))

    return resume


def _resume_at_once(broker: Broker, job: Job, progress: Progress) -> None:
    _resume(broker, job, progress)
    job.due = 0.0


def _killed_before(progress: Progress) -> Attempt:
    """It is taken for the one before, of which there is a row."""
    return _killed(progress)._replace(number=progress.attempts - 1)


def _number_of_the_lost(job: Job, outcome: str) -> int:
    return job.tried if outcome == FAILED else _number(job, outcome)


_killed, _number = keeping.killed, keeping._number


def _lose_once_more(broker: Broker, job: Job, now: float) -> None:
    with patch.object(broker, "rules", broker.rules._replace(losses_max=broker.rules.losses_max and 1)):
        _lose(broker, job, now)


def _poison_never(broker: Broker, job: Job, now: float) -> None:
    job.state = QUEUED
    job.function.requeue(job)
    if job.background:
        tries.save_progress(broker, job)
    broker._wake(job.function, now)


def _revive_without_its_end(past: Any, log: bytes) -> Attempt:
    return _last_attempt(past, log)._replace(log=b"", outcome="failed", reason=b"")


_last_attempt = keeping.last_attempt


def _fail_as_lost(broker: Broker, job: Job, now: float) -> bool:
    known = job.course
    failures = known.failures if known else 0
    again = _try_again(broker, job, now)
    if again and job.course:
        job.course.failures = failures
        job.losses += 1
    return again


def _fail_uncounted(broker: Broker, job: Job, now: float) -> bool:
    again = _try_again(broker, job, now)
    if again and job.course:
        job.course.failures = 0
    return again


def _again_heard(broker: Broker, job: Job, failure: Failure, now: float) -> bool:
    watchers = list(job.watchers)
    again = _again(broker, job, failure, now)
    for watcher in watchers if again else ():
        broker.effects.send(watcher.id, packets.response(packets.WORK_FAIL, job.handle))
    return again


def _again_unsaved(broker: Broker, job: Job, failure: Failure, now: float) -> bool:
    with patch.object(tries, "save_progress", lambda *_: None):
        return _again(broker, job, failure, now)


def _forget_exit(broker: Broker, job: Job, now: float) -> float:
    known = job.course
    code = known.exit_code if known else -1
    limit = _begun(broker, job, now)
    if job.course and code >= 0:
        job.course.exit_code = code
    return limit


def _limit_only_the_workers(job: Job) -> float:
    return 0.0


def _time_out_as_loss(broker: Broker, job: Job, now: float) -> None:
    if job.course:
        job.course.limit_s = 0.0
    _time_out(broker, job, now)


def _time_out_for_good(broker: Broker, job: Job, now: float) -> None:
    with patch.object(tries, "again", lambda *_: False):
        _time_out(broker, job, now)


def _again_while_held(broker: Broker, job: Job, failure: Failure, now: float) -> bool:
    """It is tried again, and its worker goes on with it: nobody tells it."""
    with patch.object(giving_up, "tell_worker", lambda *_: b""):
        again = _again(broker, job, failure, now)
    if again and failure.kind == retry.TIMEOUT:
        broker.delayed.drop(job)
        job.move("due")
        job.function.delayed -= 1
        job.function.enqueue(job)
        broker._wake(job.function, now)
    return again


def _note_nothing(broker: Broker, job: Job, outcome: str, reason: bytes, now: float) -> None:
    pass


def _note_as_failed(broker: Broker, job: Job, outcome: str, reason: bytes, now: float) -> None:
    _note(broker, job, "failed", reason, now)


def _end_counting_none(job: Job, *rest: Any) -> Finish | Forget:
    end = _end(job, *rest)
    return end._replace(failures=0) if isinstance(end, Finish) else end


def _usage_of_nobody(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    pass


# -- waiting too long

_limit, _expire, _tick, _deadline = tries.limit_waiting, giving_up.expire, Broker.tick, Broker.next_deadline


def _limit_never(broker: Broker, job: Job) -> None:
    pass


def _limit_also_when_tried(broker: Broker, job: Job) -> None:
    with patch.object(Job, "attempts", 0):
        _limit(broker, job)


def _limit_queued_only(broker: Broker, job: Job) -> None:
    if job.state == QUEUED:
        _limit(broker, job)


def _limit_from_the_start(broker: Broker, job: Job) -> None:
    known = job.course
    since = known.since if known else 0.0
    if known:
        known.since = 0.0
    _limit(broker, job)
    if known:
        known.since = since


def _expire_by_the_first_clock(broker: Broker, now: float) -> None:
    offset = broker.__dict__.setdefault("first_offset", broker.wall_offset)
    while (job := broker.expiring.pop(now + offset)) is not None:
        giving_up.expire(broker, job, now)
    kept, broker.expiring = broker.expiring, type(broker.expiring)()
    _tick(broker, now)
    broker.expiring = kept


def _deadline_without_expiry(broker: Broker) -> float | None:
    with patch.object(broker, "expiring", type(broker.expiring)()):
        return _deadline(broker)


def _expire_untold(broker: Broker, job: Job, now: float) -> None:
    with patch.object(tries, "tell_failed", lambda *_: None):
        _expire(broker, job, now)


def _begun_and_still_expiring(broker: Broker, job: Job, now: float) -> float:
    known = broker.expiring._due.get(job.id)
    limit = _begun(broker, job, now)
    if known is not None:
        broker.__dict__.setdefault("zombies", {})[job.id] = known[0]
    return limit


def _tick_expiring_runs(broker: Broker, now: float) -> None:
    for id, due in list(broker.__dict__.get("zombies", {}).items()):
        job = next((job for job in broker.jobs.values() if job.id == id), None)
        if due <= now + broker.wall_offset:
            del broker.__dict__["zombies"][id]
            if job is not None and job.state == RUNNING:
                broker.drop(job, b"waited too long", now)
    _tick(broker, now)


# -- other jobs

_begin, _settle, _settle_one, _release = waiting.begin, waiting.settle, waiting._settle, waiting._release
_restored, _restore, _conclude, _submit = waiting.restored, restart.restore, waiting.conclude, Broker.submit


def _begin_at_once(broker: Broker, job: Job, after: waiting.After, found: dict[bytes, str]) -> bytes:
    never = _begin(broker, job, after, found)
    if not never:
        waiting.forget(broker, job)
    return never


def _begin_regardless(broker: Broker, job: Job, after: waiting.After, found: dict[bytes, str]) -> bytes:
    return _begin(broker, job, tuple(pair for pair in after if not found[pair[1]]), found)


def _any_will_do(broker: Broker, job: Job, ended: int, outcome: str, now: float) -> None:
    """One of several is enough."""
    if job.course and ended in job.course.after:
        for other in [id for id in job.course.after if id != ended]:
            del job.course.after[other]
            broker.dependents.get(other, {}).pop(job, None)
            if other in broker.dependents and not broker.dependents[other]:
                del broker.dependents[other]
    _settle_one(broker, job, ended, outcome, now)


def _settle_one_end(broker: Broker, id: int, outcome: str, now: float) -> None:
    """The ends that an end brings about settle nobody."""
    if not broker.settling:
        _settle(broker, id, outcome, now)
    broker.dependents.pop(id, None)


def _settle_nobody(broker: Broker, id: int, outcome: str, now: float) -> None:
    pass


def _release_unsaved(broker: Broker, job: Job, ended: int, outcome: str, now: float) -> None:
    with patch.object(tries, "save_progress", lambda *_: None):
        _settle_one(broker, job, ended, outcome, now)


def _release_at_once(broker: Broker, job: Job, now: float) -> None:
    job.due = 0.0
    _release(broker, job, now)


def _release_asleep(broker: Broker, job: Job, now: float) -> None:
    with patch.object(Broker, "_wake", lambda *_: None):
        _release(broker, job, now)


def _restore_independent(broker: Broker, saved: Any, now: float) -> None:
    with patch.object(waiting, "begin", lambda *_: b""):
        _restore(broker, saved, now)


def _drop_and_leave(broker: Broker, job: Job, outcome: str, now: float) -> None:
    """Those that wait for a cancelled job wait for ever."""
    kept = broker.dependents.pop(job.id, None) if outcome == "cancelled" else None
    _conclude(broker, job, outcome, now)
    if kept is not None:
        broker.dependents[job.id] = kept


# -- keys

_may_submit, _hold, _will_hold, _know, _holder, _let_go = (
    dispatch._may_submit,
    waiting.hold,
    waiting.will_hold,
    restart.know,
    waiting.holder,
    waiting.let_go,
)


def _submit_anyway(broker: Broker, peer: Peer, function: Function, unique: bytes, wanted: Any, now: float) -> bool:
    _may_submit(broker, peer, function, unique, wanted, now)
    return True


def _attach_always(broker: Broker, peer: Peer, function: Function, unique: bytes, wanted: Any, now: float) -> bool:
    return _may_submit(broker, peer, function, unique, wanted._replace(if_exists=b"attach"), now)


def _replace_nothing(broker: Broker, *args: Any, **more: Any) -> Any:
    name, unique = args[1], args[2]
    function = broker.functions.get(name)
    live = function.coalescing.pop(unique, None) if function and more.get("replaces") else None
    if live is not None:
        live.key = None
    return _submit(broker, *args, **more)


def _hold_in_memory(broker: Broker, job: Job) -> None:
    before = len(broker.effects.changes)
    _hold(broker, job)
    del broker.effects.changes[before:]


def _will_hold_at_once(broker: Broker, job: Job, until: float) -> None:
    _will_hold(broker, job, until)
    _hold(broker, job)


def _hold_of_background_only(broker: Broker, job: Job) -> None:
    if job.background:
        _hold(broker, job)


def _know_no_keys(broker: Broker, known: Any) -> None:
    if not isinstance(known, UniqueUntil):
        _know(broker, known)


def _know_no_settings(broker: Broker, known: Any) -> None:
    if not isinstance(known, Setting):
        _know(broker, known)


def _know_no_progress(broker: Broker, known: Any) -> None:
    if not isinstance(known, Progress):
        _know(broker, known)


def _let_go_in_memory(broker: Broker, function: Function, unique: bytes) -> None:
    function.uniques.pop(unique, None)


# -- cancels and ends

_drop, _give_up, _cancel = Broker.drop, giving_up.give_up, asks._cancel


def _drop_unkept(broker: Broker, job: Job, reason: bytes, now: float) -> bytes:
    """A running job's cancel is not stored: it comes back after a restart."""
    if job.state == RUNNING:
        job.background = False
    return _drop(broker, job, reason, now)


def _drop_untold(broker: Broker, job: Job, reason: bytes, now: float) -> bytes:
    with patch.object(giving_up, "tell_worker", lambda *_: extension.CANCEL_TOLD):
        return _drop(broker, job, reason, now)


def _drop_without_reason(broker: Broker, job: Job, reason: bytes, now: float) -> bytes:
    return _drop(broker, job, b"", now)


def _conclude_early(broker: Broker, job: Job, outcome: str, now: float) -> None:
    with _sending(broker):
        _conclude(broker, job, outcome, now)


class _sending:
    """Promises go out at once while inside."""

    def __init__(self, broker: Broker) -> None:
        self._effects = broker.effects
        self._promises = broker.effects.promises

    def __enter__(self) -> None:
        self._effects.promises = []

    def __exit__(self, *why: object) -> None:
        self._effects.promises = self._promises


def _conclude_for_one(broker: Broker, job: Job, outcome: str, now: float) -> None:
    if job.course and job.course.waiters:
        for peer in job.course.waiters[1:] or job.course.waiters:
            peer.waits.pop(job.handle, None)
        job.course.waiters = job.course.waiters[:1] if len(job.course.waiters) > 1 else []
    _conclude(broker, job, outcome, now)


def _settled(past: Past, id: int) -> None:
    pass


def _settled_by_the_journal_only(past: Past, id: int) -> None:
    with patch.object(past, "_decided", tuple):
        _must_be_settled(past, id)


_must_be_settled = Past._must_be_settled


# -- retried and purged jobs

_revive, _each, _ended = restart.revive, asks._each, asks._ended


def _verb(name: str, change: Callable[[Broker, bytes, asks.Request, float], str]) -> Patches:
    return ((asks, "_COMMANDS", {**asks._COMMANDS, name: asks._each(change)}),)


def _retry_anything(broker: Broker, handle: bytes, request: asks.Request, now: float) -> str:
    past = None if waiting.live(broker, handle) else _ended(broker, handle)
    if past is not None and past.outcome == DONE and handle not in broker.jobs:
        restart.revive(broker, past, broker.history.payload(past.id), now)
        return "queued"
    return asks._retry(broker, handle, request, now)


def _retry_though_held(broker: Broker, handle: bytes, request: asks.Request, now: float) -> str:
    if handle in broker.jobs and waiting.live(broker, handle) is None:
        return "queued"
    return asks._retry(broker, handle, request, now)


def _purge_anything(broker: Broker, handle: bytes, request: asks.Request, now: float) -> str:
    job = waiting.live(broker, handle)
    if job is not None:
        broker.effects.changes.append(Purge(job.id))
        return "purged"
    return asks._purge(broker, handle, request, now)


def _purge_in_words(broker: Broker, handle: bytes, request: asks.Request, now: float) -> str:
    known = None if waiting.live(broker, handle) else _ended(broker, handle)
    return "purged" if known else asks._purge(broker, handle, request, now)


def _revive_empty(broker: Broker, past: Any, payload: bytes, now: float) -> None:
    _revive(broker, past, b"", now)


def _revive_unkept(broker: Broker, past: Any, payload: bytes, now: float) -> None:
    _revive(broker, past, payload, now)
    broker.effects.changes = [change for change in broker.effects.changes if not isinstance(change, Revive)]


def _revive_with_its_failures(broker: Broker, past: Any, payload: bytes, now: float) -> None:
    _revive(broker, past, payload, now)
    job = broker.jobs[handle_of(past.id)]
    assert job.course
    job.course.failures = past.failures


def _revive_without_key(broker: Broker, past: Any, payload: bytes, now: float) -> None:
    _revive(broker, past, payload, now)
    broker._stop_coalescing(broker.jobs[handle_of(past.id)])


# -- functions

_pause, _change, _drop_function = functions.pause, functions.change, functions.drop


def _pause_in_words(function: Function, paused: bool) -> None:
    function.paused = paused
    function.ready = function.queued


def _pause_unkept(broker: Broker, function: Function, paused: bool, now: float) -> None:
    _pause(broker, function, paused, now)
    broker.effects.changes.pop()


def _resume_silently(broker: Broker, function: Function, paused: bool, now: float) -> None:
    with patch.object(Broker, "_wake", lambda *_: None):
        _pause(broker, function, paused, now)


def _change_for_new_jobs(broker: Broker, function: Function, settings: dict[str, str | None]) -> None:
    with patch.object(tries, "limit_waiting", lambda *_: None):
        _change(broker, function, settings)


def _change_and_forget(broker: Broker, function: Function, settings: dict[str, str | None]) -> None:
    function.settings = NOTHING
    _change(broker, function, settings)


def _retries_or_none(job: Job) -> int:
    return course.terms_of(job).retries or 0


def _worker_first(job: Job) -> Terms:
    of_worker = job.worker.terms.get(job.function.name, NOTHING) if job.worker else NOTHING
    return over(of_worker, _terms_of(job))


_terms_of = course.terms_of

# -- what was put off


def _put_never(server: SimServer) -> None:
    pass


def _put_early(server: SimServer) -> None:
    server._later = type(server._later)((0, *packet[1:]) for packet in server._later)
    _put_again(server)


_put_again = SimServer._put_again

LIFE: tuple[tuple[str, Patches], ...] = (
    ("retries: one too many", ((tries, "delay_s", _one_more),)),
    ("retries: one too few", ((tries, "delay_s", _one_fewer),)),
    ("retry-on is ignored", ((retry, "_is_worth", lambda *_: True),)),
    ("no pause before a retry", ((tries, "delay_s", _at_once),)),
    ("a pause is never doubled", ((tries, "delay_s", _never_doubled),)),
    ("a pause grows without bound", ((tries, "delay_s", _uncapped),)),
    ("a pause is longer than its terms allow", ((retry, "JITTER", -0.25),)),
    ("a timed-out run is tried again at once", ((tries, "delay_s", _too_soon_after_a_timeout),)),
    ("attempts are forgotten over a restart", ((restart, "know", _know_no_progress),)),
    ("failures are forgotten over a restart", ((restart, "resume", _resume_forgetting(failures=0)),)),
    ("losses are forgotten over a restart", ((restart, "resume", _resume_forgetting(losses=0, running=False)),)),
    ("a pause is forgotten over a restart", ((restart, "resume", _resume_at_once),)),
    ("when an attempt began is forgotten over a restart", ((restart, "resume", _resume_forgetting(started=0.0)),)),
    ("an attempt that was lost with the server is taken for another", ((keeping, "killed", _killed_before),)),
    ("the end describes an attempt that was lost with the server", ((keeping, "_number", _number_of_the_lost),)),
    ("poison one early", ((Broker, "_lose", _lose_once_more),)),
    ("poison never", ((Broker, "_poison", _poison_never),)),
    ("a failure is counted as a loss", ((Broker, "try_again", _fail_as_lost),)),
    ("a failure is not counted", ((Broker, "try_again", _fail_uncounted),)),
    ("a failure that is tried again is told", ((tries, "again", _again_heard),)),
    ("a failure is not written down", ((tries, "again", _again_unsaved),)),
    ("an exit code outlives its attempt", ((tries, "begun", _forget_exit),)),
    ("a run's time limit never fires", ((tries, "time_limit", _limit_only_the_workers),)),
    ("a run that took too long counts as lost", ((Broker, "_time_out", _time_out_as_loss),)),
    ("a run that took too long is never tried again", ((Broker, "_time_out", _time_out_for_good),)),
    ("a run that took too long runs a second time meanwhile", ((tries, "again", _again_while_held),)),
    ("attempts leave no trace", ((tries, "note_attempt", _note_nothing),)),
    ("every attempt has failed", ((tries, "note_attempt", _note_as_failed),)),
    ("an end does not say how often it failed", ((keeping, "end", _end_counting_none),)),
    (
        "usage is not kept",
        ((dispatch, "_HANDLERS", {**dispatch._HANDLERS, packets.FARM_USAGE: _usage_of_nobody}),),
    ),
    ("nothing expires", ((tries, "limit_waiting", _limit_never),)),
    ("an expired job still runs", ((giving_up, "expire", lambda *_: None),)),
    ("expiry ignores the wall clock", ((Broker, "tick", _expire_by_the_first_clock),)),
    ("nobody looks when a job expires", ((Broker, "next_deadline", _deadline_without_expiry),)),
    ("a job that was tried expires", ((tries, "limit_waiting", _limit_also_when_tried),)),
    ("only a queued job expires", ((tries, "limit_waiting", _limit_queued_only),)),
    ("the wait for a worker counts from the beginning", ((tries, "limit_waiting", _limit_from_the_start),)),
    ("who waits for an expired job hears nothing", ((giving_up, "expire", _expire_untold),)),
    (
        "a running job expires",
        ((tries, "begun", _begun_and_still_expiring), (Broker, "tick", _tick_expiring_runs)),
    ),
    ("a dependent runs before its dependency", ((waiting, "begin", _begin_at_once),)),
    ("a dependency that ended badly lets it run", ((waiting, "_is_met", lambda *_: True),)),
    ("a dependency that has ended is not looked at", ((waiting, "begin", _begin_regardless),)),
    ("one of several dependencies is enough", ((waiting, "_settle", _any_will_do),)),
    ("a chain is not carried on", ((waiting, "settle", _settle_one_end),)),
    ("dependents wait for ever", ((waiting, "settle", _settle_nobody),)),
    ("dependencies are lost over a restart", ((restart, "restore", _restore_independent),)),
    ("an end missed before a restart is not made up for", ((waiting, "restored", lambda *_: None),)),
    ("that a dependency has ended is not written down", ((waiting, "_settle", _release_unsaved),)),
    ("a dependent does not wait for its time", ((waiting, "_release", _release_at_once),)),
    ("a released job wakes nobody", ((waiting, "_release", _release_asleep),)),
    ("a cancelled job's dependents wait for ever", ((waiting, "conclude", _drop_and_leave),)),
    ("if-exists skip submits", ((dispatch, "_may_submit", _submit_anyway),)),
    ("if-exists is ignored", ((dispatch, "_may_submit", _attach_always),)),
    ("replace leaves the old one", ((Broker, "submit", _replace_nothing),)),
    ("a key is forgotten with its job", ((waiting, "holder", lambda *_: 0),)),
    ("a key counts for ever", ((waiting, "holder", lambda function, unique, wall: _holder(function, unique, 0.0)),)),
    ("a key is forgotten over a restart", ((restart, "know", _know_no_keys),)),
    ("a key is not written down", ((waiting, "hold", _hold_in_memory),)),
    ("a foreground job's key counts though it is kept nowhere", ((waiting, "will_hold", _will_hold_at_once),)),
    ("a foreground job's key ends with it", ((waiting, "hold", _hold_of_background_only),)),
    ("a replaced key comes back after a restart", ((waiting, "let_go", _let_go_in_memory),)),
    ("a cancelled running job comes back after a restart", ((Broker, "drop", _drop_unkept),)),
    ("the worker of a cancelled job is not told", ((Broker, "drop", _drop_untold),)),
    ("a cancel's reason is lost", ((Broker, "drop", _drop_without_reason),)),
    ("an end is told before it is durable", ((waiting, "conclude", _conclude_early),)),
    ("one of those who wait for an end is forgotten", ((waiting, "conclude", _conclude_for_one),)),
    ("questions are answered before an end is durable", ((Past, "_must_be_settled", _settled),)),
    ("questions ignore ends of the same turn", ((Past, "_must_be_settled", _settled_by_the_journal_only),)),
    ("what was put off is never put again", ((SimServer, "_put_again", _put_never),)),
    ("what was put off is put again early", ((SimServer, "_put_again", _put_early),)),
    ("a done job is run again", _verb("retry", _retry_anything)),
    ("a job that its worker still has is run again, in words", _verb("retry", _retry_though_held)),
    ("retry loses the payload", ((restart, "revive", _revive_empty),)),
    ("a retried job's last attempt is forgotten", ((keeping, "last_attempt", _revive_without_its_end),)),
    ("a retried job is not stored", ((restart, "revive", _revive_unkept),)),
    ("a retried job has few retries left", ((restart, "revive", _revive_with_its_failures),)),
    ("a retried job cannot be joined", ((restart, "revive", _revive_without_key),)),
    ("a live job is purged", _verb("purge", _purge_anything)),
    ("a purged job is still known", _verb("purge", _purge_in_words)),
    ("a paused function gives jobs", ((Function, "pause", _pause_in_words),)),
    ("resume wakes nobody", ((functions, "pause", _resume_silently),)),
    ("a pause is not written down", ((functions, "pause", _pause_unkept),)),
    ("settings are lost over a restart", ((restart, "know", _know_no_settings),)),
    ("settings hold for new jobs only", ((functions, "change", _change_for_new_jobs),)),
    ("a setting replaces all others", ((functions, "change", _change_and_forget),)),
    ("that nobody has said how many retries there are is told as none", ((record, "_retries", _retries_or_none),)),
    ("a worker's terms go before a job's own", ((tries, "terms_of", _worker_first),)),
)
