"""How jobs look on a terminal: a table of many, and all about one. Pure; it must not know servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from farm.tui.values import span, text

_LOOKS = {
    "waiting": ("◌", "dim"),
    "delayed": ("◷", "dim"),
    "queued": ("▲", "yellow"),
    "running": ("●", "green"),
    "abandoned": ("✂", "yellow"),
    "done": ("✔", "green"),
    "dead": ("✖", "bold red"),
    "cancelled": ("✂", "dim"),
    "expired": ("✖", "yellow"),
}

Job = dict[str, Any]


def state_of(job: Job) -> Text:
    """Told by glyph and word, and only then by colour."""
    glyph, style = _LOOKS.get(job["state"], ("?", ""))
    return Text(f"{glyph} {text(job['state'])}", style=style)


def jobs_table(jobs: Sequence[Job], now: float, servers: Sequence[str] | None = None) -> Table:
    """A row for each. servers: the address of each one's server, where there are several.

    Only columns that may wrap are narrowed when the screen is, hence those of words; a cell itself is cut, not wrapped.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ID", no_wrap=True, overflow="fold")  # whole, for it is what one types next
    table.add_column("STATE", no_wrap=True)
    table.add_column("FUNCTION", overflow="ellipsis", min_width=8)
    for name in ("AGE", "RUN", "EXIT", "TRIES"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("REASON", overflow="ellipsis")
    if servers:
        table.add_column("SERVER", no_wrap=True)
    for index, job in enumerate(jobs):
        cells = [span(now - job["created_at"]), span(job["run_s"]), _number(job["exit_code"]), _number(job["attempts"])]
        where = [servers[index]] if servers else []
        table.add_row(job["id"], state_of(job), _words(job["function"]), *cells, _words(job["reason"], "dim"), *where)
    return table


def _words(value: str | None, style: str = "") -> Text:
    return Text(text(value or ""), style=style, no_wrap=True, overflow="ellipsis")


def _number(value: int | float | None) -> str:
    return "" if value is None else f"{value:g}"
