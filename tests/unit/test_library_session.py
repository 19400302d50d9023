"""The client's side of the wire without a wire: which answer is whose, and what comes of a job."""

from __future__ import annotations

import pytest

from farm.client import strays
from farm.client.pending import STDERR_MAX, Pending
from farm.client.request import Request
from farm.client.session import Session
from farm.errors import (
    FarmError,
    JobCancelled,
    JobException,
    JobFailed,
    JobLost,
    NotGearman,
    TryAgain,
    Unavailable,
    UsageError,
)
from farm.protocol import packets as p
from tests.support import req

OPTIONS = req(p.OPTION_REQ, b"farm-1") + req(p.OPTION_REQ, b"exceptions")


class Talk:
    """A session, what it has sent, and packets for it."""

    def __init__(self, farm_server: bool = True) -> None:
        self.sent = b""
        self.session = Session("here:1", self._send)
        greeting = self.session.greet()
        self.expect(OPTIONS)
        if farm_server:
            self.come(p.OPTION_RES, b"farm-1")
        else:
            self.come(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option")
        assert greeting.done
        assert greeting.error is None
        self.come(p.OPTION_RES, b"exceptions")
        assert self.session.extension == farm_server
        assert self.session.idle

    def _send(self, pieces: tuple[bytes, ...]) -> None:
        self.sent += b"".join(pieces)

    def expect(self, sent: bytes) -> None:
        """Exactly this was sent since."""
        assert self.sent == sent
        self.sent = b""

    def come(self, number: int, *parts: bytes) -> None:
        """A packet comes."""
        self.session.receive(number, b"\0".join(parts))

    def job(self, handle: bytes = b"H:1", unique: bytes = b"", **options: bool) -> Pending:
        """A job that the server has."""
        job = Pending(Request(b"f", b"in", unique), **options)
        self.session.submit(job)
        self.expect(req(p.SUBMIT_JOB_BG if job.background else p.SUBMIT_JOB, b"f", unique, b"in"))
        self.come(p.JOB_CREATED, handle)
        assert job.handle == handle
        return job


def test_a_job_from_beginning_to_end() -> None:
    talk = Talk()
    job = talk.job()
    assert not talk.session.idle
    talk.come(p.WORK_DATA, b"H:1", b"one\0")
    talk.come(p.WORK_STATUS, b"H:1", b"1", b"2")
    talk.come(p.WORK_WARNING, b"H:1", b"careful")
    assert (job.done, job.held, job.progress, bytes(job.stderr)) == (False, 4, (1, 2), b"careful")
    talk.come(p.WORK_COMPLETE, b"H:1", b"two")
    assert (job.done, job.error, job.exit_code, job.output()) == (True, None, 0, b"one\0two")
    assert talk.session.idle
    talk.come(p.WORK_DATA, b"H:1", b"of another life")  # ignored
    assert job.output() == b"one\0two"


def test_answers_belong_to_questions_in_their_order() -> None:
    talk = Talk()
    first, second = Pending(Request(b"f", b"1")), Pending(Request(b"f", b"2"))
    talk.session.submit(first)
    echo = talk.session.ask(p.ECHO_REQ, p.ECHO_RES, b"x")
    talk.session.submit(second)
    status = talk.session.ask(p.GET_STATUS, p.STATUS_RES, b"H:9")
    talk.come(p.JOB_CREATED, b"H:1")
    assert (first.handle, second.handle, echo.done) == (b"H:1", b"", False)
    talk.come(p.ECHO_RES, b"x")
    talk.come(p.ERROR, b"QUEUE_ERROR", b"Job queue is full")
    assert isinstance(second.error, TryAgain)
    talk.come(p.STATUS_RES, b"H:9", b"0", b"0", b"0", b"0")
    assert (echo.args, status.args[0]) == ([b"x"], b"H:9")


def test_a_question_that_the_server_never_answers_holds_up_no_other() -> None:
    talk = Talk(farm_server=False)
    silent = talk.session.ask(p.GET_STATUS_UNIQUE, p.STATUS_RES_UNIQUE, b"k" * 64)
    echo = talk.session.ask(p.ECHO_REQ, p.ECHO_RES, b"x")
    talk.come(p.ECHO_RES, b"x")
    assert echo.done
    assert isinstance(silent.error, Unavailable)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(b"QUEUE_ERROR", TryAgain), (b"ARGUMENT_TOO_LARGE", UsageError), (b"INVALID_MAGIC", NotGearman)],
)
def test_a_refused_job(code: bytes, kind: type[FarmError]) -> None:
    talk = Talk()
    job = Pending(Request(b"f", b"", b"k"))
    talk.session.submit(job)
    talk.come(p.ERROR, code, b"words")
    assert type(job.error) is kind
    assert talk.session.twin(Pending(Request(b"f", b"", b"k"))) is None


