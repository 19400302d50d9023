"""The simulated disk: the real journal (farm/server/journal.py) without its thread, over a store whose commits take
simulated time, lose what was not committed, and fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.loop import Loop
from farm.server.journal import Journal
from farm.store.contract import StoreError
from farm.store.memory import MemoryJournal, MemoryStore

if TYPE_CHECKING:
    from tests.sim.server import SimServer
    from tests.sim.world import World

# Where the server dies in a commit. Of one that is cut off nobody knows whether it has reached the disk.
COMMIT_LOST = "during a commit that is lost"
COMMIT_KEPT = "during a commit that is kept"
DISK_FAILS = "after the disk failed"


class SimStore(MemoryStore):
    """waits: as a disk; without it as the memory store, whose commits are immediate."""

    def __init__(self, journal: MemoryJournal, world: World, waits: bool) -> None:
        super().__init__(journal)
        self.waits = waits
        self._world = world

    def commit(self) -> None:
        """See Store."""
        kept = self._world.ledger.book.kept
        if not self.waits:
            kept.begins()
        super().commit()
        kept.committed(self)
        if not self.waits:
            kept.known = kept.stored

    def low(self) -> str:
        """See Store."""
        return "hardly any room" if self._world.disk_low else ""


class SimJournal(Journal):
    """The real rules of what is committed when, in simulated time."""

    def __init__(self, server: SimServer, store: SimStore, world: World) -> None:
        super().__init__(store, _NO_LOOP, server.keep_promises, server.fail)
        self._server = server
        self._world = world
        self._commits = 0
        self._on_disk = True
        self._dead = False
        self.broke: StoreError | None = None  # how its disk has failed

    def die(self) -> None:
        """Its process is dead, and nothing comes of the commit under way. `close` is the orderly way."""
        self._dead = True

    def _start_commit(self) -> None:
        self._world.ledger.book.kept.begins()
        if len(self._under_way) > 1:
            self._world.ledger.book.saw("several changes in one commit")
        self._commits += 1
        self._on_disk = False
        if self._world.rng.random() < 0.2:  # faster than the loop, which goes on with the same turn
            self._reach_disk()
        else:
            self._world.later(self._world.commit_s(), self._end, self._commits)

    def _end(self, commit: int) -> None:
        """The disk has answered, or has not."""
        if self._dead or commit != self._commits or self._on_disk:
            return
        doom = self._server.doom
        if doom in (COMMIT_KEPT, COMMIT_LOST):
            if doom == COMMIT_KEPT:
                self._reach_disk()
            self._server.meet_doom()
        elif doom == DISK_FAILS:
            if self._world.rng.random() < 0.5:  # and yet the next life may find it
                self._reach_disk()
            self._failure = self.broke = StoreError("input/output error")
            self._world.later(self._world.rng.uniform(0, 0.004), self._tell, commit)
        else:
            self._reach_disk()

    def _reach_disk(self) -> None:
        self._on_disk = True
        self._store.commit()
        self._world.later(self._world.rng.uniform(0, 0.004), self._tell, self._commits)

    def _tell(self, commit: int) -> None:
        """The loop wakes up and hears of it."""
        if self._dead or commit != self._commits or not self._goal:
            return
        if not self._failure:
            kept = self._world.ledger.book.kept
            kept.known = kept.stored
        self._committed()

    def _await_commit(self) -> None:
        if not self._on_disk:
            self._reach_disk()

    def _end_thread(self) -> None:
        self._dead = True


_NO_LOOP = Loop.__new__(Loop)  # nothing of it is used: it wakes up for a thread's pipe
