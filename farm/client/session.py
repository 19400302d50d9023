"""One connection's conversation, from the client's side: which answer belongs to which question, and to which job.

Pure: packets in, packets out through `send`. Shared by the blocking and the asyncio client; it must know neither
sockets nor time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from farm.client.answers import refusal
from farm.client.pending import Key, Pending, Watched
from farm.errors import FarmError, JobCancelled, NotGearman, PacketRefused, TryAgain, Unavailable
from farm.protocol import extension, packets
from farm.protocol.names import quoted, words_of
from farm.protocol.packets import KINDS, TEXT, request, split

# What a server says that takes no more jobs; it has not taken the one in question.
_GOING = (b"SHUTDOWN", b"TOO_MANY_CONNECTIONS")


class Answer(Watched):
    """A question that the server has not answered yet, or its answer.

    expects: the number of the packet that answers it. args: that packet's.
    """

    __slots__ = ("args", "done", "error", "expects", "job")

    def __init__(self, expects: int, job: Pending | None = None) -> None:
        super().__init__()
        self.expects = expects
        self.job = job
        self.args: list[bytes] = []
        self.error: FarmError | None = None
        self.done = False

    def end(self, args: list[bytes], error: FarmError | None = None) -> None:
        """It came, or never will."""
        self.args, self.error, self.done = args, error, True
        self.notify()


def answered(expects: int, args: list[bytes]) -> Answer:
    """An answer that is known without asking."""
    answer = Answer(expects)
    answer.end(args)
    return answer


class Session:
    """What is out on one connection. server: its address, for messages. send: takes a packet in pieces.

    extension: the server is farm's. leaving: it takes no more jobs. refused: jobs that it has not taken for that
    reason, for the client to submit elsewhere.
    """

    def __init__(self, server: str, send: Callable[[tuple[bytes, ...]], None]) -> None:
        self.server = server
        self.extension = False
        self.leaving = False
        self.complaint = ""  # what the server said last that answers nothing
        self.refused: list[Pending] = []
        self.jobs: dict[bytes, Pending] = {}
        self._send = send
        self._keys: dict[Key, Pending] = {}
        self._answers: deque[Answer] = deque()  # servers answer a connection's questions in order

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything on this connection."""
        return not self._answers and all(job.unwanted for job in self.jobs.values())

    def has(self, job: Pending) -> bool:
        """Whether it is out on this connection."""
        return self.jobs.get(job.handle) is job or any(answer.job is job for answer in self._answers)

    # -- questions

    def greet(self) -> Answer:
        """Ask for farm's extension and for exceptions. The answer, either way, says that the server is alive."""
        first = self.ask(packets.OPTION_REQ, packets.OPTION_RES, extension.OPTION)
        self.ask(packets.OPTION_REQ, packets.OPTION_RES, b"exceptions")
        return first

    @property
    def watchful(self) -> bool:
        """Whether a silence of the server means something: it is farm's, it has a job that is waited for, and nothing
        that may be large is on its way to it."""
        return self.extension and bool(self.jobs) and not any(answer.job for answer in self._answers)

    def ask_for_life(self) -> None:
        """Ask the server something, because it is so silent."""
        self.ask(packets.ECHO_REQ, packets.ECHO_RES, b"")

    def ask(self, number: int, expects: int, *args: bytes) -> Answer:
        """A question that is one packet and is answered by one."""
        answer = Answer(expects)
        self._answers.append(answer)
        self._send((request(number, *args),))
        return answer

    def twin(self, job: Pending) -> Pending | None:
        """The job that is out here already and that the server would take for the same. Raises TryAgain when it was
        given up and a stock server runs it all the same."""
        found = self._keys.get(job.key) if job.key else None
        if found and found.unwanted:
            raise TryAgain(
                f"job {found.handle.decode()} with this unique key was given up, but this server cannot cancel it",
                "submit again when it has ended, or with another client",
            )
        if found:
            found.shares += 1
        return found

    def submit(self, job: Pending) -> None:
        """Send a job. The caller has seen to it that it has no twin here: a stock server would send everything twice,
        and nothing would tell which packet is whose."""
        job.submitted(self.server)
        if job.key:
            assert job.key not in self._keys
            self._keys[job.key] = job
        self._answers.append(Answer(packets.JOB_CREATED, job))
        self._send(job.pieces())

    def cancel(self, job: Pending) -> Answer:
        """Give up a job, or a share of it. The answer has the extension's word on what becomes of it, or no arguments
        from a server that cannot cancel; there the job runs on unless the connection closes while it is queued."""
        job.shares -= 1
        if job.shares > 0 and not job.done:
            return answered(packets.FARM_CANCEL_RES, [job.handle, extension.CANCEL_SHARED])
        if not job.done:
            job.unwanted = True
            job.end(JobCancelled(f"job {job.handle.decode()} was cancelled"))
            if self.jobs.get(job.handle) is job:
                return self._give_up(job)
        return answered(packets.FARM_CANCEL_RES, [])  # it has ended, or the server is told when it says the handle

    # -- what comes

    def receive(self, number: int, body: bytes) -> None:
        """One packet. Raises NotGearman for what no Gearman server sends a client."""
        kind = KINDS.get(number)
        if kind is None:
            words = f"it said {quoted(body[:40])}" if number == TEXT else f"unknown packet {number}"
            raise NotGearman(f"the server at {self.server} does not speak Gearman: {words}", "check the address")
        try:
            args = split(kind, body)
        except PacketRefused as refused:
            raise NotGearman(f"the server at {self.server} does not speak Gearman: {refused.text.decode()}") from None
        if number in _JOB_PACKETS:
            job = self.jobs.get(args[0].removesuffix(b"\0"))  # gearmand ends some handles so
            if job is not None:
                self._about(job, number, args[1:])
        elif number == packets.ERROR:
            self._error(args)
        elif number in _ANSWERS:
            self._answered(number, args)
        else:
            raise NotGearman(f"the server at {self.server} sent an unexpected {kind.name}")

    def _about(self, job: Pending, number: int, args: list[bytes]) -> None:
        done = job.done
        if not done:
            _JOB_PACKETS[number](job, *args)
        if number in _LAST:
            self._forget(job)
        elif job.done and not done:  # half of its output is missing: it is given up
            job.unwanted = True
            self._give_up(job)

    def _give_up(self, job: Pending) -> Answer:
        """Tell the server, if it understands. If not, the job stays known: what still comes of it is dropped."""
        if not self.extension:
            return answered(packets.FARM_CANCEL_RES, [])
        self._forget(job)
        answer = Answer(packets.FARM_CANCEL_RES)
        self._answers.append(answer)
        self._send((request(packets.FARM_CANCEL, job.handle),))
        return answer

    def _answered(self, number: int, args: list[bytes]) -> None:
        for answer in self._answers:
            if answer.expects == number:
                break
        else:
            return  # to a question that was given up
        while (first := self._answers.popleft()) is not answer:  # gearmand does not answer some questions
            error = Unavailable(f"the server at {self.server} did not answer")
            first.end([], error)
            if first.job:
                first.job.end(error)
        if number == packets.JOB_CREATED:
            assert answer.job
            self._created(answer.job, args[0])
        elif number == packets.OPTION_RES and args[0] == extension.OPTION:
            self.extension = True
        answer.end(args)

    def _created(self, job: Pending, handle: bytes) -> None:
        job.created(handle)
        if job.background:
            return
        self.jobs[handle] = job
        if job.unwanted:
            self._give_up(job)

    def _error(self, args: list[bytes]) -> None:
        """It answers the oldest question, for nothing in it says which it means."""
        code, text = args
        if code in _GOING:
            self.leaving = True
        if not self._answers:
            self.complaint = words_of(text)
            return
        answer = self._answers.popleft()
        if answer.job is None or answer.expects != packets.JOB_CREATED:
            answer.end(
                args, Unavailable(f"the server at {self.server} says: {words_of(text)}") if code in _GOING else None
            )
            return
        self._forget(answer.job)
        answer.end(args)
        if code in _GOING and not answer.job.unwanted:
            self.refused.append(answer.job)
        else:
            answer.job.end(refusal(args, self.server))

    def _forget(self, job: Pending) -> None:
        self.jobs.pop(job.handle, None)
        if job.key and self._keys.get(job.key) is job:
            del self._keys[job.key]

    # -- the end

    def lose(self, words: str) -> list[Pending]:
        """The connection is gone: everything that was asked gets an error. Returns the jobs that were out, in the order
        in which they were submitted; what becomes of them is the client's business."""
        answers, self._answers = self._answers, deque()
        jobs = list(self.jobs.values()) + [answer.job for answer in answers if answer.expects == packets.JOB_CREATED]
        error = Unavailable(f"lost the server at {self.server}: {self.complaint or words}")
        for answer in answers:
            answer.end([], error)
        self.jobs.clear()
        self._keys.clear()
        return [job for job in jobs if job is not None and not job.unwanted and not job.done]


_JOB_PACKETS: dict[int, Callable[..., None]] = {
    packets.WORK_DATA: Pending.data,
    packets.WORK_WARNING: Pending.warning,
    packets.WORK_STATUS: Pending.status,
    packets.WORK_COMPLETE: Pending.complete,
    packets.WORK_FAIL: Pending.fail,
    packets.WORK_EXCEPTION: Pending.exception,
    packets.FARM_JOB_JOINED: Pending.joined,
    packets.FARM_JOB_RESTARTED: Pending.restarted,
}
_LAST = (packets.WORK_COMPLETE, packets.WORK_FAIL, packets.WORK_EXCEPTION)
_ANSWERS = (
    packets.JOB_CREATED,
    packets.OPTION_RES,
    packets.ECHO_RES,
    packets.STATUS_RES,
    packets.STATUS_RES_UNIQUE,
    packets.FARM_CANCEL_RES,
)
