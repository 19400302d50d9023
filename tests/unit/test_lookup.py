"""Looking up names beside the loop: what the process finds arrives, and nothing of it stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import NotPermitted, Unavailable
from farm.loop import Loop
from farm.net import Target
from farm.protocol.address import Address, parse_address
from farm.worker import lookup as lookup_module
from farm.worker.lookup import Found, Lookups
from tests.cli.rig import children
from tests.support import PATIENCE_S

NAME = parse_address("server.test:1")
TARGETS: list[Target] = [(2, ("10.0.0.1", 1)), (10, ("::1", 1, 0, 0))]


@pytest.fixture
def loop() -> Iterator[Loop]:
    """No descriptor and no process is left over."""
    before, processes = len(os.listdir("/proc/self/fd")), children(os.getpid())
    loop = Loop()
    yield loop
    loop.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert children(os.getpid()) == processes


def turn_until(loop: Loop, found: list[Found], count: int = 1) -> None:
    """Turn the loop until so much was found."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline
        loop.call_in(0.01, lambda: None)
        loop.turn()


@pytest.mark.parametrize("text", ["127.0.0.1:1", "[::1]:1", "unix:/x"])
def test_nobody_is_asked_for_what_is_no_name(loop: Loop, text: str) -> None:
    found: list[Found] = []
    Lookups(loop, False).find(parse_address(text), found.append)
    assert len(found) == 1
    assert isinstance(found[0], list)


def test_what_is_found(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """To each of those who wait a list of his own, which he uses up."""
    monkeypatch.setattr(lookup_module, "resolve", lambda address, insecure: TARGETS)
    lookups, found = Lookups(loop, False), []
    lookups.find(NAME, found.append)
    lookups.find(NAME, found.append)
    assert not found
    turn_until(loop, found, 2)
    assert found == [TARGETS, TARGETS]
    assert found[0] is not found[1]


@pytest.mark.parametrize("kind", [Unavailable, NotPermitted])
def test_what_is_not_found(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, kind: type[Unavailable] | type[NotPermitted]
) -> None:
    def refuse(address: Address, insecure: bool) -> list[Target]:
        raise kind("what", "what to do")

    monkeypatch.setattr(lookup_module, "resolve", refuse)
    found: list[Found] = []
    Lookups(loop, False).find(NAME, found.append)
    turn_until(loop, found)
    (error,) = found
    assert isinstance(error, kind)
    assert (error.message, error.hint) == ("what", "what to do")


def test_the_loop_turns_meanwhile_but_not_for_ever(loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    monkeypatch.setattr(lookup_module, "resolve", lambda *_: open(tmp_path / "never"))  # noqa: SIM115
    monkeypatch.setattr(lookup_module, "LOOKUP_TIMEOUT_S", 0.1)
    found: list[Found] = []
    turns: list[None] = []
    Lookups(loop, False).find(NAME, found.append)
    loop.call_in(0.05, lambda: turns.append(None))
    turn_until(loop, found)
    assert turns
    (error,) = found
    assert isinstance(error, Unavailable)
    assert error.message == "the name servers do not answer"
