"""Questions and commands about jobs, to one server of farm's own (verbs and answers: `farm/protocol/JOBS.md`).

One question at a time on a connection, each answered within a bound; where an answer may take as long as a job does, a
server that has died without a word is noticed all the same. A stock server is told apart before anything is asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from farm.client.connection import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, Connection, open_connection
from farm.errors import (
    EXIT_DATA,
    STORE_HINT,
    CronNotFound,
    FarmError,
    FunctionNotFound,
    JobNotFound,
    NotGearman,
    NotPermitted,
    PacketRefused,
    TryAgain,
    Unavailable,
    UsageError,
)
from farm.protocol import extension, packets
from farm.protocol.address import Address
from farm.protocol.names import quoted, shown, words_of
from farm.protocol.packets import KINDS, REQUEST, TEXT, request, split, with_data
from farm.protocol.silence import ASK, DEAD, SILENCE_MAX_S, Silence

Answer = dict[str, Any]
Taker = Callable[[str, bytes], None]  # of FARM_OUTPUT: the stream (RESULT, LOG), and its bytes

RESULT, LOG = "result", "log"
IDS_MAX = 1000  # jobs in one question: the server answers others between two of them
NUMBER_MAX = 1e21  # of a number in an answer: seconds or bytes; a job's time may be any number of 64 bits and more


class StockServer(Unavailable):
    """The server is not farm's, and knows nothing of what is asked."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the server at {address} is a stock Gearman server; this needs farm's own",
            "it can list its functions: `farm status` or `gearadmin --status`; `farm server` keeps the jobs too",
        )


