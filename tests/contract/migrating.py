"""Opens a store whose tables are of an older version, and dies of SIGKILL at one step of SQLite's machine meanwhile:
`python -P -m tests.contract.migrating DIRECTORY STEP [made-up] [mutant]`; 0: it lives, and prints how many there were.

At every step all that SQLite has written until then is in its files, and nothing else.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys

from farm.store import schema, sqlite

# What is expected of a real migration: it changes every row, and needs many pages.
MADE_UP = """
ALTER TABLE job ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
UPDATE job SET attempts = length(payload);
CREATE TABLE made_up (id INTEGER PRIMARY KEY, payload BLOB) STRICT;
INSERT INTO made_up SELECT id, payload FROM job;
CREATE INDEX made_up_index ON made_up (payload);
"""


def without_begin(database: sqlite3.Connection, where: str) -> int:
    """The mutant: each statement is a transaction of its own."""
    version = schema.version_of(database, where)
    marks = f"PRAGMA application_id = {schema.APPLICATION_ID}; PRAGMA user_version = {schema.VERSION};"
    database.executescript("".join(schema.MIGRATIONS[version:]) + marks)
    return version


def main() -> None:
    """Open it."""
    directory, fatal, *words = sys.argv[1:]
    if "made-up" in words:
        schema.MIGRATIONS = (*schema.MIGRATIONS, MADE_UP)  # type: ignore[assignment]
        schema.VERSION = len(schema.MIGRATIONS)
    migrate = without_begin if "mutant" in words else schema.bring_up_to_date
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(database: sqlite3.Connection, where: str) -> int:
        database.set_progress_handler(step, 1)
        version = migrate(database, where)
        database.set_progress_handler(None, 0)
        return version

    sqlite.bring_up_to_date = counted  # type: ignore[attr-defined]
    store = sqlite.SqliteStore(directory)
    store.open()
    store.close()
    print(steps)


if __name__ == "__main__":
    main()
