"""Faults put in on purpose, one at a time: the fuzzer must find the bytes that show each, or it proves nothing."""

from __future__ import annotations

from typing import NamedTuple

from farm.broker import admin, dispatch
from farm.broker.broker import Broker
from farm.errors import PacketRefused
from farm.protocol import decoder as decoder_module
from farm.protocol.decoder import Decoder, Packet
from farm.protocol.packets import KINDS, Kind
from tests.sim.mutants import MUTANTS as BROKEN_RULES
from tests.sim.mutants import Mutant

_question = Decoder._question
CHANGES = admin._CHANGES


def _question_any_length(decoder: Decoder, chunk: bytes, position: int) -> int:
    return _question(decoder, chunk[: position + 8] + bytes(4), position)


def _keep_any_line(decoder: Decoder, line: bytes) -> None:
    decoder._tail = line


def _fill_by_copying(decoder: Decoder, chunk: bytes, packets: list[Packet]) -> int:
    used = min(decoder.missing, len(chunk))
    decoder._body = bytearray(bytes(decoder._body) + chunk[:used])
    decoder.missing -= used
    if not decoder.missing:
        packets.append((decoder._number, bytes(decoder._body)))
        decoder._body = bytearray()
    return used


def _fill_greedily(decoder: Decoder, chunk: bytes, packets: list[Packet]) -> int:
    """What comes after the packet in the same chunk is lost."""
    decoder._body += chunk[: decoder.missing]
    decoder.missing -= min(decoder.missing, len(chunk))
    if not decoder.missing:
        packets.append((decoder._number, bytes(decoder._body)))
        decoder._body = bytearray()
    return len(chunk)


def _split_short(kind: Kind, body: bytes) -> list[bytes]:
    return body.split(b"\0", max(0, len(kind.args) + kind.data - 1))


def _maxqueue_of_any_word(broker: Broker, words: list[bytes], now: float) -> bytes:
    return CHANGES[b"maxqueue"](broker, [*words[:2], *(b"%d" % int(word) for word in words[2:])], now)


def _refuse_unknown_only(decoder: Decoder, start: bytes) -> None:
    if len(start) >= 4 and start not in (decoder._magic, decoder._other):
        raise PacketRefused(b"INVALID_MAGIC", b"Not a Gearman packet")


def _rule(name: str) -> Mutant:
    return next(mutant for mutant in BROKEN_RULES if mutant.name == name)


class Hunt(NamedTuple):
    """What must find which mutant."""

    target: str
    mutant: Mutant


HUNTS = (
    Hunt("decoder", Mutant("no length check", ((Decoder, "_question", _question_any_length),))),
    Hunt("decoder", Mutant("a line without a limit", ((Decoder, "_keep_line", _keep_any_line),))),
    Hunt("decoder", Mutant("a body collected by copying", ((Decoder, "_fill", _fill_by_copying),))),
    Hunt("decoder", Mutant("bytes behind a body are lost", ((Decoder, "_fill", _fill_greedily),))),
    Hunt("decoder", Mutant("a bad magic waits for a whole header", ((Decoder, "_check_magic", _refuse_unknown_only),))),
    Hunt("decoder", Mutant("a type is not known", ((decoder_module, "KINDS", {**KINDS, 43: KINDS[42]}),))),
    Hunt("broker", Mutant("a short packet is let through", ((dispatch, "split", _split_short),))),
    Hunt(
        "broker",
        Mutant("a limit may be any word", ((admin, "_CHANGES", {**CHANGES, b"maxqueue": _maxqueue_of_any_word}),)),
    ),
    Hunt("broker", Mutant("a client's name is shown raw", ((dispatch, "one_word", lambda name: name),))),
    Hunt("broker", Mutant("a function's name is listed raw", ((admin, "one_word", lambda name: name),))),
    Hunt("broker", _rule("a lost worker keeps its job though it is queued")),
    Hunt("broker", _rule("an end is not stored")),
    Hunt("broker", _rule("a client that leaves takes a background job")),
    Hunt("broker", _rule("a function with jobs is dropped")),
)
