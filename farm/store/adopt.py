"""Taking in jobs from elsewhere: which of them are new, which ids they get, and where they came from."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from farm.broker.effects import Change, Finish, Save
from farm.broker.job import SEQUENCE_BITS, first_id

_KNOWN = "SELECT 1 FROM job WHERE id = ? UNION ALL SELECT 1 FROM ended WHERE id = ?"


class Source(NamedTuple):
    """Where jobs were taken in from: its file, and what tells whether that has changed since."""

    path: str
    mark: str


def adopt(
    database: sqlite3.Connection,
    put: Callable[[list[Change]], None],
    shard: int,
    jobs: Iterable[tuple[Save, Finish | None]],
    source: Source | None,
) -> tuple[int, int]:
    """Put them into the open transaction, ended ones with their end. A job of id 0 gets an id of this shard; one whose
    id is known stays as it is. Returns how many were new, and the shard that the store has from now on, above those of
    all that came."""
    top, next_id, new = shard, first_id(shard), 0
    for save, end in jobs:
        if not save.id:
            save, next_id = save._replace(id=next_id), next_id + 1
            end = end and end._replace(id=save.id)
        top = max(top, save.id >> SEQUENCE_BITS)
        if not database.execute(_KNOWN, (save.id, save.id)).fetchone():
            put([save, end] if end else [save])
            new += 1
    database.execute("UPDATE owner SET shard = ?", (top + 1,))
    if source:
        database.execute("REPLACE INTO imported VALUES (?, ?, ?, ?)", (*source, new, time.time()))
    return new, top + 1


def imported(database: sqlite3.Connection, source: str) -> str:
    """The mark with which this source was taken in; empty: it was not."""
    row = database.execute("SELECT mark FROM imported WHERE source = ?", (source,)).fetchone()
    return str(row[0]) if row else ""
