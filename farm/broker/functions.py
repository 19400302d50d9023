"""What holds for a function: terms of its jobs that do not say otherwise, and whether it is paused. Rules, as in
broker.py; the journal keeps it as words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker import tries, waiting
from farm.broker.effects import Setting
from farm.broker.job import DELAYED, QUEUED, WAITING
from farm.broker.terms import NOTHING, encode, parse
from farm.errors import PacketRefused

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.function import Function

PAUSED = b"paused=1"
SETTABLE = ("retries", "retry-on", "backoff", "backoff-max", "timeout", "queue-timeout", "expires", "keep")


def apply(function: Function, words: bytes) -> None:
    """What the journal knows of a function."""
    said = words.split(b" ")
    function.settings = parse(b" ".join(word for word in said if word != PAUSED))
    function.pause(PAUSED in said)


def pause(broker: Broker, function: Function, paused: bool, now: float) -> None:
    """Give none of its jobs to workers, or do so again."""
    function.pause(paused)
    _keep(broker, function)
    broker._wake(function, now)


def change(broker: Broker, function: Function, settings: dict[str, str | None]) -> None:
    """Set some settings, and take back those that are None. Raises PacketRefused, and has changed nothing then."""
    said = dict(word.split(b"=", 1) for word in encode(function.settings).split(b" ") if word)
    for name, value in settings.items():
        if name not in SETTABLE:
            raise PacketRefused(b"INVALID_REQUEST", b"A function has no setting " + name.encode()[:40], close=False)
        if value is not None and " " in value:
            raise PacketRefused(b"INVALID_REQUEST", b"Bad value of " + name.encode(), close=False)
        said.pop(name.encode(), None)
        if value is not None:
            said[name.encode()] = value.encode()
    function.settings = parse(b" ".join(name + b"=" + value for name, value in said.items()))
    _keep(broker, function)
    for job in broker.jobs.values():
        if job.function is function and job.state in (QUEUED, DELAYED, WAITING):
            tries.limit_waiting(broker, job)


def drop(broker: Broker, function: Function) -> bool:
    """Forget a function. False: it has workers or jobs."""
    if function.workers or function.jobs:
        return False
    del broker.functions[function.name]
    for unique in list(function.uniques):
        waiting.let_go(broker, function, unique)
    if function.paused or function.settings is not NOTHING:
        broker.effects.changes.append(Setting(function.name, b""))
    broker.spellings.drop(function.name.lower(), function)
    return True


def _keep(broker: Broker, function: Function) -> None:
    words = [encode(function.settings)] if encode(function.settings) else []
    broker.effects.changes.append(Setting(function.name, b" ".join([*words, PAUSED] if function.paused else words)))


def settings(function: Function) -> dict[str, str]:
    """What was set, by the names of terms."""
    words = [word.split(b"=", 1) for word in encode(function.settings).split(b" ") if word]
    return {name.decode(): value.decode() for name, value in words}
