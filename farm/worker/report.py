"""What a function says about its job, as packets that every server and client understands (see protocol/WIRE.md).

Pure. `run.py` is the same for a command.
"""

from __future__ import annotations

from farm.protocol import extension, packets
from farm.protocol.packets import REQUEST, request, with_data

Packets = list[tuple[bytes, ...]]


class Report:
    """One attempt of one job. Every method returns packets, each in pieces, to be sent in this order.

    farm_server: the server is farm's. Behind a stock one the beginning of an attempt's output is marked, so that a
    client that sees a second mark knows that what came before was lost.
    """

    def __init__(self, handle: bytes, farm_server: bool) -> None:
        self._handle = handle
        self._farm_server = farm_server
        self._began = farm_server
        self._streamed = False

    def data(self, piece: bytes) -> Packets:
        """A piece of the result."""
        if not piece:
            return []
        self._streamed = True
        return [*self._begin(), self._packet(packets.WORK_DATA, piece)]

    def warning(self, text: bytes) -> Packets:
        """What is for the client's stderr. None can be taken for farm's word on an exit code."""
        pieces = extension.safe_pieces(text)
        return [*(self._begin() if pieces else []), *(self._packet(packets.WORK_WARNING, piece) for piece in pieces)]

    def status(self, numerator: int, denominator: int) -> Packets:
        """Progress."""
        return [(request(packets.WORK_STATUS, self._handle, b"%d" % numerator, b"%d" % denominator),)]

    def complete(self, rest: bytes) -> Packets:
        """It ended well. rest: what was not sent as data yet; a WORK_COMPLETE with data is taken for the whole."""
        if rest and not self._streamed:
            return [self._packet(packets.WORK_COMPLETE, rest)]
        begin = self._begin()
        return [*begin, *self.data(rest), self._packet(packets.WORK_COMPLETE, b"")]

    def fail(self, code: int, text: bytes) -> Packets:
        """It failed. code: its exit code, 1 to 255."""
        return [
            *self.warning(text),
            *self._begin(),
            self._packet(packets.WORK_WARNING, extension.exit_trailer(code)),
            (request(packets.WORK_FAIL, self._handle),),
        ]

    def exception(self, text: bytes, native: bool | None) -> Packets:
        """It raised an exception. native: as WORK_EXCEPTION; None: if the server is farm's. A stock server makes of it,
        for clients that have not asked for exceptions, a WORK_FAIL for which libgearman's clients wait for ever; hence
        it is a failure there, with the exception's text on stderr and exit code 1."""
        if self._farm_server if native is None else native:
            return [self._packet(packets.WORK_EXCEPTION, text)]
        return self.fail(1, text + b"\n")

    def _begin(self) -> Packets:
        if self._began:
            return []
        self._began = True
        return [self._packet(packets.WORK_WARNING, extension.BEGIN)]

    def _packet(self, number: int, data: bytes) -> tuple[bytes, ...]:
        return with_data(REQUEST, number, (self._handle,), data)
