"""The server with one promise broken on purpose, which the kills must notice. The product has no switch for it: the
rule is patched in a process of the test's own, before the server's main is called."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from farm.broker import dispatch, functions, restart
from farm.broker.broker import Broker
from farm.broker.effects import Change, Finish, Forget, Known, Progress, Save, UniqueUntil
from farm.broker.function import Function
from farm.broker.job import CANCELLED, Job
from farm.protocol import packets
from farm.protocol.packets import response
from farm.server import server as server_module
from farm.server.journal import Journal
from farm.server.promises import Promises, Send
from farm.server.server import Server
from farm.store.sqlite import SqliteStore
from farm.store.tables import Tables

SLOW_S = 0.03


def slow_disk() -> None:
    """No fault: each commit takes a while, so that being killed before it is likely. All must hold as before."""
    commit = SqliteStore.commit

    def commit_late(self: SqliteStore) -> None:
        time.sleep(SLOW_S)
        commit(self)

    SqliteStore.commit = commit_late  # type: ignore[method-assign]


def acknowledges_before_commit() -> None:
    """JOB_CREATED goes out while its commit is under way. On a fast disk what is killed has mostly written already,
    and what is written outlives a process."""

    def take(self: Promises, sends: Sequence[Send], promised: Sequence[int], batch: int) -> Sequence[Send]:
        return sends

    slow_disk()
    Promises.take = take  # type: ignore[method-assign, assignment]


def never_commits() -> None:
    """Rows are written into a transaction that nothing ends."""
    SqliteStore.commit = lambda self: None  # type: ignore[method-assign]


def drops_the_log() -> None:
    """What is in the write-ahead log and not in the file yet is taken for a rest of an earlier life."""
    open_store = SqliteStore.open

    def open_without(self: SqliteStore) -> int:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, "jobs.db-wal"))
        return open_store(self)

    SqliteStore.open = open_without  # type: ignore[method-assign]


def barrier_does_not_wait() -> None:
    """The echo of a careful worker is answered at once."""

    def echo(broker: Broker, peer: Any, args: list[bytes], now: float) -> None:
        broker.effects.send(peer.id, response(packets.ECHO_RES, args[0]))

    slow_disk()
    dispatch._HANDLERS[packets.ECHO_REQ] = echo


def forgets_when_given_out() -> None:
    """The row of a job goes when a worker gets it, not when it has ended."""
    grab = Broker.grab

    def grab_and_forget(self: Broker, peer: Any, now: float) -> Any:
        job = grab(self, peer, now)
        if job is not None and job.background:
            self.effects.changes.append(Forget(job.id))
        return job

    Broker.grab = grab_and_forget  # type: ignore[method-assign]


def never_forgets() -> None:
    """Rows of jobs that have ended stay."""
    put = Tables.put

    def without_the_ended(self: Tables, changes: Iterable[Change], *, with_output: bool) -> None:
        put(self, [change for change in changes if not isinstance(change, Finish | Forget)], with_output=with_output)

    Tables.put = without_the_ended  # type: ignore[method-assign]


def joining_is_not_stored() -> None:
    """A background submission that joins a foreground job is acknowledged and leaves the job as it is."""

    def join(self: Broker, job: Any, peer: Any, background: bool, now: float) -> None:
        if background:
            self.effects.promise(peer.id, response(packets.JOB_CREATED, job.handle))
        else:
            self.effects.send(peer.id, response(packets.JOB_CREATED, job.handle))
            self._watch(job, peer)

    Broker._join = join  # type: ignore[method-assign]


def handles_start_again() -> None:
    """Each life counts from the same beginning, or from the last job that was left, as gearmand does."""
    restore = restart.restore

    def restore_and_count(self: Broker, saved: Save, now: float) -> None:
        restore(self, saved, now)
        self._next_id = saved.id + 1

    restart.restore = restore_and_count
    server_module.Broker = lambda shard, rules: Broker(1, rules)  # type: ignore[misc, assignment]


def restored_jobs_run_at_once() -> None:
    """What a delayed job waits for is not read back."""
    restore = restart.restore
    restart.restore = lambda self, saved, now: restore(self, saved._replace(due=0.0), now)


def empty_key_is_a_key() -> None:
    """As in gearmand's stores: background jobs without a key replace one another."""
    key = Broker._key
    Broker._key = lambda self, unique, payload: key(self, unique or b"none", payload)  # type: ignore[method-assign]


def failures_are_forgotten() -> None:
    """After a restart a job that is tried again has all its retries again."""
    resume = restart.resume
    restart.resume = lambda self, job, progress: resume(self, job, progress._replace(failures=0))


def jobs_that_wait_to_be_tried_again_are_lost() -> None:
    """At a restart they are in none of the queues."""
    restore = restart.restore

    def restore_others(self: Broker, saved: Save, now: float) -> None:
        progress = self.unfinished.get(saved.id)
        if progress is None or not progress.due:
            restore(self, saved, now)

    restart.restore = restore_others


def back_off_ends_with_the_server() -> None:
    """What has failed is tried again at once after a restart."""
    resume = restart.resume
    restart.resume = lambda self, job, progress: resume(self, job, progress._replace(due=0.0))


def cancelled_jobs_come_back() -> None:
    """The journal does not hear that a job was cancelled."""
    end = Broker._end

    def end_others(self: Broker, job: Job, outcome: str, now: float) -> None:
        if outcome != CANCELLED:
            end(self, job, outcome, now)

    Broker._end = end_others  # type: ignore[method-assign]


def keys_end_with_the_server() -> None:
    """A key that counts for a while counts only in this life."""
    know = restart.know

    def know_others(self: Broker, known: Known) -> None:
        if not isinstance(known, UniqueUntil):
            know(self, known)

    restart.know = know_others


