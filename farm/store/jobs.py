"""What a store tells of jobs that have not ended. A row that is not what was written is never run."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator

from farm.broker.effects import Save
from farm.broker.job import handle_of
from farm.store.contract import StoreError
from farm.store.place import damaged
from farm.store.rows import is_sound, sound_only
from farm.store.tables import TO_REVIVE

log = logging.getLogger("farm.store")

_LOAD = "SELECT id, function, unique_key, priority, payload, reducer, due, created, terms, crc FROM job ORDER BY id"
_LOAD_ONE = _LOAD.replace("ORDER BY id", "WHERE id = ?")


def load(database: sqlite3.Connection) -> Iterator[Save]:
    """See Store. What is damaged is put aside, with an error in the log."""
    aside: list[int] = []
    yield from sound_only(database.execute(_LOAD), aside)
    for id in aside:
        _put_aside(database, id)


def _put_aside(database: sqlite3.Connection, id: int) -> None:
    log.error("job %s is damaged in the store: it is put aside and will not run", handle_of(id).decode())
    database.execute("BEGIN IMMEDIATE")
    database.execute(
        """INSERT INTO damaged SELECT ?, id, function, unique_key, priority, reducer, due, created, crc, payload
        FROM job WHERE id = ?""",
        (time.time(), id),
    )
    for table in ("job", "progress", "attempt"):
        database.execute(f"DELETE FROM {table} WHERE id = ?", (id,))
    database.execute("COMMIT")


def payload(database: sqlite3.Connection, id: int, directory: str) -> bytes:
    """See Store."""
    row = database.execute(_LOAD_ONE, (id,)).fetchone() or database.execute(TO_REVIVE, (id,)).fetchone()
    if row is None:
        raise StoreError(f"there is no job of id {id} in {directory}")
    save = Save(*row[:-1])
    if row[-1] is not None and not is_sound(save, row[-1]):  # the next start puts it aside
        raise damaged(directory, f"job {handle_of(id).decode()} is not what was written")
    return save.payload