def test_a_server_that_is_going_gives_the_jobs_back() -> None:
    talk = Talk()
    running = talk.job()
    job = Pending(Request(b"f", b"2"))
    talk.session.submit(job)
    talk.come(p.ERROR, b"SHUTDOWN", b"Server is shutting down")
    assert talk.session.leaving
    (stray,) = strays.of_refused(talk.session, 5.0)
    assert (stray.job, stray.until, job.done) == (job, 5.0, False)
    stray.give_up(Unavailable("no server answers"))
    assert isinstance(job.error, TryAgain)
    assert "takes no more jobs; then no server answers" in job.error.message
    talk.come(p.WORK_COMPLETE, b"H:1", b"")
    assert running.done


# -- how jobs fail


def test_failures() -> None:
    talk = Talk()
    job = talk.job()
    talk.come(p.WORK_WARNING, b"H:1", b"first line\nlast line\n")
    talk.come(p.WORK_WARNING, b"H:1", b"farm: exit 143\n")
    talk.come(p.WORK_FAIL, b"H:1")
    assert isinstance(job.error, JobFailed)
    assert job.error.message == "job H:1 failed with exit code 143: last line"
    assert (job.exit_code, job.error.stderr) == (143, b"first line\nlast line\n")
    job = talk.job(b"H:2")
    talk.come(p.WORK_FAIL, b"H:2\0")  # gearmand
    assert isinstance(job.error, JobFailed)
    assert (job.exit_code, job.error.status) == (None, 1)
    job = talk.job(b"H:3")
    talk.come(p.WORK_EXCEPTION, b"H:3", b"boom\nat \x1b[1m\n")
    assert isinstance(job.error, JobException)
    assert (job.error.text, job.error.message) == (
        b"boom\nat \x1b[1m\n",
        r"job H:3 raised an exception: boom\x0aat \x1b[1m",
    )


def test_what_looks_like_an_exit_code_and_is_none() -> None:
    talk = Talk()
    for number, packets in enumerate(
        (
            [(p.WORK_WARNING, b"farm: exit 3\n"), (p.WORK_DATA, b"more")],
            [(p.WORK_WARNING, b"farm: exit 3\n"), (p.WORK_WARNING, b"more")],
            [(p.WORK_WARNING, b"farm: exit 0\n")],
        )
    ):
        handle = b"H:%d" % number
        job = talk.job(handle)
        for packet, data in packets:
            talk.come(packet, handle, data)
        talk.come(p.WORK_FAIL, handle)
        assert job.exit_code is None
        assert job.stderr.startswith(b"farm: exit ")


def test_of_a_long_stderr_the_end_is_kept() -> None:
    talk = Talk()
    job = talk.job()
    for number in range(40):
        talk.come(p.WORK_WARNING, b"H:1", bytes([65 + number]) * 100_000)
    assert STDERR_MAX <= len(job.stderr) <= 2 * STDERR_MAX
    assert job.stderr.endswith(bytes([65 + 39]) * 100_000)


# -- attempts


def test_a_second_attempt_starts_afresh() -> None:
    talk = Talk()
    job = talk.job()
    talk.come(p.WORK_DATA, b"H:1", b"half")
    talk.come(p.WORK_WARNING, b"H:1", b"oh")
    talk.come(p.FARM_JOB_RESTARTED, b"H:1", b"exit 3; retry 1 of 2 in 1.0 s")
    talk.come(p.WORK_COMPLETE, b"H:1", b"whole")
    assert (job.output(), bytes(job.stderr)) == (b"whole", b"")


def test_a_second_attempt_behind_a_stock_server() -> None:
    talk = Talk(farm_server=False)
    job = talk.job()
    for _ in range(2):
        talk.come(p.WORK_WARNING, b"H:1", b"")
        talk.come(p.WORK_DATA, b"H:1", b"half")
    talk.come(p.WORK_COMPLETE, b"H:1", b"")
    assert job.output() == b"half"
    job = talk.job(b"H:2")
    talk.come(p.WORK_WARNING, b"H:2", b"")
    talk.come(p.WORK_DATA, b"H:2", b"half")
    talk.come(p.WORK_COMPLETE, b"H:2", b"whole")
    assert job.output() == b"whole"


@pytest.mark.parametrize("farm_server", [True, False])
def test_output_that_was_taken_cannot_be_taken_back(farm_server: bool) -> None:
    talk = Talk(farm_server)
    job = talk.job(unique=b"k")
    talk.come(p.WORK_WARNING, b"H:1", b"")
    talk.come(p.WORK_DATA, b"H:1", b"half")
    assert job.take() == b"half"
    if farm_server:
        talk.come(p.FARM_JOB_RESTARTED, b"H:1", b"exit 3; retry 1 of 2 in 1.0 s")
        talk.expect(req(p.FARM_CANCEL, b"H:1"))
        talk.come(p.FARM_CANCEL_RES, b"H:1", b"dropped")
    else:
        talk.come(p.WORK_WARNING, b"H:1", b"")
        talk.expect(b"")
        with pytest.raises(TryAgain):
            talk.session.twin(Pending(Request(b"f", b"", b"k")))
        talk.come(p.WORK_DATA, b"H:1", b"half")
        talk.come(p.WORK_COMPLETE, b"H:1", b"")
    assert isinstance(job.error, TryAgain)
    assert (job.held, talk.session.idle, talk.session.jobs) == (0, True, {})
    assert talk.session.twin(Pending(Request(b"f", b"", b"k"))) is None


