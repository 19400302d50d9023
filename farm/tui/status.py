"""The status screen: a table of functions, and a line for what is wrong with the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from farm.client.status import FunctionStatus, ServerStatus

HIDDEN_ROWS = 8  # of the screen: header, totals, problems and the prompt


def view(servers: Sequence[ServerStatus], height: int | None = None, footer: str = "") -> RenderableType:
    """What is shown for these servers on a screen of `height` lines (None: as long as it gets). Pure."""
    parts: list[RenderableType] = []
    room = None if height is None else max(3, (height - HIDDEN_ROWS * len(servers)) // max(1, len(servers)))
    for server in servers:
        parts += _server(server, room)
    if footer:
        parts.append(Text(footer, style="dim"))
    return Group(*parts)


def _server(server: ServerStatus, room: int | None) -> list[RenderableType]:
    if server.failure:
        return [Text.assemble(("✖ ", "bold red"), (server.failure.message, "red"))]
    parts: list[RenderableType] = [_header(server)]
    if not server.functions:
        parts.append(Text("  no functions yet: start a worker with `farm work FUNCTION -- COMMAND`", style="dim"))
        return parts
    rows = sorted(server.functions, key=lambda row: (-_trouble(row), row.name))
    shown = rows if room is None else rows[:room]
    parts.append(_table(sorted(shown, key=lambda row: row.name)))
    if len(rows) > len(shown):
        parts.append(Text(f"  and {len(rows) - len(shown)} more functions", style="dim"))
    parts += _problems(rows)
    return parts


def _header(server: ServerStatus) -> Text:
    queued = sum(row.queued for row in server.functions)
    running = sum(row.running for row in server.functions)
    workers = sum(row.workers for row in server.functions)
    return Text.assemble(
        ("farm ", "bold"),
        server.address,
        (f"  {server.version}", "dim"),
        f"   queued {queued:,}   running {running:,}   workers {workers:,}",
    )


def _table(rows: Sequence[FunctionStatus]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    # The only column that may wrap is the only one that is narrowed; a name without blanks is cut, not wrapped.
    table.add_column("FUNCTION", overflow="ellipsis", min_width=12)
    table.add_column("STATE", no_wrap=True)
    for name in ("QUEUED", "RUNNING", "WORKERS"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.name), _state(row), f"{row.queued:,}", f"{row.running:,}", f"{row.workers:,}")
    return table


def _trouble(row: FunctionStatus) -> int:
    """2: jobs wait and nobody can do them. 1: something goes on. 0: nothing."""
    if row.queued and not row.workers:
        return 2
    return 1 if row.queued or row.running else 0


def _state(row: FunctionStatus) -> Text:
    """Told by glyph and word, and only then by colour."""
    if row.queued and not row.workers:
        return Text("✖ no worker", style="bold red")
    if row.queued:
        return Text("▲ waiting", style="yellow") if row.running >= row.workers else Text("● working", style="green")
    if row.running:
        return Text("● working", style="green")
    return Text("· idle" if row.workers else "· unused", style="dim")


def _problems(rows: Sequence[FunctionStatus]) -> list[RenderableType]:
    stuck = [row for row in rows if _trouble(row) == 2]
    return [
        Text.assemble(
            ("! ", "bold red"),
            f"{row.name}: {row.queued:,} queued and no worker: ",
            (f"farm work {row.name} -- COMMAND", "bold"),
        )
        for row in stuck[:3]
    ]
