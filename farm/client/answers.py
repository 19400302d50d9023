"""What a server answers to a submission, and what that means to a person.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

from farm.client.connection import ANSWER_TIMEOUT_S, NOTICE_S, Connection
from farm.errors import (
    EXIT_DATA,
    EXIT_UNAVAILABLE,
    STORE_HINT,
    FarmError,
    JobNotFound,
    NotGearman,
    PacketRefused,
    TryAgain,
    UsageError,
)
from farm.protocol import packets
from farm.protocol.decoder import Packet
from farm.protocol.names import quoted, shown, words_of
from farm.protocol.packets import KINDS, TEXT, split

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself would cost a third of the start-up time
    from collections.abc import Callable
    from typing import NoReturn

    from farm.protocol.address import Address


def answers(connection: Connection, notify: Callable[[str, str], None]) -> list[Packet]:
    """What the server answers, and a word to a person if that takes long. Raises Unavailable when it does not."""
    came = connection.receive(NOTICE_S)
    if not came:
        notify(f"waiting: the server at {connection.address} does not answer yet", "")
        came = connection.receive(ANSWER_TIMEOUT_S)
    if not came:
        raise connection.silent()
    return came


EXISTS_HINT = "submit again when its key does not count any more, or with another one"


class Exists(Exception):
    """FARM_EXISTS: nothing was submitted, for this job of the server at `address` has the same unique key. state: as it
    was a moment ago."""

    def __init__(self, handle: str, state: str, address: Address) -> None:
        super().__init__(handle, state)
        self.handle = handle
        self.state = state
        self.address = address


def exists(args: list[bytes], connection: Connection) -> Exists:
    """From the packet's arguments. Raises NotGearman for what is no handle."""
    return Exists(handle_text(args[0], connection), shown(args[1]), connection.address)


class StockAnswer(FarmError):
    """The answer to the extension's option says that the server does not know what the job needs. (No Unavailable: the
    server is well, and it is of no use to try again.)"""


def stock_server(connection: Connection, needs: list[str]) -> StockAnswer:
    """For the server at the connection's other end. needs: in a person's words."""
    return StockAnswer(
        f"the server at {connection.address} is a stock Gearman server: it does not know {', '.join(needs)}",
        "leave that out, or name a farm server with --server",
        EXIT_UNAVAILABLE,
    )


def split_answer(number: int, body: bytes, connection: Connection) -> list[bytes]:
    """The arguments of a server's packet."""
    try:
        return split(KINDS[number], body)
    except PacketRefused as refused:
        raise NotGearman(f"the server at {connection.address} sent a bad packet: {refused.text.decode()}") from refused


def handle_text(handle: bytes, connection: Connection) -> str:
    """A handle as text: it is printed, and must be one word of one line."""
    text = shown(handle)
    if not text or text.encode() != handle:
        raise NotGearman(f"the server at {connection.address} sent a strange handle: {quoted(handle[:80])}")
    return text


def unexpected(number: int, body: bytes, connection: Connection) -> NoReturn:
    if number == packets.ERROR:
        raise refusal(split_answer(number, body, connection), connection.address)
    if number == TEXT:
        raise NotGearman(
            f"the server at {connection.address} does not speak Gearman; it said {quoted(body[:40])}",
            "check the address: is another program listening there?",
        )
    kind = KINDS.get(number)
    raise NotGearman(f"the server at {connection.address} sent an unexpected {kind.name if kind else number}")


def refusal(args: list[bytes], server: object) -> FarmError:
    """What an ERROR packet in answer to a submission means. args: its code and text."""
    code, text = args
    message = f"the server at {server} refused the job: {words_of(text)}"
    if code in (b"QUEUE_ERROR", b"SHUTDOWN", b"TOO_MANY_CONNECTIONS"):
        return TryAgain(message, "try again later")
    if code in (b"ARGUMENT_TOO_LARGE", b"INVALID_FUNCTION_NAME", b"INVALID_REQUEST"):
        return UsageError(message)
    if code == b"STORE_ERROR":
        return FarmError(message, STORE_HINT, EXIT_DATA)
    if code == b"JOB_NOT_FOUND":
        return JobNotFound(message, "`farm jobs` lists those that there are")
    return NotGearman(message)
