"""Group commit: what the rules want kept goes to the store, and what must not be said before it is kept waits.

While one commit is under way in a thread, later turns go on and their changes gather; they all go into the next one. A
promise (JOB_CREATED for a background job) waits for the commit that has its changes, and whatever is sent to the same
peer afterwards waits behind it; everything else goes out at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from logging import getLogger

from farm.broker import effects
from farm.broker.effects import Attempt, Change, Finish, Forget, Purge, Revive, Save
from farm.broker.history import NotYet, Unreadable
from farm.loop import READ, Loop
from farm.store.contract import Store, StoreError

log = getLogger("farm.server")

SAY_EVERY_S = 1.0  # of what cannot be read: who asks may ask a thousand times

_OF_ENDS = (Finish, Forget, Purge, Revive)


class Past:
    """The rules' History: what a store keeps of ended jobs, once it does. decided: the changes of the turn under way,
    which the journal has not been given yet."""

    def __init__(self, store: Store, journal: Journal, decided: Callable[[], Sequence[Change]]) -> None:
        self._store = store
        self._journal = journal
        self._decided = decided
        self._say_at = 0.0  # when an error is worth a line again

    def ended(self, id: int) -> Finish | None:
        """See History."""
        self._must_be_settled(id)
        with self._reading():
            return self._store.ended(id)

    def about(self, id: int) -> effects.Past | None:
        """See History."""
        self._must_be_settled(id)
        with self._reading():
            return self._store.about(id)

    def attempts(self, id: int) -> list[Attempt]:
        """See History. Of a job that has not ended those are missing that are on their way."""
        with self._reading():
            return self._store.attempts(id)

    def past(
        self, limit: int, before: int = 0, function: bytes = b"", outcomes: Sequence[str] = (), since: float = 0.0
    ) -> list[effects.Past]:
        """See History."""
        with self._reading():
            return self._store.past(limit, before, function, outcomes, since)

    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        """See History."""
        with self._reading():
            return self._store.ended_ids(first, last, limit)

    def payload(self, id: int) -> bytes:
        """See History."""
        self._must_be_settled(id)
        with self._reading():
            return self._store.payload(id)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """An error is said, in one line and not more often than people can read, and is the asker's alone: nothing is
        promised by reading, and what is wrong with what must be written is found by writing it."""
        try:
            yield
        except StoreError as error:
            now = time.monotonic()
            if now >= self._say_at:
                self._say_at = now + SAY_EVERY_S
                log.error("cannot read what is kept of jobs that have ended: %s", error)
            raise Unreadable(error.message, error.hint, error.status) from error

    def _must_be_settled(self, id: int) -> None:
        if self._journal.settles(id, self._decided()):
            raise NotYet


class _Ends:
    """The ids of the jobs that end, or come back, among some changes; looked through once, as they grow."""

    def __init__(self) -> None:
        self._changes: Sequence[Change] = ()
        self._ids: set[int] = set()
        self._seen = 0

    def has(self, id: int, changes: Sequence[Change]) -> bool:
        """Whether this one is among them."""
        if changes is not self._changes or len(changes) < self._seen:
            self._changes, self._ids, self._seen = changes, set(), 0
        if self._seen < len(changes):
            self._ids.update(change.id for change in changes[self._seen :] if isinstance(change, _OF_ENDS))
            self._seen = len(changes)
        return id in self._ids


class Journal:
    """The only user of the store once it is open.

    written: how many batches of changes were given to `keep`. durable: how many of them are. on_commit is called from
    the loop whenever `durable` has grown, on_failure when nothing more can be kept.
    """

    def __init__(
        self, store: Store, loop: Loop, on_commit: Callable[[], None], on_failure: Callable[[StoreError], None]
    ) -> None:
        self.written = 0
        self.durable = 0
        self._store = store
        self._loop = loop
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._waiting: list[Change] = []  # for the next commit
        self._under_way: list[Change] = []  # in the one that a thread is at
        self._ends = (_Ends(), _Ends(), _Ends())
        self._goal = 0  # the batch up to which that one goes; 0: none is under way
        self._failure: StoreError | None = None
        self._committer: threading.Thread | None = None
        self._go = threading.Semaphore(0)
        self._ended = threading.Event()  # the commit under way has
        self._wake_read = self._wake_write = -1

    @property
    def behind(self) -> bool:
        """Whether something given to `keep` is not durable yet."""
        return self.durable != self.written

    def keep(self, changes: list[Change]) -> None:
        """Make these durable, after all before them. Where the store does not wait, they are when this returns."""
        self.written += 1
        if self._failure:  # and so nothing that waits for it is ever said
            return
        if self._store.waits:
            self._waiting += changes
            if not self._goal:
                self._begin()
            return
        try:
            self._store.apply(changes)
        except StoreError as error:
            self._fail(error)
            return
        self.durable = self.written

    def payload(self, id: int, decided: Sequence[Change] = ()) -> bytes:
        """Of a saved job that has not ended, or only by one of the changes that were `decided` and are to be kept next:
        after that it may be gone. Raises StoreError."""
        for change in (*decided, *self._under_way, *self._waiting):  # the store finds only what is durable
            if isinstance(change, Save) and change.id == id:
                return change.payload
        return self._store.payload(id)

    def settles(self, id: int, decided: Sequence[Change] = ()) -> bool:
        """Whether changes of this job are on their way that are not durable yet, so that the store does not know how it
        has ended, or whether. decided: those that are to be kept next."""
        stages = zip(self._ends, (self._under_way, self._waiting, decided), strict=True)
        return any(ends.has(id, changes) for ends, changes in stages)

    def size_to_come(self, decided: Sequence[Change]) -> int:
        """Bytes of payloads that are not on the disk yet, or not for certain; `decided` as in `payload`."""
        changes = (*decided, *self._under_way, *self._waiting)
        return sum(len(change.payload) for change in changes if isinstance(change, Save))

    def close(self) -> None:
        """Make durable what is not yet, unless the store has failed, and end the thread. Raises StoreError."""
        while self._goal and not self._failure:
            self._await_commit()
            self._finish()
        failed, self._goal = self._failure, 0
        self._end_thread()
        if failed:
            raise failed

    # -- one commit

    def _begin(self) -> None:
        self._under_way, self._waiting = self._waiting, []
        try:
            self._store.write(self._under_way)
        except StoreError as error:
            self._fail(error)
            return
        self._goal = self.written
        self._start_commit()

    def _finish(self) -> None:
        """The thread has ended its commit: go on with what has gathered meanwhile."""
        if not self._failure:
            self.durable = self._goal
        self._goal, self._under_way = 0, []
        if self._waiting and not self._failure:
            self._begin()

    def _fail(self, error: StoreError) -> None:
        self._failure = error
        self._on_failure(error)

    def _committed(self) -> None:
        """The loop has heard that the commit under way has ended."""
        if self._failure:
            self._on_failure(self._failure)
            return
        self._finish()
        self._on_commit()

    # -- the thread; the simulator has none, and its own way to do these three

    def _start_commit(self) -> None:
        if self._committer is None:
            self._start()
        self._ended.clear()
        self._go.release()

    def _await_commit(self) -> None:
        self._ended.wait()

    def _end_thread(self) -> None:
        if self._committer is None:
            return
        self._go.release()
        self._committer.join()
        self._committer = None
        self._loop.watch(self._wake_read, 0, self._woken)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _start(self) -> None:
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._loop.watch(self._wake_read, READ, self._woken)
        self._committer = threading.Thread(target=self._commit, name="farm-commit", daemon=True)
        self._committer.start()

    def _commit(self) -> None:
        while True:
            self._go.acquire()
            if not self._goal:
                return
            try:
                self._store.commit()
            except StoreError as error:
                self._failure = error
            except Exception as error:  # noqa: BLE001 - whatever it was, nothing of it is durable for certain
                self._failure = StoreError(f"a commit failed: {error!r}")
            self._ended.set()
            with contextlib.suppress(BlockingIOError):  # full: it is awake
                os.write(self._wake_write, b"x")

    def _woken(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 64)
        if self._goal and self._ended.is_set():
            self._committed()