# name -> how to break it, and under which word of the verdict it must be found
MUTANTS: dict[str, tuple[Callable[[], None], str]] = {
    "slow-disk": (slow_disk, ""),
    "acknowledges-before-commit": (acknowledges_before_commit, "lost"),
    "never-commits": (never_commits, "lost"),
    "drops-the-log": (drops_the_log, "lost"),
    "barrier-does-not-wait": (barrier_does_not_wait, "again"),
    "forgets-when-given-out": (forgets_when_given_out, "lost"),
    "never-forgets": (never_forgets, "again"),
    "joining-is-not-stored": (joining_is_not_stored, "lost"),
    "handles-start-again": (handles_start_again, "repeated"),
    "restored-jobs-run-at-once": (restored_jobs_run_at_once, "early"),
    "empty-key-is-a-key": (empty_key_is_a_key, "repeated"),
    "failures-are-forgotten": (failures_are_forgotten, "forgotten"),
    "jobs-to-be-tried-again-are-lost": (jobs_that_wait_to_be_tried_again_are_lost, "lost"),
    "back-off-ends-with-the-server": (back_off_ends_with_the_server, "early"),
    "cancelled-jobs-come-back": (cancelled_jobs_come_back, "back"),
    "keys-end-with-the-server": (keys_end_with_the_server, "repeated"),
}


def reads_the_clock_once() -> None:
    """The wall clock is taken to go on as it did when the server started."""
    read = Server._read_clocks

    def read_once(self: Server) -> None:
        if not self._broker.wall_offset:
            read(self)

    Server._read_clocks = read_once  # type: ignore[method-assign]


def times_out_by_the_wall_clock() -> None:
    """A running job's time is up when the wall clock says so."""
    tick = Broker.tick

    def tick_by_the_wall(self: Broker, now: float) -> None:
        if not hasattr(Server, "first_offset"):
            Server.first_offset = self.wall_offset  # type: ignore[attr-defined]
        tick(self, now + self.wall_offset - Server.first_offset)  # type: ignore[attr-defined]

    Broker.tick = tick_by_the_wall  # type: ignore[method-assign]


def keeps_monotonic_times() -> None:
    """What waits for its time is stored with the time of the clock that begins anew with each boot."""

    def moved(change: Change, by: float) -> Change:
        if isinstance(change, Save | Progress) and change.due:
            return change._replace(due=change.due + by)
        return change

    def offset() -> float:
        return time.time() - time.monotonic()

    write, load, known = SqliteStore.write, SqliteStore.load, SqliteStore.known

    def load_moved(self: SqliteStore) -> Iterator[Save]:
        for save in load(self):
            yield save._replace(due=save.due + offset()) if save.due else save

    def known_moved(self: SqliteStore) -> Iterator[Known]:
        for each in known(self):
            yield each._replace(due=each.due + offset()) if isinstance(each, Progress) and each.due else each

    SqliteStore.write = lambda self, changes: write(self, [moved(each, -offset()) for each in changes])  # type: ignore[method-assign]
    SqliteStore.load = load_moved  # type: ignore[method-assign]
    SqliteStore.known = known_moved  # type: ignore[method-assign]


def looks_at_the_time_first() -> None:
    """A turn begins with what is due, and only then takes what has come."""
    end_turn = Server._end_turn

    def end_turn_late(self: Server) -> None:
        self._broker.tick(self._loop.now)
        end_turn(self)

    Server._end_turn = end_turn_late  # type: ignore[method-assign]


# Not for the kills: test_clock.py, test_clock_bases.py
CLOCK_MUTANTS: dict[str, Callable[[], None]] = {
    "reads-the-clock-once": reads_the_clock_once,
    "times-out-by-the-wall-clock": times_out_by_the_wall_clock,
}
BASE_MUTANTS: dict[str, Callable[[], None]] = {
    "keeps-monotonic-times": keeps_monotonic_times,
    "looks-at-the-time-first": looks_at_the_time_first,
}


def leaves_without_its_commit() -> None:
    """The journal is closed while its thread is at a commit, and what waits for the next one is dropped."""
    slow_disk()
    Journal.close = lambda self: None  # type: ignore[method-assign]


def cuts_background_jobs_off() -> None:
    """As it was: only those jobs are waited for that a client waits for."""
    Server._running = lambda self: sum(  # type: ignore[method-assign]
        bool(job.watchers) for peer in self._broker.peers.values() for job in peer.holds.values()
    )


# test_stopping.py
STOP_MUTANTS: dict[str, Callable[[], None]] = {
    "leaves-without-its-commit": leaves_without_its_commit,
    "cuts-background-jobs-off": cuts_background_jobs_off,
}


def drops_functions_with_jobs() -> None:
    """As gearmand: the function is forgotten, and what is queued for it with it."""

    def drop(self: Broker, function: Function) -> bool:
        del self.functions[function.name]
        return True

    functions.drop = drop


def counts_no_losses() -> None:
    """A job that its worker died of looks like a new one."""
    lose = Broker._lose

    def lose_and_forget(self: Broker, job: Job, now: float) -> None:
        lose(self, job, now)
        job.losses = 0

    Broker._lose = lose_and_forget  # type: ignore[method-assign]


# test_losses.py
LOSS_MUTANTS: dict[str, Callable[[], None]] = {
    "drops-functions-with-jobs": drops_functions_with_jobs,
    "counts-no-losses": counts_no_losses,
}


def run(name: str) -> None:
    """Break the rule and become the server."""
    from farm.cli.main import main

    others = CLOCK_MUTANTS | BASE_MUTANTS | STOP_MUTANTS | LOSS_MUTANTS
    (others[name] if name in others else MUTANTS[name][0])()
    main()
