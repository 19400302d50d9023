"""How functions look on a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text


def functions_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A row for each function; words but for the second to the sixth column, which are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(header):
        if 1 <= index <= 5:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            *(
                Text(cell, style="yellow" if name == "PAUSED" and cell == "yes" else "")
                for name, cell in zip(header, row, strict=True)
            )
        )
    return table
