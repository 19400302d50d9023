"""Which failures are worth another try: the words of `--retry-on`, for the server and the command line alike.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

from farm.errors import UsageError

WORDS = ("exit", "signal", "timeout", "any")
_HINT = "exit codes (75), ranges (1-5), exit, signal, timeout or any, with commas"


class RetryOn:
    """What `parse_retry_on` found. codes: ranges of exit codes, both ends included. words: of WORDS."""

    __slots__ = ("codes", "words")

    def __init__(self, codes: tuple[tuple[int, int], ...], words: frozenset[str]) -> None:
        self.codes = codes
        self.words = words

    def matches(self, kind: str, code: int) -> bool:
        """Whether a failure is meant. kind: `exit`, `signal`, `timeout` or anything else; code: its exit code, -1: none
        is known."""
        if "any" in self.words or kind in self.words:
            return True
        return any(low <= code <= high for low, high in self.codes)


def parse_retry_on(text: str) -> RetryOn:
    """The words of `--retry-on`. Raises UsageError."""
    codes: list[tuple[int, int]] = []
    words: set[str] = set()
    for word in text.split(","):
        if word in WORDS:
            words.add(word)
            continue
        low, dash, high = word.partition("-")
        first, last = _code(low), _code(high) if dash else _code(low)
        if not 0 < first <= last <= 255:
            raise UsageError(f"--retry-on cannot be {word[:40]!r}", _HINT)
        codes.append((first, last))
    return RetryOn(tuple(codes), frozenset(words))


def _code(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else -1
