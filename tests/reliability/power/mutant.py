"""`farm`, broken on purpose in one way: python -P -m tests.reliability.power.mutant NAME server ..."""

from __future__ import annotations

import sqlite3
import sys

import farm.store.sqlite
from farm.cli.main import main
from farm.server.promises import Promises
from farm.store.room import Room
from farm.store.sqlite import SqliteStore
from farm.store.tables import Tables

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


def _nothing_inside() -> None:
    low = Room.low
    Room.low = lambda self, inside=0, used=0, kept=0, *, gives=False: low(self, 0, used, kept, gives=gives)  # type: ignore[method-assign]


def _shrinks_never() -> None:
    farm.store.sqlite.give_back = lambda *args: None


def _gives_no_way() -> None:
    Tables._in_the_way = lambda self, room, most: []  # type: ignore[method-assign]


MUTANTS = {
    "normal": lambda: _synchronous("NORMAL"),
    "off": lambda: _synchronous("OFF"),
    "early": _acknowledge_at_once,
    "ballast": _no_ballast,
    "inside": _nothing_inside,
    "large": _shrinks_never,
    "results": _gives_no_way,
}

if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)]()
    main()
