"""Mutants (see `mutants`) of what waits for commands that are being stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from farm.broker import stops, waiting
from farm.broker.broker import Broker
from farm.broker.peer import Peer

Patches = tuple[tuple[Any, str, Any], ...]

_used = stops.used


def _unaware(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The rule, as if no command were being stopped."""

    def unaware(broker: Broker, *args: Any) -> Any:
        with patch.object(broker, "stops", stops.Stops()):
            return rule(broker, *args)

    return unaware


def _used_by_the_next(broker: Broker, peer: Peer, handle: bytes, cpu_s: float, peak: int) -> bool:
    """It goes to another attempt than that of which it is told."""
    stop = stops.of_worker(broker, peer, handle)
    if stop is not None:
        stop.number += 1
    return _used(broker, peer, handle, cpu_s, peak)


STOPS: tuple[tuple[str, Patches], ...] = (
    ("a command that is being stopped holds up nobody", ((stops, "begin", lambda *_: None),)),
    ("a dependent runs beside the command that it waits for", ((waiting, "_settle", _unaware(waiting._settle)),)),
    ("a new dependent runs beside the command that it waits for", ((waiting, "begin", _unaware(waiting.begin)),)),
    ("a job runs beside the command that had its key", ((stops, "wait_for_key", lambda *_: None),)),
    ("an attempt runs beside the one before", ((stops, "hold_back", lambda *_: False),)),
    ("an attempt that was lost runs on beside the next", ((Broker, "_lose", _unaware(Broker._lose)),)),
    ("a command has no time to end", ((stops, "STOP_MAX_S", 0.5),)),
    ("a command that cannot be stopped holds up others for ever", ((stops, "STOP_MAX_S", 1e6),)),
    ("nobody hears that a command has been stopped", ((stops, "reported", lambda *_: None),)),
    ("a worker that left is still stopping its command", ((stops, "left", lambda *_: None),)),
    ("what a stopped command used is not kept", ((stops, "used", lambda broker, peer, handle, *_: False),)),
    ("what a stopped command used is kept of another attempt", ((stops, "used", _used_by_the_next),)),
)
