"""A signal comes at the worst moment: the answer to the submission has been read and is being taken apart. If it were
lost there, nobody could cancel the job, and behind a stock server it would run on unseen."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from farm.cli import foreground
from farm.cli.main import Leave
from farm.cli.servers import Servers
from farm.client import connection, submit
from farm.client.request import Request
from farm.client.submit import CANCEL_TIMEOUT_S
from farm.errors import FarmError
from farm.protocol import packets as p
from tests.cli.fakes import CREATED, Caller, fake_server, res
from tests.support import req

GRANTED = res(p.OPTION_RES, b"farm-1")
CANCEL = req(p.FARM_CANCEL, b"H:fake:1")

BEFORE, AFTER = True, False
MOMENTS: list[tuple[object, str, bool]] = [  # of a call of this function
    (connection.Decoder, "feed", BEFORE),  # the bytes have been received, and are not decoded
    (connection.Connection, "_take", AFTER),
    (connection.Connection, "receive", AFTER),
    (submit, "answers", AFTER),
    (submit.Foreground, "_handle", BEFORE),  # of the first packet: the handle is in the second one
    (submit, "split_answer", BEFORE),
    (submit, "handle_text", BEFORE),
]


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """As they were before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield
    for number, handler in before:
        signal.signal(number, handler)


class OneConnection(Servers):
    """Closes it at the end: the process that runs the command does so by ending."""

    def connect(self) -> connection.Connection:
        self.opened = super().connect()
        return self.opened


def values(address: str, limit_s: float) -> dict[str, Any]:
    return {
        "server": [address],
        "order": "ordered",
        "insecure": False,
        "quiet": False,
        "no_wait": False,
        "verbose": False,
        "retry_lost": False,
        "wait_timeout": limit_s,
    }


def interrupt(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, before: bool, number: int, begun: threading.Event
) -> list[int]:
    """The signal comes once, at the first such call after the answer has begun to come. Gives those that were sent."""
    original = getattr(where, name)
    sent: list[int] = []

    def once() -> None:
        if begun.is_set() and not sent:
            sent.append(number)
            signal.raise_signal(number)

    def called(*args: Any) -> Any:
        if before:
            once()
        result = original(*args)
        if not before and result != []:
            once()
        return result

    monkeypatch.setattr(where, name, called)
    return sent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGALRM])
@pytest.mark.parametrize(("where", "name", "before"), MOMENTS)
def test_the_job_is_cancelled_whenever_the_signal_comes(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, before: bool, number: signal.Signals
) -> None:
    answer = threading.Event()

    def talk(caller: Caller) -> None:
        caller.until(req(p.SUBMIT_JOB, b"f", b"", b""))
        answer.set()
        caller.say(GRANTED + CREATED)
        caller.until(CANCEL)
        caller.say(res(p.FARM_CANCEL_RES, b"H:fake:1", b"dropped"))

    said: list[str] = []
    sent = interrupt(monkeypatch, where, name, before, number, answer)
    begun = time.monotonic()
    with fake_server(talk) as (address, callers):
        given = values(address, 3600.0)
        servers = OneConnection(given)
        with pytest.raises((Leave, FarmError)) as left:
            foreground.run(Request(b"f", b""), given, servers, lambda words, hint: said.append(words))
        servers.opened.close()
        assert CANCEL in callers[0].got
    assert sent == [number]
    assert time.monotonic() - begun < CANCEL_TIMEOUT_S
    assert said == ["cancelled: job H:fake:1 was not running"]
    if number == signal.SIGTERM:
        assert isinstance(left.value, Leave)
        assert left.value.signal == number
    else:
        assert left.value.status == 124
