"""A server that answers questions about jobs as a test tells it to: what the real one says rarely, late or never."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from farm.protocol import packets as p
from tests.cli.fakes import Caller, fake_server, res

Asked = dict[str, Any]
Say = Callable[[Caller, Asked], bytes]  # what goes back, whole packets

GRANTED = b"OK 9 farm\n" + res(p.OPTION_RES, b"farm-1")
STOCK = b"OK 1.1.20\n" + res(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option")


def answer(verb: str, fields: object) -> bytes:
    """FARM_ANSWER."""
    return res(p.FARM_ANSWER, verb.encode(), json.dumps(fields).encode())


def error(code: str, text: str) -> bytes:
    """ERROR."""
    return res(p.ERROR, code.encode(), text.encode())


def output(id: str, stream: str, data: bytes) -> bytes:
    """FARM_OUTPUT."""
    return res(p.FARM_OUTPUT, id.encode(), stream.encode(), data)


def ended(id: str, state: str = "done", code: int | None = 0, leave: int = 0, reason: str = "") -> bytes:
    """FARM_ENDED. leave: what `farm wait` shall exit with."""
    fields = {"state": state, "reason": reason, "exit_code": code, "exit": leave}
    return res(p.FARM_ENDED, id.encode(), json.dumps(fields).encode())


def job(id: str, **fields: Any) -> dict[str, Any]:
    """A job's record, done and unremarkable but for what is said."""
    return {
        "id": id,
        "function": "resize",
        "unique": "",
        "priority": "normal",
        "background": True,
        "state": "done",
        "reason": "",
        "created_at": 1767229200.5,
        "due_at": None,
        "started_at": 1767229201.0,
        "ended_at": 1767229203.25,
        "run_s": 2.25,
        "worker": "host-1",
        "exit_code": 0,
        "cpu_s": 0.5,
        "peak_bytes": 1 << 20,
        "attempts": 1,
        "failures": 0,
        "losses": 0,
        "retries": 0,
        "timeout_s": None,
        "expires_at": None,
        "after": None,
        "keep_s": 604800,
        "payload_bytes": 10,
        "result_bytes": 20,
        "log_bytes": 30,
        "cut": False,
        "progress": None,
        **fields,
    }


@contextlib.contextmanager
def job_server(
    verbs: dict[str, Say | bytes], greeting: bytes = GRANTED
) -> Iterator[tuple[str, list[tuple[str, Asked]]]]:
    """A server that answers these verbs. Gives its address, and what was asked so far.

    A verb's bytes are said as they are; a function gets the connection and the request, and gives the bytes. One that
    raises EOFError closes the connection.
    """
    asked: list[tuple[str, Asked]] = []

    def talk(caller: Caller) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                number, body = _packet(caller)
                if number == p.OPTION_REQ:
                    caller.say(greeting)
                elif number == p.ECHO_REQ:
                    caller.say(res(p.ECHO_RES, body))
                elif number == p.FARM_ASK:
                    verb, question, _ = (part.decode() for part in body.split(b"\0", 2))
                    asked.append((verb, json.loads(question)))
                    say = verbs.get(verb, error("INVALID_REQUEST", f"no such verb: {verb}"))
                    caller.say(say if isinstance(say, bytes) else say(caller, asked[-1][1]))

    with fake_server(talk) as (address, _):
        yield address, asked


def _packet(caller: Caller) -> tuple[int, bytes]:
    """The next packet; lines of text are skipped."""
    while True:
        if caller.got[:1] == b"v" and b"\n" in caller.got:
            caller.got = caller.got.partition(b"\n")[2]
        if len(caller.got) >= 12:
            _, number, length = struct.unpack(">4sII", caller.got[:12])
            if len(caller.got) >= 12 + length:
                body, caller.got = caller.got[12 : 12 + length], caller.got[12 + length :]
                return number, body
        chunk = caller.sock.recv(1 << 16)
        if not chunk:
            raise EOFError
        caller.got += chunk
