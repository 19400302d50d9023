"""The worker's side of the wire without a wire: its table of moves, and its reports."""

from __future__ import annotations

import pytest

from farm.errors import NotGearman, Unavailable
from farm.protocol import extension
from farm.protocol import packets as p
from farm.worker.report import Report
from farm.worker.session import ASLEEP, AWAKE, GRABBING, GREETING, HOLDING, LEAVING, LEFT, MOVES, Session
from tests.support import req

STATES = (GREETING, AWAKE, GRABBING, ASLEEP, HOLDING, LEAVING)


class Talk:
    """A session, what it has sent, and packets for it."""

    def __init__(self, farm_server: bool = True) -> None:
        self.sent = b""
        self.session = Session("here:1", self._send)
        self.session.greet(b"me", {b"f": 0, b"g": 1500})
        self.expect(
            req(p.OPTION_REQ, extension.OPTION)
            + req(p.SET_CLIENT_ID, b"me")
            + req(p.CAN_DO, b"f")
            + req(p.CAN_DO_TIMEOUT, b"g", b"1500")
        )
        if farm_server:
            self.come(p.OPTION_RES, extension.OPTION)
        else:
            self.come(p.ERROR, b"UNKNOWN_OPTION", b"what?")

    def _send(self, pieces: tuple[bytes, ...]) -> None:
        self.sent += b"".join(pieces)

    def expect(self, sent: bytes) -> None:
        """Exactly this was sent since."""
        assert self.sent == sent
        self.sent = b""

    def come(self, number: int, *parts: bytes) -> None:
        """A packet comes."""
        self.session.receive(number, b"\0".join(parts))


def test_jobs_and_sleep() -> None:
    talk = Talk()
    session = talk.session
    assert (session.state, session.extension) == (AWAKE, True)
    session.grab()
    talk.expect(req(p.GRAB_JOB_ALL))
    talk.come(p.NOOP)
    talk.come(p.NO_JOB)
    talk.expect(req(p.PRE_SLEEP))
    talk.come(p.NOOP)
    session.grab()
    talk.sent = b""
    talk.come(p.JOB_ASSIGN_UNIQ, b"H:1", b"f", b"k", b"a\0b")
    assert session.job
    assert (session.job.handle, session.job.function, session.job.unique, session.job.payload) == (
        b"H:1",
        b"f",
        b"k",
        b"a\0b",
    )
    talk.come(p.NOOP)
    talk.come(p.FARM_JOB_CANCEL, b"H:0")  # of the job before
    assert not session.cancelled
    talk.come(p.FARM_JOB_CANCEL, b"H:1")
    assert session.cancelled
    session.ended()
    assert (session.state, session.job, session.cancelled) == (AWAKE, None, False)
    session.leave()
    talk.expect(req(p.ECHO_REQ, b"leaving"))
    talk.come(p.ERROR, b"JOB_NOT_FOUND", b"given up")
    talk.come(p.ECHO_RES, b"leaving")
    assert (session.state, session.complaint) == (LEFT, "")


@pytest.mark.parametrize(
    ("number", "parts", "unique"),
    [
        (p.JOB_ASSIGN, (b"H:1", b"f", b"in"), b""),
        (p.JOB_ASSIGN_UNIQ, (b"H:1", b"f", b"k", b"in"), b"k"),
        (p.JOB_ASSIGN_ALL, (b"H:1", b"f", b"k", b"reducer", b"in"), b"k"),
    ],
)
def test_every_kind_of_assignment(number: int, parts: tuple[bytes, ...], unique: bytes) -> None:
    talk = Talk(farm_server=False)
    assert not talk.session.extension
    talk.session.grab()
    talk.come(number, *parts)
    assert talk.session.job
    assert (talk.session.job.unique, talk.session.job.payload) == (unique, b"in")


def test_what_may_come_when() -> None:
    bodies = {
        p.ERROR: b"C\0t",
        p.OPTION_RES: b"farm-1",
        p.ECHO_RES: b"",
        p.NOOP: b"",
        p.NO_JOB: b"",
        p.JOB_ASSIGN: b"H:1\0f\0",
        p.JOB_ASSIGN_UNIQ: b"H:1\0f\0\0",
        p.JOB_ASSIGN_ALL: b"H:1\0f\0\0\0",
        p.FARM_JOB_CANCEL: b"H:1",
        p.WORK_DATA: b"H:1\0",
        p.JOB_CREATED: b"H:1",
        p.TEXT: b"hello",
        p.MISDIRECTED: b"",
    }
    for state in STATES:
        for number, body in bodies.items():
            talk = Talk()
            talk.session.state = state
            if (state, number) in MOVES:
                talk.session.receive(number, body)
                assert talk.session.state == MOVES[state, number]
            else:
                with pytest.raises(NotGearman):
                    talk.session.receive(number, body)


