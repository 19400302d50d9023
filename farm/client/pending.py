"""One submitted job as its client sees it: what has come of it so far, and how it ended.

Pure: it takes what packets say and knows neither the packets nor the connection. Which combinations of client, server
and worker say what is in `farm/protocol/WIRE.md`; the command line's own reading of it is `submit.Foreground`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from farm.client.request import Request
from farm.errors import FarmError, JobException, JobFailed, JobLost, TryAgain
from farm.protocol import extension, packets
from farm.protocol.names import quoted, words_of
from farm.protocol.packets import REQUEST, with_data

STDERR_MAX = 1024 * 1024  # of a job's stderr is kept, the end of it: a job may complain for days
WORDS_MAX = 200  # of what a job said last, in the message of its error

Key = tuple[bytes, ...]


class Bell(Protocol):
    """Whoever waits for a change."""

    def ring(self) -> None:
        """It changed."""


class Watched:
    """Something whose changes may be waited for. The blocking client looks itself, and has no bell."""

    __slots__ = ("bell",)

    def __init__(self) -> None:
        self.bell: Bell | None = None

    def notify(self) -> None:
        """It changed."""
        if self.bell:
            self.bell.ring()


class Pending(Watched):
    """A job that is out, or that has ended. Mutable; the client's Job shows it.

    retry_lost: it may be submitted again when its server is lost, that is, run twice. at: epoch seconds before which
    it must not run (background only). shares: how many submissions of the program it stands for (see Session.twin).
    """

    def __init__(
        self, request: Request, *, background: bool = False, at: int | None = None, retry_lost: bool = False
    ) -> None:
        super().__init__()
        self.request = request
        self.background = background
        self.at = at
        self.retry_lost = retry_lost
        self.key = None if background else _key(request)
        self.on_progress: Callable[[int, int], None] | None = None
        self.on_stderr: Callable[[bytes], None] | None = None
        self.server = ""  # whose connection it was sent on last
        self.handle = b""
        self.submissions = 0
        self.shares = 1
        self.unwanted = False  # given up by this program while the server could not be told yet, or at all
        self.done = False
        self.error: FarmError | None = None
        self.exit_code: int | None = None
        self.stderr = bytearray()
        self.progress: tuple[int, int] | None = None
        self.taken = 0  # bytes that the program has
        self._pieces: deque[bytes] = deque()  # output that it has not taken yet
        self._received = 0  # bytes of this attempt's output
        self._running = False
        self._begun = False  # a farm worker behind a stock server marks each attempt's beginning
        self._last = b""  # a warning that is the exit code if the failure comes next, and stderr if anything else does

    def __repr__(self) -> str:
        return f"<Pending {quoted(self.request.function)} {self.handle.decode('utf-8', 'replace')!r}>"

    @property
    def held(self) -> int:
        """Bytes of output that wait to be taken."""
        return self._received - self.taken

    def pieces(self) -> tuple[bytes, ...]:
        """The packet that submits it."""
        if self.at is None:
            return self.request.pieces(self.background)
        head = (self.request.function, self.request.unique, b"%d" % self.at)
        return with_data(REQUEST, packets.SUBMIT_JOB_EPOCH, head, self.request.payload)

    # -- the output, for the program

    def take(self) -> bytes:
        """The next piece of output; b"": none has come."""
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self.taken += len(piece)
        return piece

    def output(self) -> bytes:
        """All the output that has come and was not taken."""
        if len(self._pieces) > 1:
            whole = b"".join(self._pieces)
            self._pieces.clear()
            self._pieces.append(whole)
        return self._pieces[0] if self._pieces else b""

    # -- what the server says

    def submitted(self, server: str) -> None:
        """It was sent, the first time or again."""
        self.server = server
        self.submissions += 1
        self.handle = b""
        self._running = self._begun = False
        self._restart()

    def created(self, handle: bytes) -> None:
        """The server has it. For a background job that is all."""
        self.handle = handle
        if not self.retry_lost:
            self.request.payload = b""  # it may be large, and will not be needed again
        if self.background:
            self.end()
        self.notify()

    def data(self, piece: bytes) -> None:
        """WORK_DATA."""
        self._running = True
        self._no_exit_code()
        self._append(piece)
        self.notify()

    def warning(self, text: bytes) -> None:
        """WORK_WARNING: stderr, the exit code of a farm worker's command, or the beginning of an attempt."""
        self._running = True
        if text == extension.BEGIN:
            if self._begun and not self.done:
                self.restarted()
            self._begun = True
            return
        self._no_exit_code()
        if extension.parse_exit_trailer(text):
            self._last = text
        else:
            self._complain(text)
        self.notify()

    def status(self, numerator: bytes, denominator: bytes) -> None:
        """WORK_STATUS. What is no number is no progress."""
        self._running = True
        if numerator.isdigit() and denominator.isdigit():
            self.progress = int(numerator[:20]), int(denominator[:20])
            if self.on_progress:
                self.on_progress(*self.progress)
            self.notify()

    def complete(self, piece: bytes) -> None:
        """WORK_COMPLETE."""
        self._no_exit_code()
        if piece and self._begun and self._received:
            self.restarted()  # a farm worker's result is whole: what came before was of another attempt
            if self.done:
                return
        self._append(piece)
        self.exit_code = 0
        self.end()

    def fail(self) -> None:
        """WORK_FAIL."""
        found = extension.parse_exit_trailer(self._last)
        code = found[0] if found and found[0] else None  # a failed job with exit code 0 there is none
        if code is None:
            self._no_exit_code()
        self.exit_code = code
        words = f"failed with exit code {code}" if code else "failed; its worker gave no exit code"
        name = self.handle.decode("utf-8", "replace")
        self.end(
            JobFailed(
                f"job {name} {words}{self._last_words()}",
                handle=name,
                exit_code=code,
                stderr=bytes(self.stderr),
                data=self.output(),
            )
        )

    def exception(self, text: bytes) -> None:
        """WORK_EXCEPTION."""
        self._no_exit_code()
        name = self.handle.decode("utf-8", "replace")
        self.end(
            JobException(
                f"job {name} raised an exception: {words_of(text.strip()[:WORDS_MAX])}",
                handle=name,
                text=text,
                stderr=bytes(self.stderr),
                data=self.output(),
            )
        )

    def joined(self) -> None:
        """The unique key is that of a job that runs already, and part of its output has gone by."""
        self.end(
            TryAgain(
                f"job {self.handle.decode()} with this unique key runs already, and part of its output has gone by",
                "submit again when it has ended",
            )
        )

    def restarted(self, why: bytes = b"its worker was lost") -> None:
        """The attempt has ended and another one begins. Output that the program has cannot be taken back."""
        if self.taken:
            self.end(
                TryAgain(
                    f"job {self.handle.decode()} runs again after {self.taken} bytes of output, which it would repeat:"
                    f" {words_of(why)}",
                    "submit it again, or take the whole result at once: then farm starts it again by itself",
                )
            )
        else:
            self._restart()
            self.notify()

    # -- ends

    def may_move(self, submissions_max: int) -> bool:
        """Whether it may be submitted again now that its server is lost."""
        return self.retry_lost and not self.taken and not self.unwanted and self.submissions < submissions_max

    def lost(self, words: str) -> JobLost:
        """What is known of it when its server is lost, as an error. words: how it was lost."""
        if not self.handle:
            state = "the server never said that it has it; it may have run or not"
        elif self._received:
            state = f"{self._received} bytes of output had come; it may have ended or not"
        elif self._running:
            state = "it was running; it may have ended or not"
        else:
            state = "no output had come; it may have run or not"
        name = self.handle.decode("utf-8", "replace")
        job = f"job {name}" if name else f"a job for {quoted(self.request.function)}"
        hint = "submit it again if it may run twice"
        if self.retry_lost and self.taken:
            hint = "its output was taken already and would be repeated: take the whole result at once, or submit again"
        return JobLost(
            f"lost the server at {self.server} ({words}) while {job} was out: {state}",
            hint,
            server=self.server,
            handle=name,
            running=self._running,
            received=self._received,
        )

    def end(self, error: FarmError | None = None) -> None:
        """Nothing more comes. error: why there is no result."""
        if not self.done:
            self.done = True
            self.error = error
            self.request.payload = b""
            self.notify()

    # -- inside

    def _append(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._received += len(piece)

    def _restart(self) -> None:
        self._pieces.clear()
        self._received = 0
        self._last = b""
        self.stderr.clear()
        self.progress = None

    def _no_exit_code(self) -> None:
        """What looked like farm's word on the exit code was a worker of another make's warning."""
        if self._last:
            self._complain(self._last)
            self._last = b""

    def _complain(self, text: bytes) -> None:
        self.stderr += text
        if len(self.stderr) > 2 * STDERR_MAX:
            del self.stderr[:-STDERR_MAX]
        if self.on_stderr:
            self.on_stderr(text)

    def _last_words(self) -> str:
        line = bytes(self.stderr).strip().rpartition(b"\n")[2]
        return f": {words_of(line[-WORDS_MAX:])}" if line else ""


def _key(request: Request) -> Key | None:
    """What makes a server take two foreground jobs for one; None: nothing does."""
    if request.unique == b"-":
        return (request.function, request.unique, request.payload) if request.payload else None
    return (request.function, request.unique) if request.unique else None
