"""`farm`, broken on purpose in one way: python -P -m tests.reliability.power.mutant NAME server ..."""

from __future__ import annotations

import sqlite3
import sys

from farm.cli.main import main
from farm.server.promises import Promises
from farm.store.room import Room
from farm.store.sqlite import SqliteStore

_prepare = SqliteStore._prepare


def _synchronous(value: str) -> None:
    """It does set what is right, and reads it back, and then something changes it."""

    def prepare(self: SqliteStore, database: sqlite3.Connection) -> None:
        _prepare(self, database)
        database.execute(f"PRAGMA synchronous = {value}")

    SqliteStore._prepare = prepare  # type: ignore[method-assign]


def _acknowledge_at_once() -> None:
    Promises.take = lambda self, sends, promised, batch: sends  # type: ignore[method-assign]


def _no_ballast() -> None:
    def give_up(self: SqliteStore, error: sqlite3.Error, changes: object) -> None:
        raise self._failed(error)

    SqliteStore._with_ballast = give_up  # type: ignore[method-assign]


def _keep_ends() -> None:
    Room.holds_ends = lambda self, count, file_size: True  # type: ignore[method-assign]


def _nothing_inside() -> None:
    low = Room.low
    Room.low = lambda self, inside=0: low(self)  # type: ignore[method-assign]


MUTANTS = {
    "normal": lambda: _synchronous("NORMAL"),
    "off": lambda: _synchronous("OFF"),
    "early": _acknowledge_at_once,
    "ballast": _no_ballast,
    "ends": _keep_ends,
    "inside": _nothing_inside,
}

if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)]()
    main()
