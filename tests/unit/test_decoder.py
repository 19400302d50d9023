"""The decoder: however a stream is split it parses the same, and nothing that a peer sends raises or grows it."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.protocol.decoder import Decoder, Packet
from farm.protocol.limits import SMALL_PACKET_MAX, TEXT_LINE_MAX
from farm.protocol.packets import BULKY, KINDS, MISDIRECTED, REQUEST, RESPONSE, TEXT

CHUNK_MAX = 64 * 1024  # what the server reads at a time while a packet is small


def raw(number: int, body: bytes = b"", magic: bytes = REQUEST) -> bytes:
    """A packet made by hand."""
    return magic + number.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body


SUBMIT = raw(7, b"f\0u\0payload")
GRAB = raw(9)
MIXED = SUBMIT + b"status\n" + GRAB + b"workers\r\n\n" + raw(16, b"a\0\nb") + raw(6, magic=RESPONSE) + SUBMIT
MIXED_PACKETS = [
    (7, b"f\0u\0payload"),
    (TEXT, b"status"),
    (9, b""),
    (TEXT, b"workers"),
    (TEXT, b""),
    (16, b"a\0\nb"),
    (MISDIRECTED, b""),
    (7, b"f\0u\0payload"),
]


def fed(chunks: list[bytes], **options: int) -> tuple[list[Packet], Decoder]:
    """All packets of these chunks, and the decoder after them."""
    decoder = Decoder(**options)  # type: ignore[arg-type]
    return [packet for chunk in chunks for packet in decoder.feed(chunk)], decoder


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces; a place is taken modulo its length."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)] or [b""]


def naive(data: bytes, payload_max: int, line_max: int) -> tuple[list[Packet], bytes | None]:
    """The rules again, told as plainly as can be: what a whole stream means, and the code of the error that ends it."""
    packets: list[Packet] = []
    while data:
        if data[:1] != b"\0":
            line, newline, rest = data.partition(b"\n")
            if len(line) >= line_max:
                return packets, b"INVALID_COMMAND"
            if not newline:
                break
            packets.append((TEXT, line[:-1] if line[-1:] == b"\r" else line))
            data = rest
            continue
        if data[:4] not in [whole[: len(data[:4])] for whole in (b"\0REQ", b"\0RES")]:
            return packets, b"INVALID_MAGIC"
        if len(data) < 12:
            break
        number, length = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
        if number not in [*range(1, 43), *range(1001, 1016)]:
            return packets, b"INVALID_COMMAND"
        if length > (payload_max if number in BULKY else 65536):
            return packets, b"ARGUMENT_TOO_LARGE"
        if len(data) < 12 + length:
            break
        packets.append((number if data[:4] == b"\0REQ" else MISDIRECTED, data[12 : 12 + length]))
        data = data[12 + length :]
    return packets, None


good = st.one_of(
    st.builds(raw, st.sampled_from(sorted(KINDS)), st.binary(max_size=60), st.sampled_from([REQUEST, RESPONSE])),
    st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"").replace(b"\n", b"") + b"\n"),
)
bad = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda number, length: REQUEST + number.to_bytes(4, "big") + length.to_bytes(4, "big"),
        st.integers(0, 2**32 - 1) | st.integers(0, 45),
        st.integers(0, 2**32 - 1) | st.integers(0, 300),
    ),
)
places = st.lists(st.integers(0, 2**16), max_size=12)


def test_whole() -> None:
    packets, decoder = fed([MIXED])
    assert packets == MIXED_PACKETS
    assert not decoder.inside_packet
    assert decoder.failed is None


def test_byte_by_byte() -> None:
    packets, decoder = fed([MIXED[i : i + 1] for i in range(len(MIXED))])
    assert packets == MIXED_PACKETS
    assert not decoder.inside_packet


@pytest.mark.parametrize("trailing", [b"\0", b"\0REQ\0\0\0", SUBMIT[:-1], SUBMIT[:12], b"stat"])
def test_trailing_bytes_wait_for_the_rest(trailing: bytes) -> None:
    packets, decoder = fed([GRAB + trailing])
    assert packets == [(9, b"")]
    assert decoder.inside_packet
    assert decoder.buffered <= len(trailing)


def test_a_packet_is_there_with_its_last_byte() -> None:
    decoder = Decoder()
    assert decoder.feed(SUBMIT[:-1]) == []
    assert decoder.feed(SUBMIT[-1:]) == [(7, b"f\0u\0payload")]


def test_empty_chunks_change_nothing() -> None:
    assert fed([b"", SUBMIT[:5], b"", SUBMIT[5:15], b"", SUBMIT[15:], b""])[0] == [(7, b"f\0u\0payload")]


def test_a_client_receives_responses() -> None:
    decoder = Decoder(RESPONSE)
    assert decoder.feed(raw(6, magic=RESPONSE) + GRAB) == [(6, b""), (MISDIRECTED, b"")]


@given(st.lists(good, max_size=8).map(b"".join), places)
def test_any_split_of_a_valid_stream_parses_the_same(stream: bytes, where: list[int]) -> None:
    packets, decoder = fed(cut(stream, where))
    assert packets == fed([stream])[0]
    assert decoder.failed is None
    assert not decoder.inside_packet


@given(
    st.lists(good | bad, max_size=6).map(b"".join), places, st.sampled_from([0, 10, 300]), st.sampled_from([1, 8, 100])
)
def test_it_agrees_with_the_naive_parser(stream: bytes, where: list[int], payload_max: int, line_max: int) -> None:
    packets, decoder = fed(cut(stream, where), payload_max=payload_max, line_max=line_max)
    expected, code = naive(stream, payload_max, line_max)
    assert packets == expected
    assert (decoder.failed.code if decoder.failed else None) == code


@given(st.lists(good | bad, max_size=6).map(b"".join), places)
def test_buffered_stays_bounded(stream: bytes, where: list[int]) -> None:
    decoder = Decoder(payload_max=100, line_max=50)
    for chunk in cut(stream, where):
        decoder.feed(chunk)
        assert decoder.buffered <= SMALL_PACKET_MAX + CHUNK_MAX


@pytest.mark.parametrize("stream", [raw(7, b"x" * 200_000), b"x" * 200_000, raw(16, b"x" * 65536), b"\0" * 200_000])
@pytest.mark.parametrize("size", [1000, CHUNK_MAX])
def test_buffered_never_exceeds_the_limit(stream: bytes, size: int) -> None:
    decoder = Decoder(payload_max=100_000)
    most = 0
    for start in range(0, len(stream), size):
        decoder.feed(stream[start : start + size])
        most = max(most, decoder.buffered)
    assert most <= 100_000


@pytest.mark.parametrize("number", sorted(KINDS))
@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, 1024 * 1024 * 1024 + 1])
def test_a_huge_or_negative_length_is_refused_at_the_header(number: int, length: int) -> None:
    decoder = Decoder()
    head = REQUEST + number.to_bytes(4, "big") + length.to_bytes(4, "big")
    assert decoder.feed(head[:-1]) == []
    assert decoder.buffered == 11
    assert decoder.feed(head[-1:] + b"body") == []
    assert decoder.failed
    assert decoder.failed.code == b"ARGUMENT_TOO_LARGE"
    assert decoder.failed.close
    assert decoder.buffered == 0


def test_limits_are_inclusive() -> None:
    assert fed([raw(16, b"x" * SMALL_PACKET_MAX)])[1].failed is None
    assert fed([raw(16, b"x" * (SMALL_PACKET_MAX + 1))])[1].failed
    assert fed([raw(7, b"x" * 100)], payload_max=100)[1].failed is None
    assert fed([raw(7, b"x" * 101)], payload_max=100)[1].failed


@pytest.mark.parametrize("step", [1, 7, TEXT_LINE_MAX * 2])
def test_text_line_limit(step: int) -> None:
    def feed(stream: bytes) -> tuple[list[Packet], Decoder]:
        return fed([stream[start : start + step] for start in range(0, len(stream), step)])

    longest = b"x" * (TEXT_LINE_MAX - 1)
    assert feed(longest + b"\n")[0] == [(TEXT, longest)]
    packets, decoder = feed(b"x" * TEXT_LINE_MAX + b"\n")
    assert packets == []
    assert decoder.failed
    assert decoder.failed.code == b"INVALID_COMMAND"


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"\0BAD", b"INVALID_MAGIC"),
        (b"\0R\0", b"INVALID_MAGIC"),
        (b"\0\0", b"INVALID_MAGIC"),
        (b"\0REX\0\0\0\x09\0\0\0\0", b"INVALID_MAGIC"),
        (raw(0), b"INVALID_COMMAND"),
        (raw(43), b"INVALID_COMMAND"),
        (raw(1000), b"INVALID_COMMAND"),
        (raw(0xFFFFFFFF), b"INVALID_COMMAND"),
        (raw(43, magic=RESPONSE), b"INVALID_COMMAND"),
    ],
)
def test_what_cannot_be_a_packet_fails_at_once_and_for_ever(stream: bytes, code: bytes) -> None:
    packets, decoder = fed([GRAB + stream])
    assert packets == [(9, b"")]  # what came before counts
    assert decoder.failed
    assert decoder.failed.code == code
    assert decoder.feed(GRAB) == []


@given(st.binary(max_size=300), places)
def test_any_bytes_parse_or_fail(stream: bytes, where: list[int]) -> None:
    packets, decoder = fed(cut(stream, where))  # raises nothing
    consumed = sum(len(body) for _, body in packets)
    assert consumed + decoder.buffered <= len(stream)


def test_a_megabyte_in_single_bytes_is_not_quadratic() -> None:
    body = b"f\0u\0" + b"x" * (1 << 20)
    stream = raw(7, body)
    pieces = [stream[i : i + 1] for i in range(len(stream))]
    decoder = Decoder()
    begin = time.process_time()
    packets = [packet for piece in pieces for packet in decoder.feed(piece)]
    assert time.process_time() - begin < 2
    assert packets == [(7, body)]


def test_many_small_packets_in_one_chunk_are_not_quadratic() -> None:
    begin = time.process_time()
    packets, _ = fed([GRAB * 200_000])
    assert time.process_time() - begin < 2
    assert len(packets) == 200_000
