"""When the server beats, and whom it judges. With real processes: tests/live/test_heartbeat.py."""

from __future__ import annotations

from types import SimpleNamespace

from farm.broker.broker import About, Broker
from farm.loop import Loop
from farm.server.heartbeat import Heartbeats


def test_a_stop_within_the_turn_that_beats_is_seen_by_the_next_beat() -> None:
    """As by SIGSTOP, when the heartbeats have just gone out: the next one is due when it was to be, and so is late."""
    loop, broker, lost = Loop(), Broker(1), []
    broker.about = About(1, "info", {}, 1000)
    peer = broker.connect(1, 5, "here")
    broker.beating[1] = peer
    connection = SimpleNamespace(peer=peer, heard_at=0.0, unread=False, out_size=0)
    beats = Heartbeats(1.0, loop, broker, {1: connection}, lost.append)
    loop.now -= 60.0  # this turn began before the process was stopped for a minute
    connection.heard_at = loop.now
    beats.schedule()
    loop.turn()
    loop.close()
    assert not lost
    assert connection.heard_at == loop.now
    assert [id for id, _ in broker.effects.sends] == [1]