# -- giving up


def test_a_job_is_given_up_before_the_server_has_said_its_handle() -> None:
    talk = Talk()
    job = Pending(Request(b"f", b"in"))
    talk.session.submit(job)
    talk.sent = b""
    assert talk.session.cancel(job).done
    talk.expect(b"")
    assert isinstance(job.error, JobCancelled)
    talk.come(p.JOB_CREATED, b"H:1")
    talk.expect(req(p.FARM_CANCEL, b"H:1"))
    talk.come(p.FARM_CANCEL_RES, b"H:1", b"dropped")
    assert talk.session.idle


def test_a_share_is_not_the_job() -> None:
    talk = Talk()
    job = talk.job(unique=b"k")
    assert talk.session.twin(Pending(Request(b"f", b"", b"k"))) is job
    assert talk.session.twin(Pending(Request(b"g", b"", b"k"))) is None
    assert talk.session.cancel(job).args == [b"H:1", b"shared"]
    talk.expect(b"")
    assert not talk.session.cancel(job).done
    talk.expect(req(p.FARM_CANCEL, b"H:1"))
    assert talk.session.twin(Pending(Request(b"f", b"", b"k"))) is None


def test_a_job_is_given_up_at_a_stock_server() -> None:
    talk = Talk(farm_server=False)
    job = talk.job(unique=b"k")
    assert talk.session.cancel(job).args == []
    talk.expect(b"")
    assert talk.session.idle
    with pytest.raises(TryAgain):
        talk.session.twin(Pending(Request(b"f", b"", b"k")))
    talk.come(p.WORK_DATA, b"H:1", b"dropped")
    talk.come(p.WORK_COMPLETE, b"H:1", b"")
    assert talk.session.twin(Pending(Request(b"f", b"", b"k"))) is None


# -- loss


def test_what_becomes_of_jobs_when_the_connection_is_lost() -> None:
    talk = Talk()
    careful, again, given_up = talk.job(b"H:1"), talk.job(b"H:2", retry_lost=True), talk.job(b"H:3", retry_lost=True)
    taken, ended = talk.job(b"H:4", retry_lost=True), talk.job(b"H:5")
    talk.come(p.WORK_DATA, b"H:4", b"part")
    taken.take()
    talk.come(p.WORK_COMPLETE, b"H:5", b"")
    talk.session.cancel(given_up)
    unknown = Pending(Request(b"f", b"in"))
    talk.session.submit(unknown)
    echo = talk.session.ask(p.ECHO_REQ, p.ECHO_RES, b"")
    (stray,) = strays.of_lost(talk.session, "connection reset", 100.0)
    assert (stray.job, stray.until, again.done) == (again, 100.0 + strays.PATIENCE_S, False)
    assert isinstance(careful.error, JobLost)
    assert careful.error.message == (
        "lost the server at here:1 (connection reset) while job H:1 was out: no output had come; it may have run or not"
    )
    assert isinstance(taken.error, JobLost)
    assert taken.error.received == 4
    assert isinstance(unknown.error, JobLost)
    assert "the server never said that it has it" in unknown.error.message
    assert isinstance(given_up.error, JobCancelled)
    assert ended.error is None
    assert isinstance(echo.error, Unavailable)
    # Elsewhere, what had come of it does not count.
    other = Talk()
    other.session.submit(again)
    assert (again.server, again.handle, again.request.payload) == ("here:1", b"", b"in")


def test_a_payload_is_let_go_when_it_is_not_needed() -> None:
    talk = Talk()
    job, again = talk.job(b"H:1"), talk.job(b"H:2", retry_lost=True)
    assert (job.request.payload, again.request.payload) == (b"", b"in")
    talk.come(p.WORK_COMPLETE, b"H:2", b"")
    assert again.request.payload == b""


def test_background_jobs_end_with_the_handle() -> None:
    talk = Talk()
    job = talk.job(background=True)
    assert (job.done, job.error, talk.session.idle) == (True, None, True)


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (p.NOOP, b""),
        (p.JOB_ASSIGN, b"H:1\0f\0"),
        (p.SUBMIT_JOB, b"f\0\0"),
        (p.WORK_DATA, b"H:1"),
        (p.STATUS_RES, b"H:1\0001"),
        (p.TEXT, b"220 smtp ready"),
        (p.MISDIRECTED, b""),
    ],
)
def test_what_no_server_sends(number: int, body: bytes) -> None:
    talk = Talk()
    talk.job()
    with pytest.raises(NotGearman):
        talk.session.receive(number, body)
