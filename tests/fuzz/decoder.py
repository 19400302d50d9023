"""Any bytes into the decoder, cut anywhere: it agrees with the naive parser, holds what it may, and is quick."""

from __future__ import annotations

import random
import time

from farm.protocol.decoder import Decoder
from farm.protocol.limits import SMALL_PACKET_MAX
from tests.unit.test_decoder import MIXED, cut, naive, raw

LIMITS = ((0, 1), (10, 8), (300, 100), (70_000, 4096))  # the longest payload and line, in bytes
STRETCHED = 1 << 20
STRETCHED_PAYLOAD_MAX = 2 * STRETCHED
PIECE = 16
CPU_MAX_S = 2.0  # a MiB in 65,536 pieces takes a twentieth of it, and ten times as long when the cost is quadratic
STRETCH_EVERY = 5000

SEEDS = [bytes([which, 0, 0, 1]) + stream for which in range(4) for stream in (MIXED, raw(7, b"x" * 11), b"x" * 120)]

_count = 0


def one_input(data: bytes) -> None:
    """Four bytes choose limits and places to cut; the rest is the stream. Raises whatever is wrong."""
    global _count
    _count += 1
    _agrees(data[:4], data[4:])
    if _count % STRETCH_EVERY == 1:
        stretched(data[4:])


def _agrees(choice: bytes, stream: bytes) -> None:
    payload_max, line_max = LIMITS[choice[0] % len(LIMITS)] if choice else LIMITS[0]
    chance = random.Random(choice)
    places = [chance.randrange(len(stream) + 1) for _ in range(chance.randrange(12))]
    decoder = Decoder(payload_max=payload_max, line_max=line_max)
    packets, fed = [], 0
    for piece in cut(stream, places):
        packets += decoder.feed(piece)
        fed += len(piece)
        assert decoder.buffered <= min(fed, max(payload_max, line_max, SMALL_PACKET_MAX)), "too much is held"
    expected, code = naive(stream, payload_max, line_max)
    assert packets == expected, f"{packets} instead of {expected}"
    found = decoder.failed.code if decoder.failed else None
    assert found == code, f"{found!r} instead of {code!r}"


def stretched(data: bytes) -> None:
    """A MiB made of it, in small pieces: as a stream, as the body of a packet, and as that of one that is too long."""
    whole = (data or b"x") * (STRETCHED // max(1, len(data)) + 1)
    for stream, most in (
        (whole, STRETCHED_PAYLOAD_MAX),
        (raw(7, whole), STRETCHED_PAYLOAD_MAX),
        (raw(7, whole), SMALL_PACKET_MAX),
    ):
        decoder = Decoder(payload_max=most)
        begin = time.process_time()
        for start in range(0, STRETCHED, PIECE):
            decoder.feed(stream[start : start + PIECE])
            assert decoder.buffered <= most, "too much is held"
            if start % 4096 == 0:
                assert time.process_time() - begin < CPU_MAX_S, "quadratic time"
