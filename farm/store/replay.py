"""What a damaged write-ahead log still holds, put into a copy of its file.

SQLite takes a log up to its first bad frame. But a frame is a page of the file as one transaction left it, and each
transaction writes most of the pages that those before it wrote; so what was damaged is mostly there once more, and
whether the later frames are sound can be told without it.

A transaction is taken where its end was committed for certain: all of it is sound, or another one follows it, which was
begun only when it was durable. So one that a power cut tore is never taken, in whole or in part. What remains is a page
whose newest frame is damaged: it is as an older frame, or the file, has it, beside pages that are newer. Who reads the
copy must believe no row without its checksum, and is told which frames these are.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from farm.store.wal import (
    DATABASE_HEADER,
    FRAME_HEADER,
    HEADER,
    PAGE_SIZES,
    Frame,
    Pair,
    frames_of,
    header_of,
    is_of,
    page_size_in,
    salts_in,
    sums_in,
)

LISTED_MAX = 20  # damaged frames that are named


@dataclass
class _Group:
    """Frames from the end of a transaction to the next end that can be read. pages: the newest sound frame of each.
    bad: those that are damaged, with the page that they say they are of, 0: not even that. size: of the file, in pages;
    0: the frame that says so is damaged."""

    pages: dict[int, int] = field(default_factory=dict)
    bad: dict[int, int] = field(default_factory=dict)
    size: int = 0


class Taken:
    """The transactions that were committed, one on top of the other. pages: index of the frame to take for each page.
    size: of the file, in pages. left: how many frames there are behind the last of these transactions."""

    def __init__(self, frames: Iterable[Frame], salts: Pair) -> None:
        self.pages: dict[int, int] = {}
        self.size = 0
        self.left = 0
        self._bad_of: dict[int, list[int]] = {}  # page -> damaged frames that no later one stands for
        self._hidden: dict[int, int] = {}  # damaged frame -> its page, which a later one has
        group, waiting = _Group(), list[_Group]()
        for index, frame in enumerate(frames):
            is_mine = is_of(frame.salts, salts)
            if frame.sound and frame.salts == salts and frame.page:
                group.pages[frame.page] = index
            else:
                group.bad[index] = frame.page if is_mine else 0
            self.left += is_mine
            ends = frame.commit and (frame.whole or frame.sound) and frame.salts == salts
            if not ends:
                continue
            group.size = frame.commit if frame.sound else 0
            waiting.append(group)
            if frame.sound and (not group.bad or len(waiting) > 1):
                last = [] if not group.bad else [waiting.pop()]
                for one in waiting:
                    self._add(one)
                waiting, self.left = last, sum(len(one.pages) + len(one.bad) for one in last)
            group = _Group()

    def _add(self, group: _Group) -> None:
        for page in group.pages.keys() & self._bad_of.keys():
            self._hidden |= dict.fromkeys(self._bad_of.pop(page), page)
        for index, page in group.bad.items():
            if group.pages.get(page, -1) > index:
                self._hidden[index] = page
            else:
                self._bad_of.setdefault(page, []).append(index)
        self.pages |= group.pages
        self.size = group.size or max(self.size, *group.pages, 0)

    @property
    def uncertain(self) -> set[int]:
        """Pages whose newest frame is damaged."""
        return set(self._bad_of)

    def lost(self) -> list[str]:
        """What of the log is not in the copy, in words."""
        found = {index: f"a later one has its page, {page}" for index, page in self._hidden.items()}
        for page, indices in self._bad_of.items():
            what = f"its page, {page}, is older than the others" if page else "which page it was of is not known"
            found |= dict.fromkeys(indices, what)
        words = [f"frame {index + 1} of the write-ahead log: {what}" for index, what in sorted(found.items())]
        if len(words) > LISTED_MAX:
            words = [*words[:LISTED_MAX], f"{len(words) - LISTED_MAX} more frames of the write-ahead log"]
        return words + (["the last transaction of the write-ahead log, of which not all is there"] if self.left else [])


def replay(path: str, copy: str) -> list[str]:
    """Copy a database file, with all that its damaged log still holds, to a file that is there and private. Returns
    what is lost, in words. Raises OSError."""
    with open(path, "rb") as file, open(f"{path}-wal", "rb") as log, open(copy, "r+b") as new:
        shutil.copyfileobj(file, new)
        file.seek(0)
        size, page_size = os.fstat(log.fileno()).st_size, page_size_in(file.read(DATABASE_HEADER))
        head = log.read(HEADER)
        header = header_of(head)
        if header and header.page_size in PAGE_SIZES:
            page_size = header.page_size
            taken = Taken(frames_of(log, size, page_size, header.sums, header.big, header.salts), header.salts)
        else:
            salts = salts_in(log.read(FRAME_HEADER))
            log.seek(HEADER)
            taken = Taken(frames_of(log, size, page_size, sums_in(head), sys.byteorder == "big"), salts)
        is_newer = _write(taken, log, new, page_size)
        return taken.lost() if is_newer else []


def _write(taken: Taken, log: BinaryIO, new: BinaryIO, page_size: int) -> bool:
    """Returns whether there was anything to write: where the log was copied into the file before it was damaged, the
    file has everything, and an older frame of a damaged one's page must not take its place."""
    held_back, is_newer, uncertain = [], False, taken.uncertain
    for page, index in taken.pages.items():
        if page > taken.size:
            continue
        if page in uncertain:
            held_back.append((page, index))
        else:
            is_newer |= _put(log, new, page, index, page_size)
    if not is_newer:
        return False
    for page, index in held_back:
        _put(log, new, page, index, page_size)
    new.truncate(taken.size * page_size)
    return True


def _put(log: BinaryIO, new: BinaryIO, page: int, index: int, page_size: int) -> bool:
    log.seek(HEADER + index * (FRAME_HEADER + page_size) + FRAME_HEADER)
    content = log.read(page_size)
    new.seek((page - 1) * page_size)
    if new.read(page_size) == content:
        return False
    new.seek((page - 1) * page_size)
    new.write(content)
    return True
