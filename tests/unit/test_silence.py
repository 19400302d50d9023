"""When a silent server is asked whether it lives, and when it is given up."""

from __future__ import annotations

from farm.protocol.extension import HEARTBEAT_S, HEARTBEATS_MISSED
from farm.protocol.silence import ASK, DEAD, FINE, SILENCE_MAX_S, Silence

JUST_BEFORE = HEARTBEAT_S - 0.001


def test_asked_twice_and_then_given_up() -> None:
    silence = Silence(100.0)
    silence.look(100.0, 0)
    seen = []
    now = 100.0
    while not seen or seen[-1] != DEAD:
        now += HEARTBEAT_S
        assert silence.due == now
        seen.append(silence.look(now, 0))
    assert seen == [ASK] * (HEARTBEATS_MISSED - 1) + [DEAD]
    assert now == 100.0 + SILENCE_MAX_S


def test_any_byte_and_it_begins_anew() -> None:
    silence = Silence(100.0)
    assert silence.look(100.0, 7) == FINE
    assert silence.look(100.0 + HEARTBEAT_S, 7) == ASK
    assert silence.look(105.0, 8) == FINE
    assert silence.look(105.0 + JUST_BEFORE, 8) == FINE
    assert silence.look(105.0 + HEARTBEAT_S, 8) == ASK


def test_who_has_not_looked_for_an_hour_asks_first() -> None:
    silence = Silence(100.0)
    silence.look(100.0, 0)
    assert silence.look(3700.0, 0) == ASK
    assert silence.look(3700.0 + JUST_BEFORE, 0) == FINE
    assert silence.look(9000.0, 0) == ASK
    assert silence.look(9000.0 + HEARTBEAT_S, 0) == DEAD