def test_a_cut_packet() -> None:
    talk = Talk()
    talk.session.grab()
    with pytest.raises(NotGearman):
        talk.come(p.JOB_ASSIGN_UNIQ, b"H:1", b"f")


def test_a_server_that_takes_no_more() -> None:
    talk = Talk()
    talk.session.state = GREETING
    with pytest.raises(Unavailable):
        talk.come(p.ERROR, b"TOO_MANY_CONNECTIONS", b"full")
    talk.session.state = AWAKE
    talk.come(p.ERROR, b"INVALID_FUNCTION_NAME", b"Blank")
    assert talk.session.complaint == "Blank (INVALID_FUNCTION_NAME)"


@pytest.mark.parametrize("state", [GREETING, GRABBING, HOLDING])
def test_leaving_when_nothing_has_to_arrive(state: str) -> None:
    talk = Talk()
    talk.session.state = state
    talk.session.leave()
    assert talk.session.state == LEFT
    talk.expect(b"")


# -- reports

BEGIN = (p.WORK_WARNING, b"")


def packets(found: list[tuple[bytes, ...]]) -> list[tuple[int, bytes]]:
    """(number, what follows the handle) of each."""
    listed = []
    for pieces in found:
        whole = b"".join(pieces)
        number, size, body = int.from_bytes(whole[4:8], "big"), int.from_bytes(whole[8:12], "big"), whole[12:]
        assert (whole[:4], len(body)) == (b"\0REQ", size)
        assert body.split(b"\0")[0] == b"H:1"
        listed.append((number, body[4:]))
    return listed


@pytest.mark.parametrize("farm_server", [True, False])
def test_reports(farm_server: bool) -> None:
    begin = [] if farm_server else [BEGIN]

    def report() -> Report:
        return Report(b"H:1", farm_server)

    assert packets(report().complete(b"result")) == [(p.WORK_COMPLETE, b"result")]
    assert packets(report().complete(b"")) == [*begin, (p.WORK_COMPLETE, b"")]
    streamed = report()
    assert packets(streamed.data(b"one")) == [*begin, (p.WORK_DATA, b"one")]
    assert packets(streamed.data(b"")) == []
    assert packets(streamed.warning("ü".encode())) == [(p.WORK_WARNING, "ü".encode())]
    assert packets(streamed.status(1, 2)) == [(p.WORK_STATUS, b"1\0002")]
    assert packets(streamed.complete(b"rest")) == [(p.WORK_DATA, b"rest"), (p.WORK_COMPLETE, b"")]
    assert packets(report().warning(b"")) == []
    assert packets(report().fail(3, b"why\n")) == [
        *begin,
        (p.WORK_WARNING, b"why\n"),
        (p.WORK_WARNING, b"farm: exit 3\n"),
        (p.WORK_FAIL, b""),
    ]
    assert packets(report().fail(3, b""))[-2:] == [(p.WORK_WARNING, b"farm: exit 3\n"), (p.WORK_FAIL, b"")]


def test_no_warning_can_be_taken_for_an_exit_code() -> None:
    assert packets(Report(b"H:1", True).warning(b"farm: exit 0\n")) == [
        (p.WORK_WARNING, b"f"),
        (p.WORK_WARNING, b"arm: exit 0\n"),
    ]


@pytest.mark.parametrize(
    ("farm_server", "native", "as_exception"),
    [
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (False, True, True),
    ],
)
def test_exceptions(farm_server: bool, native: bool | None, as_exception: bool) -> None:
    found = packets(Report(b"H:1", farm_server).exception(b"boom", native))
    if as_exception:
        assert found == [(p.WORK_EXCEPTION, b"boom")]
    else:
        assert found[-3:] == [(p.WORK_WARNING, b"boom\n"), (p.WORK_WARNING, b"farm: exit 1\n"), (p.WORK_FAIL, b"")]
