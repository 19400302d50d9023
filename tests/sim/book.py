"""The ledger's state and the few changes that several rules share: a job ends, a watcher leaves, a worker is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from farm.broker.broker import DEFAULT, Rules
from farm.protocol import packets
from tests.sim.kept import Kept
from tests.sim.model import HIGH, LOW, SOMETIMES, Item, Key, Out, Party, Wrong

COUNTED_AFTER_S = 1.0  # an attempt that has lasted so long must be written down as begun


class Book:
    """All that should be true of one server, told only by what went in and what came out.

    handles: every handle that was ever given out, over all lives. kept: what the journal must hold. no_room: no new
    background job can be taken. seen: how often each interesting thing happened. now, wall: the two clocks.
    """

    def __init__(self, rules: Rules = DEFAULT) -> None:
        self.rules = rules
        self.now = self.wall = self.wall_offset = 0.0
        self.seen: Counter[str] = Counter()
        self.handles: dict[bytes, Item] = {}
        self.kept = Kept()
        self.stopping = False
        self.forget()

    def forget(self) -> None:
        """What a crash takes: everything but the journal."""
        self.parties: dict[int, Party] = {}
        self.jobs: dict[bytes, Item] = {}
        self.queues: dict[tuple[bytes, int], list[Item]] = {}
        self.joinable: dict[Key, Item] = {}
        self.functions: dict[bytes, None] = {}
        self.limits: dict[bytes, tuple[int, ...]] = {}
        self.kept.crash()
        self.stopping = self.no_room = False

    def saw(self, what: str) -> None:
        """Count an interesting thing."""
        assert what in SOMETIMES, what
        self.seen[what] += 1

    # -- queues

    def queue(self, item: Item) -> list[Item]:
        """The line that the job stands in."""
        return self.queues.setdefault((item.function, item.priority), [])

    def waiting(self) -> Iterator[Item]:
        """Every queued job."""
        for queue in self.queues.values():
            yield from queue

    def best_priority(self, party: Party) -> int | None:
        """The highest priority of any job that this worker could be given now."""
        for priority in range(HIGH, LOW + 1):
            if any(self.queues.get((function, priority)) for function in party.abilities):
                return priority
        return None

    # -- changes

    def add(self, item: Item) -> None:
        """A new job, last in its line."""
        if item.handle in self.handles:
            raise Wrong(f"{item.handle!r} was given to another job before")
        self.handles[item.handle] = item
        self.jobs[item.handle] = item
        self.functions[item.function] = None
        if item.unique not in (b"", b"-") and any(
            item.unique == other.unique and item.function != other.function for other in self.joinable.values()
        ):
            self.saw("same key in two functions")
        if item.key is not None:
            self.joinable[item.key] = item
        item.queued_at = self.now
        if item.background:
            self.kept.save(item, self.wall_offset)
        self.line_up(item)

    def line_up(self, item: Item) -> None:
        """Last in its line, or aside until its time has come."""
        item.delayed = item.due > self.wall
        if not item.delayed:
            self.queue(item).append(item)

    def watch(self, item: Item, party: Party) -> None:
        """`party` waits for the job from now on."""
        if item.handle not in party.watches:
            party.watches[item.handle] = item
            item.watchers.append(party.id)

    def unwatch(self, item: Item, party: Party) -> tuple[bytes, list[Out]]:
        """`party` waits no more. Returns the outcome as FARM_CANCEL_RES words it, and what must be sent."""
        del party.watches[item.handle]
        item.watchers.remove(party.id)
        if item.background or item.watchers:
            self.saw("left a job that others want")
            return b"shared", []
        if item.holder is None:
            self._drop(item)
            self.saw("left a queued job")
            return b"dropped", []
        told = self._abandon(item)
        if told:
            self.saw("left a running job, worker told")
            return b"told", told
        self.saw("left a running job, worker cannot be told")
        return b"unheard", []

    def _drop(self, item: Item) -> None:
        self._close_to_joiners(item)
        if not item.delayed:
            self.queue(item).remove(item)
        del self.jobs[item.handle]

    def _abandon(self, item: Item) -> list[Out]:
        self._close_to_joiners(item)
        item.abandoned = True
        return self._tell_holder(item)

    def _tell_holder(self, item: Item) -> list[Out]:
        assert item.holder is not None
        holder = self.parties.get(item.holder)
        return [(holder.id, packets.FARM_JOB_CANCEL, item.handle)] if holder is not None and holder.extension else []

    def cancel(self, item: Item) -> list[Out]:
        """An administrator ends the job. Returns what must be sent."""
        failed = self._fail(item, b"farm: the job was cancelled\n", 130)
        if item.background:
            self._keep_end(item, "cancelled", b"")
            self.saw("administrator cancelled a background job")
        if item.holder is None:
            self.saw(
                "administrator cancelled a delayed job" if item.delayed else "administrator cancelled a queued job"
            )
            self._drop(item)
            return failed
        item.background = False
        self.saw("administrator cancelled a running job")
        return failed + self._abandon(item)

    def _fail(self, item: Item, text: bytes, code: int) -> list[Out]:
        """Who waits hears that it failed, and with the extension why, and an exit code."""
        failed: list[Out] = []
        for watcher in item.watchers:
            if self.parties[watcher].extension:
                trailer = b"farm: exit %d farm\n" % code
                failed += [(watcher, packets.WORK_WARNING, item.handle + b"\0" + said) for said in (text, trailer)]
            failed.append((watcher, packets.WORK_FAIL, item.handle))
            del self.parties[watcher].watches[item.handle]
        item.watchers.clear()
        return failed

    def expire(self, item: Item) -> list[Out]:
        """The time of the job's worker is up. Returns what must be sent."""
        assert item.holder is not None
        self.saw("abandoned job timed out" if item.abandoned else "timed out")
        told = [] if item.abandoned else self._tell_holder(item)
        if told:
            self.saw("timed out, worker told")
        if item.abandoned and self.parties[item.holder].extension:
            self.saw("abandoned job timed out, worker told before")
        party = self.parties[item.holder]
        del party.holds[item.handle]
        party.expired[item.handle] = None
        return told + self.lose(item)

    def lose(self, item: Item) -> list[Out]:
        """The job's worker has gone. Returns what must be sent."""
        last = not item.abandoned and 0 < self.rules.losses_max <= item.losses + 1
        if item.background and not last:
            self.kept.tried(item, "lost", b"worker lost", self.rules.result_max, self.now, self.wall_offset)
        item.holder = None
        item.expires = 0.0
        item.losses += 1
        if last:
            self.saw("job failed for its lost workers")
            self._close_to_joiners(item)
            del self.jobs[item.handle]
            if item.background:
                self._keep_end(item, "failed", b"poison")
            return self._fail(item, b"farm: the job has taken %d workers along\n" % item.losses, 125)
        if item.abandoned:
            del self.jobs[item.handle]
            self.saw("abandoned job's worker lost")
            return []
        self.queue(item).insert(0, item)
        if item.background:
            self.kept.course(item)
        item.progress = (b"0", b"0")
        item.said.clear()
        item.missed = False
        self.saw("requeued")
        if not item.streamed:
            return []
        item.streamed = False
        told = [watcher for watcher in item.watchers if self.parties[watcher].extension]
        if told:
            self.saw("client told of a restart")
        return [(watcher, packets.FARM_JOB_RESTARTED, item.handle) for watcher in told]

    def end(self, item: Item, party: Party, outcome: str) -> None:
        """The worker reported the job's end."""
        del party.holds[item.handle]
        del self.jobs[item.handle]
        self._close_to_joiners(item)
        for watcher in item.watchers:
            del self.parties[watcher].watches[item.handle]
        if item.abandoned:
            self.saw("abandoned job ended")
        if outcome == "failed":
            item.failures += 1
            item.holder = None  # so that the attempt that has just ended counts once
        if item.background:
            self._keep_end(item, outcome, b"" if outcome == "done" else _why(item))

    def _keep_end(self, item: Item, outcome: str, reason: bytes) -> None:
        self.kept.end(item, outcome, reason, self.rules.result_max, self.now, self.wall_offset)

    def revived(self, handle: bytes) -> Item:
        """A stored job as it is after a restart: what ran then, and was written down, is lost."""
        item = self.handles[handle].afresh()
        if handle in self.kept.courses:
            # Its time has come before, whatever the clock says now.
            attempts, item.failures, losses, item.due, running, _ = self.kept.courses[handle]  # type: ignore[assignment, misc]
            assert isinstance(attempts, int) and isinstance(losses, int)
            item.losses = losses + bool(running)
            item.before = attempts - item.failures - item.losses
            item.doomed = bool(running)
            self.saw("attempt counted as lost after a restart" if running else "attempts remembered after a restart")
        return item

    def is_poison(self, item: Item) -> bool:
        """Whether it has taken one worker too many along: the server itself."""
        return item.doomed and 0 < self.rules.losses_max <= item.losses

    def poisoned_at_start(self, item: Item) -> None:
        """It is dead at once."""
        self.saw("job failed for its lost workers, the server being the last")
        del self.jobs[item.handle]
        self._close_to_joiners(item)
        self._keep_end(item, "failed", b"poison")

    def hand_back(self) -> None:
        """The server leaves in good order: what runs is not lost."""
        for item in self.jobs.values():
            if item.holder is not None and item.background and item.noted and not item.abandoned:
                holder, item.holder = item.holder, None
                item.before += 1
                self.kept.course(item)
                item.before -= 1
                item.holder = holder
                self.saw("running job handed back")

    def note_if_long(self, item: Item) -> None:
        """It is written down of an attempt that has lasted for so long that it has begun."""
        runs = item.holder is not None and not item.abandoned and item.background
        if runs and not item.noted and item.started + COUNTED_AFTER_S <= self.now:
            item.noted = True
            self.kept.course(item)

    def _close_to_joiners(self, item: Item) -> None:
        key = item.key
        if key is not None and self.joinable.get(key) is item:
            del self.joinable[key]


def _why(item: Item) -> bytes:
    code = item.code
    if code < 0:
        return b"failed"
    if item.timed_out:
        return b"timeout"
    return b"signal %d" % (code - 128) if code > 128 else b"exit %d" % code
