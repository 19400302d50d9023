"""What is submitted: a function, a payload, and what else is said of the job, as the packet that says it.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

from farm.errors import UsageError
from farm.protocol import packets
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.protocol.packets import REQUEST, with_data

HIGH, NORMAL, LOW = "high", "normal", "low"
PRIORITIES = (HIGH, NORMAL, LOW)

_FOREGROUND = {HIGH: packets.SUBMIT_JOB_HIGH, NORMAL: packets.SUBMIT_JOB, LOW: packets.SUBMIT_JOB_LOW}
_BACKGROUND = {HIGH: packets.SUBMIT_JOB_HIGH_BG, NORMAL: packets.SUBMIT_JOB_BG, LOW: packets.SUBMIT_JOB_LOW_BG}


class Request:
    """What to submit. priority: one of PRIORITIES.

    terms: words of FARM_SUBMIT (protocol/JOBS.md) besides `background` and `priority`; without any it is a stock packet
    that every server knows. needs: what to call them to a person whose server does not know them. epoch: of a
    background job without terms, seconds since 1970 before which it must not run; 0: at once.
    """

    __slots__ = ("epoch", "function", "needs", "payload", "priority", "terms", "unique")

    def __init__(
        self,
        function: bytes,
        payload: bytes,
        unique: bytes = b"",
        priority: str = NORMAL,
        *,
        terms: list[str] | None = None,
        needs: list[str] | None = None,
        epoch: int = 0,
    ) -> None:
        self.function = function
        self.payload = payload
        self.unique = unique
        self.priority = priority
        self.terms = terms or []
        self.needs = needs or []
        self.epoch = epoch

    @property
    def has_key(self) -> bool:
        """Whether another job may have the same key. (`-` makes one of the payload, which counts no longer than its
        job.)"""
        return self.unique not in (b"", b"-")

    def pieces(self, background: bool, farm: bool = False) -> tuple[bytes, ...]:
        """The packet. farm: in farm's own way also where a stock packet would say it all. Raises UsageError when its
        header could not say how long it is."""
        number, args = self._head(background, farm or bool(self.terms))
        size = len(self.payload)
        if size + sum(map(len, args)) + len(args) > PAYLOAD_HEADER_MAX:
            raise UsageError(f"the payload is {size} bytes long, more than a packet can hold", "at most 4 GiB")
        return with_data(REQUEST, number, args, self.payload)

    def _head(self, background: bool, farm: bool) -> tuple[int, tuple[bytes, ...]]:
        """The packet's number and its arguments."""
        names = (self.function, self.unique)
        if farm:
            words = ["background=1"] if background else []
            words += [f"priority={self.priority}"] if self.priority != NORMAL else []
            return packets.FARM_SUBMIT, (*names, " ".join([*words, *self.terms]).encode("utf-8", "surrogateescape"))
        if self.epoch and background:
            return packets.SUBMIT_JOB_EPOCH, (*names, b"%d" % self.epoch)
        return (_BACKGROUND if background else _FOREGROUND)[self.priority], names
