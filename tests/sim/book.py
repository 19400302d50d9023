"""The ledger's state and the few changes that several rules share: a job ends, a watcher leaves, a worker is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from farm.protocol import packets
from tests.sim.model import HIGH, LOW, SOMETIMES, Item, Key, Out, Party, Wrong


class Book:
    """All that should be true of one server, told only by what went in and what came out.

    handles: every handle that was ever given out, over all lives. finished: handles of background jobs whose end is
    stored; they must never run again. durable: what the journal must hold. seen: how often each interesting thing
    happened.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.handles: dict[bytes, None] = {}
        self.finished: dict[bytes, None] = {}
        self.durable: dict[bytes, Item] = {}
        self.ending: list[bytes] = []  # background jobs that ended since the last commit
        self.dirty = False  # a background job came or went since the last commit
        self.stopping = False
        self.forget()

    def forget(self) -> None:
        """What a crash takes: everything but the journal."""
        self.parties: dict[int, Party] = {}
        self.jobs: dict[bytes, Item] = {}
        self.queues: dict[tuple[bytes, int], list[Item]] = {}
        self.joinable: dict[Key, Item] = {}
        self.functions: dict[bytes, None] = {}
        self.ending.clear()
        self.dirty = False
        self.stopping = False

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
        self.handles[item.handle] = None
        self.jobs[item.handle] = item
        self.functions[item.function] = None
        if item.unique not in (b"", b"-") and any(
            item.unique == other.unique and item.function != other.function for other in self.joinable.values()
        ):
            self.saw("same key in two functions")
        if item.key is not None:
            self.joinable[item.key] = item
        self.dirty |= item.background
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
        self._close_to_joiners(item)
        if item.holder is None:
            self.queue(item).remove(item)
            del self.jobs[item.handle]
            self.saw("left a queued job")
            return b"dropped", []
        item.abandoned = True
        holder = self.parties.get(item.holder)
        if holder is not None and holder.extension:
            self.saw("left a running job, worker told")
            return b"told", [(holder.id, packets.FARM_JOB_CANCEL, item.handle)]
        self.saw("left a running job, worker cannot be told")
        return b"unheard", []

    def lose(self, item: Item) -> list[Out]:
        """The job's worker has gone. Returns what must be sent."""
        item.holder = None
        if item.abandoned:
            del self.jobs[item.handle]
            self.saw("abandoned job's worker lost")
            return []
        self.queue(item).insert(0, item)
        item.progress = (b"0", b"0")
        self.saw("requeued")
        if not item.streamed:
            return []
        item.streamed = False
        told = [watcher for watcher in item.watchers if self.parties[watcher].extension]
        if told:
            self.saw("client told of a restart")
        return [(watcher, packets.FARM_JOB_RESTARTED, item.handle) for watcher in told]

    def end(self, item: Item, party: Party) -> None:
        """The worker reported the job's end."""
        del party.holds[item.handle]
        del self.jobs[item.handle]
        self._close_to_joiners(item)
        for watcher in item.watchers:
            del self.parties[watcher].watches[item.handle]
        if item.abandoned:
            self.saw("abandoned job ended")
        if item.background:
            self.ending.append(item.handle)
            self.dirty = True

    def _close_to_joiners(self, item: Item) -> None:
        key = item.key
        if key is not None and self.joinable.get(key) is item:
            del self.joinable[key]
