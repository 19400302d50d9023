"""The loop around a screen: fetch, draw, wait for a key or the next moment."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.live import Live

WAIT_MAX_S = 24 * 3600.0  # select(2) has a limit, and a screen that is a day old may be drawn again


def show_live(draw: Callable[[int], RenderableType], every_s: float, console: Console) -> None:
    """Draw `draw(height)` every so many seconds until q or Ctrl-C."""
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    with _told_to_end(), _keys() as pressed, live, contextlib.suppress(KeyboardInterrupt):
        while True:
            started = time.monotonic()
            live.update(draw(console.size.height), refresh=True)
            if set(pressed(max(0.05, every_s - (time.monotonic() - started)))) & {"q", "Q"}:
                return


class Ended(KeyboardInterrupt):
    """By a signal: `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP put the terminal back too; then they are what the process dies of."""
    got: list[int] = []

    def end(number: int, frame: object) -> None:
        got.append(number)
        raise Ended(number)

    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if got:
        raise Ended(got[0])


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key; the terminal is put back as it was in any case."""
    if not sys.stdin.isatty():
        yield _only_wait
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(timeout_s: float) -> str:
        ready, _, _ = select.select([fd], [], [], min(timeout_s, WAIT_MAX_S))
        return os.read(fd, 100).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _only_wait(timeout_s: float) -> str:
    time.sleep(min(timeout_s, WAIT_MAX_S))
    return ""
