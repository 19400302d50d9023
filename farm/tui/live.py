"""The loop around a screen: fetch, draw, wait for a key or the next moment."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.live import Live


def show_live(draw: Callable[[int], RenderableType], every_s: float, console: Console) -> None:
    """Draw `draw(height)` every so many seconds until q or Ctrl-C."""
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    with _keys() as pressed, live, contextlib.suppress(KeyboardInterrupt):
        while True:
            started = time.monotonic()
            live.update(draw(console.size.height), refresh=True)
            if pressed(max(0.05, every_s - (time.monotonic() - started))) in ("q", "Q"):
                return


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key; the terminal is put back as it was in any case."""
    if not sys.stdin.isatty():
        yield _only_wait
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(timeout_s: float) -> str:
        ready, _, _ = select.select([fd], [], [], timeout_s)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _only_wait(timeout_s: float) -> str:
    time.sleep(timeout_s)
    return ""
