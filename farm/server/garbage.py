"""When Python looks for garbage that refers to itself: seldom, for the server makes nearly none, and once more when a
backlog has gone, for only that gives its memory back. And when the C library does: of what is larger than 512 bytes.

CPython keeps freed tuples, lists, dicts and floats to use them again, some hundreds of each size. Those that are freed
while a backlog drains lie scattered over all the memory that its jobs had, one or two in each arena of a MiB in which
Python has its memory from the system, and an arena goes back only when nothing is left in it. A full collection lets go
of them, also one that has nothing to look at. Measured with 300,000 jobs of 100 bytes, submitted and done: 205 MB with
all of them, 194 MB after the last, 51 MB after a collection. With Python's own thresholds one came by chance.

Payloads are not in those arenas but in the C library's heap, which becomes smaller only at its end: where large ones
were dropped, what came between them holds it. Measured with 200 MB of payloads of 20 KB: 212 MB after the last was
dropped, 59 once the library was told to give back whatever pages are free, which takes 30 ms.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# Measured on durable submissions: 15.7 us of processor time a job with Python's own 700 objects, 12.4 with these, 12.1
# without any collection.
THRESHOLDS = (50_000, 20, 10)
BACKLOG_MIN = 10_000  # jobs, some MB: what fewer of them leave behind is not worth a look
SIZE_MIN, SIZE_LEFT_PART = 32 * 1024 * 1024, 4  # bytes, and how much of the most may be left
LEFT_PART = 100  # a hundredth may be left: they are walked over, in 0.6 us each


def set_up() -> None:
    """For this process."""
    gc.set_threshold(*THRESHOLDS)


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """While a server is made: what it has then need not be looked through before a backlog has gone."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def trim() -> None:
    """Have the C library give back the pages of its heap that are free, where it can."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another library than GNU's
        ctypes.CDLL(None).malloc_trim(0)


class Backlog:
    """The most jobs there have been since the last that went, and the most bytes in memory of payloads and results."""

    def __init__(self) -> None:
        self._most = BACKLOG_MIN
        self._most_bytes = SIZE_MIN

    def look(self, jobs: int, size: int) -> None:
        """So many jobs are left, and so many bytes: give their memory back where a backlog has just gone."""
        if self.has_gone(jobs):
            # It need not look for garbage. To look at what is kept of 60,000 jobs was a twentieth of what they took.
            gc.freeze()
            gc.collect()
            gc.unfreeze()
        if self.has_shrunk(size):
            trim()

    def has_gone(self, jobs: int) -> bool:
        """Whether, with so many left, one has just gone: true once for each."""
        if jobs > self._most:
            self._most = jobs
        elif jobs * LEFT_PART <= self._most > BACKLOG_MIN:
            self._most = max(jobs, BACKLOG_MIN)
            return True
        return False

    def has_shrunk(self, size: int) -> bool:
        """Whether most of the bytes have gone: true once."""
        if size > self._most_bytes:
            self._most_bytes = size
        elif size * SIZE_LEFT_PART <= self._most_bytes > SIZE_MIN:
            self._most_bytes = max(size, SIZE_MIN)
            return True
        return False
