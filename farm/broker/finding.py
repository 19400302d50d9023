"""Which job is meant: handles as people write them, whole or shortened. Rules, as in broker.py."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from farm.broker import waiting
from farm.broker.job import SEQUENCE_BITS, handle_of, id_of

if TYPE_CHECKING:
    from farm.broker.broker import Broker

FOUND_MAX = 10  # handles that a beginning may mean
SEQUENCE_DIGITS_MAX = 13  # of the last number of a handle

_SEQUENCES = (1 << SEQUENCE_BITS) - 1


def one_handle(broker: Broker, text: bytes) -> bytes:
    """The only handle that this may mean; the text itself where it is a whole one, or may mean none or several. Raises
    NotYet."""
    handles = [] if id_of(text) else find(broker, text)
    return handles[0] if len(handles) == 1 else text


def find(broker: Broker, text: bytes) -> list[bytes]:
    """The handles that may be meant: a whole one, its beginning, its last number, or `last`. `H:` may be left out
    before a colon. A number alone is never a beginning, or a command about job 3 would be one about H:30ba3d:1."""
    if text == b"last":
        return _newest(broker)
    if text.isdigit():
        return list(dict.fromkeys(islice(_numbered(broker, text), FOUND_MAX)))
    if b":" not in text:
        return []
    whole = text if text.startswith(b"H:") else b"H:" + text
    if waiting.live(broker, whole) is not None or (id_of(whole) and broker.history.about(id_of(whole)) is not None):
        return [whole]
    return list(dict.fromkeys(islice(_beginning(broker, whole), FOUND_MAX)))


def _newest(broker: Broker) -> list[bytes]:
    """The background job that was submitted last. (A job that is run again is the last of `jobs`, and older.)"""
    ids = [max((job.id for job in broker.jobs.values() if job.background), default=0)]
    ids += broker.history.ended_ids(0, 1 << 62, 1)
    return [handle_of(max(ids))] if max(ids) else []


def _numbered(broker: Broker, digits: bytes) -> Iterator[bytes]:
    """The jobs whose handle has this as its last number."""
    ending = b":" + digits
    for handle in broker.jobs:
        if handle.endswith(ending):
            yield handle
    number = int(digits) if len(digits) <= SEQUENCE_DIGITS_MAX else 0
    if not 0 < number <= _SEQUENCES:
        return
    for shard in _lives(broker):
        id = shard << SEQUENCE_BITS | number
        if broker.history.about(id) is not None:
            yield handle_of(id)


def _lives(broker: Broker) -> Iterator[int]:
    """The shards of this life and of all others of which ended jobs are kept, the newest first. There may have been
    thousands of lives, and most left nothing: those are not looked at."""
    yield broker.shard
    end = 1 << 63
    while newest := broker.history.ended_ids(0, end - 1, 1):
        shard = newest[0] >> SEQUENCE_BITS
        if shard != broker.shard:
            yield shard
        end = shard << SEQUENCE_BITS


def _beginning(broker: Broker, start: bytes) -> Iterator[bytes]:
    """The jobs whose handle begins so."""
    for handle in broker.jobs:
        if handle.startswith(start):
            yield handle
    for first, last in _ranges(start):
        for id in broker.history.ended_ids(first, last, FOUND_MAX):
            yield handle_of(id)


def _ranges(whole: bytes) -> Iterator[tuple[int, int]]:
    """The ids of the handles that begin so: handles are numbers in digits, so a beginning is a few ranges."""
    _, _, rest = whole.partition(b":")
    shard_text, colon, digits = rest.partition(b":")
    try:
        if not colon:
            shard = int(shard_text, 16)
            for places in range(7):
                low = shard << 4 * places
                if low >> 23:
                    return
                yield low << SEQUENCE_BITS, (low + (1 << 4 * places) << SEQUENCE_BITS) - 1
            return
        shard, start = int(shard_text, 16) << SEQUENCE_BITS, int(digits or b"0")
    except ValueError:
        return
    if not digits:
        yield shard, shard | _SEQUENCES
        return
    for places in range(12):
        low = start * 10**places
        if low > _SEQUENCES:
            return
        yield shard | low, shard | min(low + 10**places - 1, _SEQUENCES)
