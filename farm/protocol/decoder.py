"""An incremental decoder: any bytes in, whole packets and text lines out; every limit is checked before buffering.

One decoder serves one direction of one connection. A small packet is cut out of the chunk it came in; the body of one
that spans chunks is collected in one growing buffer, so that no input, however it is split, costs quadratic time.
"""

from __future__ import annotations

import struct

from farm.errors import PacketRefused, PacketTooLarge
from farm.protocol.limits import (
    HANDLE_MAX,
    HEADER_SIZE,
    PAYLOAD_PACKET_MAX,
    SMALL_PACKET_MAX,
    TEXT_LINE_MAX,
)
from farm.protocol.packets import BULKY, KINDS, MISDIRECTED, REQUEST, RESPONSE, TEXT

TYPE_CHECKING = False  # as in packets.py
if TYPE_CHECKING:
    from typing import Final

Packet = tuple[int, bytes]

_unpack_header: Final = struct.Struct(">4sII").unpack_from


class Decoder:
    """Turns a byte stream into (number, body) pairs; number is TEXT for a line and MISDIRECTED for the wrong magic.

    magic: the magic that this side receives (REQUEST at a server). payload_max, line_max: bytes.
    `failed` is set when the stream broke the rules; nothing is decoded after that, for there is no way to find the
    next packet's start.
    """

    __slots__ = (
        "_body",
        "_line_max",
        "_magic",
        "_number",
        "_other",
        "_payload_max",
        "_tail",
        "_unquestioned_max",
        "failed",
        "missing",
    )

    def __init__(
        self, magic: bytes = REQUEST, payload_max: int = PAYLOAD_PACKET_MAX, line_max: int = TEXT_LINE_MAX
    ) -> None:
        self._magic = magic
        self._other = RESPONSE if magic == REQUEST else REQUEST
        self._payload_max = payload_max
        self._unquestioned_max = min(payload_max, SMALL_PACKET_MAX)  # the size that any packet may have
        self._line_max = line_max
        self._tail = b""  # less than a header, or less than a line
        self._body = bytearray()  # of the packet that is being received
        self.missing = 0  # bytes that the body of the packet that is being received still lacks
        self._number = 0
        self.failed: PacketRefused | None = None

    @property
    def inside_packet(self) -> bool:
        """Whether the stream stopped in the middle of something."""
        return bool(self.missing or self._tail)

    @property
    def buffered(self) -> int:
        """Bytes held for a packet that is not whole yet."""
        return len(self._body) + len(self._tail)

    def feed(self, chunk: bytes) -> list[Packet]:
        """All that became whole with this chunk, in order."""
        packets: list[Packet] = []
        if self.failed:
            return packets
        if self.missing:
            used = self._fill(chunk, packets)
            if used == len(chunk):
                return packets
            chunk = chunk[used:]
        elif self._tail:
            chunk = self._tail + chunk
            self._tail = b""
        try:
            self._cut(chunk, packets)
        except PacketRefused as refused:
            self.failed = refused
        return packets

    def _fill(self, chunk: bytes, packets: list[Packet]) -> int:
        """Add to the unfinished body; returns how many bytes of the chunk belonged to it."""
        used = min(self.missing, len(chunk))
        self._body += chunk if used == len(chunk) else chunk[:used]
        self.missing -= used
        if not self.missing:
            packets.append((self._number, bytes(self._body)))
            self._body = bytearray()
        return used

    def _cut(self, chunk: bytes, packets: list[Packet]) -> None:
        position, size = 0, len(chunk)
        magic, unquestioned_max = self._magic, self._unquestioned_max
        while position < size:
            if chunk[position]:
                end = chunk.find(b"\n", position, position + self._line_max)
                if end < 0:
                    self._keep_line(chunk[position:])
                    return
                packets.append((TEXT, chunk[position:end].removesuffix(b"\r")))
                position = end + 1
                continue
            start = position + HEADER_SIZE
            if start > size:
                self._check_magic(chunk[position : position + 4])
                self._tail = chunk[position:]
                return
            found, number, length = _unpack_header(chunk, position)
            if found != magic or number not in KINDS or length > unquestioned_max:
                number = self._question(chunk, position)
            position = start + length
            if position > size:
                self._number = number
                self._body += chunk[start:]
                self.missing = position - size
                return
            packets.append((number, chunk[start:position]))

    def _keep_line(self, line: bytes) -> None:
        if len(line) >= self._line_max:
            raise PacketRefused(b"INVALID_COMMAND", b"Line too long")
        self._tail = line

    def _check_magic(self, start: bytes) -> None:
        """Refuse as soon as the first bytes cannot become a header: a peer that sent three would wait for ever."""
        if not (self._magic.startswith(start) or self._other.startswith(start)):
            raise PacketRefused(b"INVALID_MAGIC", b"Not a Gearman packet")

    def _question(self, chunk: bytes, position: int) -> int:
        """A header that is not plainly good: refused, or the number that its packet counts as."""
        magic, number, length = _unpack_header(chunk, position)
        self._check_magic(magic)
        if number not in KINDS:
            raise PacketRefused(b"INVALID_COMMAND", b"Unknown packet type %d" % number)
        limit = self._payload_max if number in BULKY else SMALL_PACKET_MAX
        if length > limit:
            start = position + HEADER_SIZE
            words = b"%s of %d bytes: at most %d" % (KINDS[number].name.encode(), length, limit)
            raise PacketTooLarge(words, number, chunk[start : start + HANDLE_MAX])
        return number if magic == self._magic else MISDIRECTED