class JobServer:
    """One server. Raises StockServer, Unavailable, NotGearman or NotPermitted when there is none that could be asked.

    address: as text. timeout_s: for the connection. notify: as for Connection. opened: is told of the connection as
    soon as there is one.
    """

    def __init__(
        self,
        address: Address,
        insecure: bool = False,
        timeout_s: float = CONNECT_TIMEOUT_S,
        notify: Callable[[str, str], None] | None = None,
        opened: Callable[[Connection], None] | None = None,
    ) -> None:
        self.address = str(address)
        self.connection = open_connection(address, insecure, timeout_s)
        self.connection.notify = notify
        if opened:
            opened(self.connection)
        self._ended: list[tuple[str, Answer]] = []
        self._silence = Silence(time.monotonic())
        try:
            self._ask_for_the_extension()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> JobServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket's descriptor, readable when `take_ended` may have something."""
        return self.connection.fileno()

    def close(self) -> None:
        """Close the connection. Nothing that was asked for is taken back."""
        self.connection.close()

    def ask(
        self,
        verb: str,
        asked: Answer | None = None,
        payload: bytes = b"",
        *,
        take: Taker | None = None,
        for_ever: bool = False,
        watch: int = -1,
        patience_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """The answer to a question. take: gets what comes of a job's output before it.

        for_ever: it may take as long as the job; otherwise `patience_s` without a byte is too long.
        watch: as for Connection.receive. Raises UsageError, JobNotFound, NotPermitted or TryAgain when the server
        refuses, Unavailable when it goes away or does not answer, NotGearman when it breaks the rules.
        """
        words = json.dumps(asked or {}).encode()
        self.connection.send(*with_data(REQUEST, packets.FARM_ASK, (verb.encode(), words), payload))
        answer: Answer | None = None
        while answer is None:
            for number, args in self._receive(for_ever, watch, patience_s):
                if number == packets.FARM_ANSWER and args[0] == verb.encode():
                    answer = self._object(args[1])
                elif number == packets.FARM_OUTPUT and take:
                    take(args[1].decode("ascii", "replace"), args[2])
                else:
                    self._other(number, args)
        return answer

    def take_ended(self) -> list[tuple[str, Answer]]:
        """The jobs whose end, asked for with the verb `wait`, has been told meanwhile: id and FARM_ENDED's object. Does
        not wait. Raises Unavailable when the server has gone, or has shown no life for SILENCE_MAX_S."""
        for number, args in self._split(self.connection.receive(0)):
            self._other(number, args)
        self._look()
        ended, self._ended = self._ended, []
        return ended

    def wait_ended(self) -> list[tuple[str, Answer]]:
        """The same, but waits until there is one."""
        while not self._ended:
            for number, args in self._receive(for_ever=True):
                self._other(number, args)
        return self.take_ended()

    @property
    def next_look(self) -> float:
        """When `take_ended` wants to be called though nothing came: monotonic seconds."""
        return self._silence.due

    # -- what comes

    def _ask_for_the_extension(self) -> None:
        """A line of text goes first: what is no Gearman server may wait for the end of a line before it says so."""
        self.connection.send(b"version\n", request(packets.OPTION_REQ, extension.OPTION))
        while True:
            for number, args in self._receive():
                if number == packets.OPTION_RES:
                    return
                if number == packets.ERROR and args[0] == b"UNKNOWN_OPTION":
                    raise StockServer(self.address)
                if number != TEXT or not args[0].startswith(b"OK "):
                    self._other(number, args)

    def _receive(
        self, for_ever: bool = False, watch: int = -1, patience_s: float = ANSWER_TIMEOUT_S
    ) -> list[tuple[int, list[bytes]]]:
        """Whole packets, taken apart; at least one, or it raises Unavailable."""
        if not for_ever:
            came = self.connection.answer(patience_s, watch)
            if not came:
                raise self.connection.silent()
            return self._split(came)
        self._silence.fresh(time.monotonic())
        while True:
            came = self.connection.receive(max(0.0, self._silence.due - time.monotonic()), watch)
            if came:
                return self._split(came)
            self._look()

    def _look(self) -> None:
        """Is it still there? Ask when nothing has come for a while."""
        found = self._silence.look(time.monotonic(), self.connection.received)
        if found == DEAD:
            raise Unavailable(f"the server at {self.address} has given no sign of life for {SILENCE_MAX_S:g} s")
        if found == ASK:
            self.connection.send(request(packets.ECHO_REQ, b""))

    def _split(self, came: list[tuple[int, bytes]]) -> list[tuple[int, list[bytes]]]:
        try:
            return [(number, [body] if number == TEXT else split(KINDS[number], body)) for number, body in came]
        except (PacketRefused, KeyError) as fault:
            raise self._strange("a bad packet") from fault

    def _other(self, number: int, args: list[bytes]) -> None:
        """Whatever is not the answer."""
        if number == packets.ERROR:
            raise refusal(args, self.address)
        if number == packets.FARM_ENDED:
            self._ended.append((shown(args[0]), self._object(args[1])))
        elif number == TEXT:
            raise NotGearman(
                f"the server at {self.address} does not speak Gearman; it said {quoted(args[0][:40])}",
                "check the address: is another program listening there?",
            )
        elif number != packets.ECHO_RES:
            raise self._strange(f"an unexpected {KINDS[number].name}")

    def _object(self, text: bytes) -> Answer:
        """A JSON object, without what JSON does not have and numbers that no time or size can be."""
        try:
            answer = json.loads(text, parse_constant=_refuse, parse_float=_number, parse_int=_number)
        except (ValueError, RecursionError) as fault:
            raise self._strange("an answer that is not JSON") from fault
        if not isinstance(answer, dict):
            raise self._strange("an answer that is no object")
        return answer

    def _strange(self, what: str) -> NotGearman:
        return NotGearman(f"the server at {self.address} sent {what}", "do farm's versions here and there differ much?")


def refusal(args: list[bytes], address: str) -> FarmError:
    """What an ERROR packet in answer to a question means. args: its code and text."""
    code, text = args
    words = words_of(text)
    if code == b"JOB_NOT_FOUND":
        return JobNotFound(words, "`farm jobs` lists those that there are; ended ones are kept for a while only")
    if code == b"CRON_NOT_FOUND":
        return CronNotFound(words)
    if code == b"CRON_EXISTS":
        return UsageError(words, "--replace puts the new one in its place")
    if code == b"UNKNOWN_FUNCTION":
        return FunctionNotFound(words, "`farm function list` lists those that there are")
    if code == b"PERMISSION_DENIED":
        return NotPermitted(
            f"the server at {address} refuses: {words}", "ask from its own machine, or start it with --remote-admin"
        )
    if code == b"STORE_ERROR":
        return FarmError(f"the server at {address}: {words}", STORE_HINT, EXIT_DATA)
    if code == b"INVALID_REQUEST":
        return UsageError(words)
    if code == b"INVALID_COMMAND":
        return Unavailable(
            f"the server at {address} is an older farm that cannot be asked this", "start a newer `farm server` there"
        )
    if code == b"SHUTDOWN":
        return Unavailable(f"the server at {address} is stopping")
    if code in (b"QUEUE_ERROR", b"TOO_MANY_CONNECTIONS", b"ARGUMENT_TOO_LARGE"):
        return TryAgain(f"the server at {address} refuses: {words}", "try again later")
    return NotGearman(f"the server at {address} refuses: {words}")


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _number(text: str) -> int | float:
    value = float(text)
    if not -NUMBER_MAX < value < NUMBER_MAX:
        raise ValueError(text[:40])
    return int(text) if text.lstrip("-").isdigit() else value
