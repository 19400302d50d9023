"""Whether a failed attempt is worth another one, and when: pure functions of what is known."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from farm.broker.terms import BACKOFF_MAX_S, BACKOFF_S, Terms
from farm.protocol.retry_on import parse_retry_on

EXIT, SIGNAL, TIMEOUT, OTHER = "exit", "signal", "timeout", "other"

JITTER = 0.25  # of a delay: jobs that failed together do not all come back together
TIMEOUT_PAUSE_S = 6.0  # longer than a worker takes to end a command (TERM, after 5 s KILL): no two attempts at once


class Failure(NamedTuple):
    """How an attempt failed. kind: EXIT, SIGNAL, TIMEOUT or OTHER (an exception, or a worker that gives no code).
    code: the exit code, -1: none."""

    kind: str
    code: int = -1

    @property
    def reason(self) -> bytes:
        """In a few words."""
        if self.kind == EXIT:
            return b"exit %d" % self.code
        if self.kind == SIGNAL:
            return b"signal %d" % (self.code - 128)
        return b"timeout" if self.kind == TIMEOUT else b"failed"


def failure_of(code: int, origin_is_farm: bool) -> Failure:
    """What an exit trailer means. 124 from farm's worker: the time was up."""
    if code < 0:
        return Failure(OTHER)
    if origin_is_farm and code == 124:
        return Failure(TIMEOUT, code)
    return Failure(SIGNAL if code > 128 else EXIT, code)


def delay_s(terms: Terms, failure: Failure, failures: int, id: int) -> float | None:
    """How long to wait before the next attempt after so many failures; None: there is none.

    The jitter is chance to people and the same for a simulator: it comes from the job's id.
    """
    if failures > (terms.retries or 0) or not _is_worth(terms, failure):
        return None
    base = BACKOFF_S if terms.backoff_s is None else terms.backoff_s
    most = BACKOFF_MAX_S if terms.backoff_max_s is None else terms.backoff_max_s
    delay = min(base * 2.0 ** min(failures - 1, 60), max(most, base))
    delay *= 1 - JITTER * (zlib.crc32(b"%d %d" % (id, failures)) & 0xFFFF) / 0xFFFF
    return max(delay, TIMEOUT_PAUSE_S) if failure.kind == TIMEOUT else delay


def _is_worth(terms: Terms, failure: Failure) -> bool:
    if terms.retry_on is None:
        return True
    return parse_retry_on(terms.retry_on.decode()).matches(failure.kind, failure.code)
