"""A disk that loses its power: what was synced stays, of the rest anything may be there or not.

Worse than real disks on purpose. Of what was written to a file and not synced: nothing, the first so many writes,
single sectors here and there, everything, or the first so many writes and a part of the next one, cut at any byte. A
name that was made or removed since its directory was synced may be there or not, each for itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

SECTOR = 512
MODES = ("none", "prefix", "sectors", "all", "torn")
_HEAD = struct.Struct("<IIQQ")


class Op(NamedTuple):
    """One record of recorder.c. kind: o open, O open and create, C close, W write, T truncate, s and S sync begins and
    ends, ! sync failed, U unlink, A accept, < received, > sent. data: what was written, sent or received, or a name."""

    kind: str
    fd: int
    offset: int
    data: bytes


def read_log(path: Path) -> Iterator[Op]:
    """Every record, in order."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            kind, fd, offset, size = _HEAD.unpack(head)
            yield Op(chr(kind), fd, offset, file.read(size))


class _File:
    def __init__(self) -> None:
        self.synced = bytearray()
        self.since: list[tuple[int, bytes | None]] = []  # (offset, data), or (size, None) for a truncation

    def sync(self, count: int) -> None:
        """The first so many of the changes since the last sync are on the disk."""
        for change in self.since[:count]:
            _apply(self.synced, *change)
        del self.since[:count]

    def image(self, mode: str, chance: Random) -> bytearray:
        image = bytearray(self.synced)
        changes = self.since
        if mode in ("prefix", "torn"):
            changes = changes[: chance.randrange(len(changes) + 1)]
        if mode == "sectors":
            share = chance.choice((0.1, 0.5, 0.9))
            for change in changes:
                for sector in _sectors(*change):
                    if chance.random() < share:
                        _apply(image, *sector)
        elif mode != "none":
            for change in changes:
                _apply(image, *change)
        if mode == "torn" and len(changes) < len(self.since):
            offset, data = self.since[len(changes)]
            if data:
                _apply(image, offset, data[: chance.randrange(len(data))])
        return image


def _sectors(offset: int, data: bytes | None) -> Iterator[tuple[int, bytes | None]]:
    if data is None:
        yield offset, None
        return
    begin = 0
    while begin < len(data):
        end = begin + SECTOR - (offset + begin) % SECTOR
        yield offset + begin, data[begin:end]
        begin = end


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    missing = offset - len(content)
    if missing > 0:
        content += bytes(missing)
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


class Disk:
    """One directory, as the records say. Give it every record that is not about connections."""

    def __init__(self) -> None:
        self._files: list[_File] = []
        self._names: dict[bytes, int] = {}  # as the running system sees them
        self._synced_names: dict[bytes, int] = {}
        self._since: list[tuple[bytes, int | None]] = []  # names made, or removed: None, since the last sync
        self._open: dict[int, int | None] = {}  # descriptor -> file; None: the directory
        self._syncing: dict[int, int] = {}  # descriptor -> how many changes were there when the sync began

    @property
    def syncing(self) -> bool:
        """Whether a sync is under way."""
        return bool(self._syncing)

    def name_of(self, fd: int) -> bytes:
        """Of an open file; empty: the directory."""
        return next((name for name, file in self._names.items() if file == self._open[fd]), b"")

    def do(self, op: Op) -> None:
        """Let it happen."""
        kind, fd = op.kind, op.fd
        if kind in "oO":
            self._open_name(op)
        elif kind == "C":
            self._open.pop(fd, None)
        elif kind in "WT":
            self._file(fd).since.append((op.offset, op.data if kind == "W" else None))
        elif kind == "s":
            file = self._open[fd]
            self._syncing[fd] = len(self._since if file is None else self._files[file].since)
        elif kind == "S":
            self._sync(fd, self._syncing.pop(fd))
        elif kind == "U":
            del self._names[op.data]
            self._since.append((op.data, None))
        else:
            raise AssertionError(f"what is {kind}?")  # also a sync that failed: there the recording has gone wrong

    def _open_name(self, op: Op) -> None:
        if not op.data:
            self._open[op.fd] = None
            return
        if op.data not in self._names:
            assert op.kind == "O", f"{op.data!r} was there before the recording began"
            self._names[op.data] = len(self._files)
            self._since.append((op.data, len(self._files)))
            self._files.append(_File())
        self._open[op.fd] = self._names[op.data]
        if op.offset:
            self._file(op.fd).since.append((0, None))

    def _sync(self, fd: int, count: int) -> None:
        file = self._open[fd]
        if file is not None:
            self._files[file].sync(count)
            return
        for name, made in self._since[:count]:
            _rename(self._synced_names, name, made)
        del self._since[:count]

    def _file(self, fd: int) -> _File:
        file = self._open[fd]
        assert file is not None
        return self._files[file]

    def image(self, chance: Random) -> dict[bytes, bytearray]:
        """What a power cut now would leave."""
        names = dict(self._synced_names)
        for name, made in self._since:
            if chance.random() < 0.5:
                _rename(names, name, made)
        return {name: self._files[file].image(chance.choice(MODES), chance) for name, file in names.items()}

    def now(self) -> dict[bytes, bytearray]:
        """What the running system sees."""
        chance = Random(0)
        return {name: self._files[file].image("all", chance) for name, file in self._names.items()}


def _rename(names: dict[bytes, int], name: bytes, made: int | None) -> None:
    if made is None:
        names.pop(name, None)
    else:
        names[name] = made
