"""What a store tells a server at its start besides jobs: how far they have come, settings, keys, cron entries.

A row that is not what was written is said and not used: a job of which that is so is at its beginning, as it was when
it was submitted. It stays where it is, for `farm store check`, until it is written again or repaired.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator

from farm.broker.effects import CronRow, Known, Progress, Setting, UniqueUntil
from farm.protocol.names import shown
from farm.store.rows import CRON, CRON_PAYLOAD, PROGRESS, SETTING, UNIQUE_UNTIL, Table

log = logging.getLogger("farm.store")

_NAMES = {
    PROGRESS: "how far job {} has come",
    SETTING: "the settings of function {}",
    UNIQUE_UNTIL: "a key of function {}",
    CRON: "cron entry {}",
    CRON_PAYLOAD: "the payload of cron entry {}",
}


def known(database: sqlite3.Connection) -> Iterator[Known]:
    """See Store."""
    for fields in _rows(database, PROGRESS):
        id, attempts, failures, losses, due, running, *others = fields
        yield Progress(id, attempts, failures, losses, due, bool(running), *others)
    for fields in _rows(database, SETTING):
        yield Setting._make(fields)
    for fields in _rows(database, UNIQUE_UNTIL):
        yield UniqueUntil._make(fields)
    for name, words in _rows(database, CRON):
        payloads = list(_rows(database, CRON_PAYLOAD, "WHERE name = ?", name))
        if payloads:
            yield CronRow(name, words, payloads[0][1])
        else:
            log.error("cron entry %s has no sound payload in the store: it is not used", shown(name))


def _rows(database: sqlite3.Connection, table: Table, where: str = "", *values: object) -> Iterator[tuple]:  # type: ignore[type-arg]
    """The fields of those that are sound, in order of their keys."""
    query = f"SELECT {table.columns}, crc FROM {table.name} {where} ORDER BY 1, 2"
    for *fields, crc in database.execute(query, values):
        if table.is_sound(fields, crc):
            yield tuple(fields)
        else:
            handle, name = table.whose(fields)
            what = _NAMES[table].format(shown(name) if name else handle)
            log.error("%s is damaged in the store: it is not used", what)
