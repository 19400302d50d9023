"""SQLite's write-ahead log, read without SQLite. It is there for one question: would SQLite lose something silently?

SQLite takes the log up to its first bad frame and says nothing of what follows. After a power cut that is right: what
is bad then is the last transaction, which was not acknowledged. After damage to the file it is a silent loss. The two
can be told apart, because with `synchronous=FULL` a transaction begins only after the one before it was synced: a bad
frame with two whole transactions behind it was good once, and one that ends a transaction needs only one behind it.

The format is documented in sqlite.org/fileformat2.html, section 4: a header of 32 bytes, then frames of 24 bytes and a
page. Two salts in each frame say to which use of the file it belongs; its checksum goes on from that of the one before.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import BinaryIO, NamedTuple

HEADER, FRAME_HEADER = 32, 24
SALTS_END = 16  # in the header of a frame; its checksum follows
DATABASE_HEADER = 100
PAGE_SIZE = 4096  # SQLite's own choice, where the file does not say
PAGE_SIZES = frozenset(1 << bits for bits in range(9, 17))
MAGIC = 0x377F0682  # the last bit says that checksums take words in big-endian order
FORMAT = 3007000
SECTOR = 512  # bytes that a disk writes all or nothing of; larger ones begin where one of these does
FRAMES_AT_ONCE = 1024  # 4 MB of a log are in memory at a time, however large it has grown
SUMS_BEFORE_CARRY = 16  # additions that leave room in a lane of 64 bits: each makes the sums at most 2.7 times as large

_header = struct.Struct(">IIIIIIII")  # magic, format, page size, checkpoint, two salts, checksum
_frame = struct.Struct(">IIIIII")  # page number, size of the file after a commit or 0, two salts, checksum


Pair = tuple[int, int]  # two salts, or the two sums of a checksum


class Finding(NamedTuple):
    """What a log was found to be. damage: why SQLite must not have it, in words; empty: it may. unfinished: there is
    the beginning of a transaction at its end, as a kill or a power cut leaves it."""

    damage: str = ""
    unfinished: bool = False


class Frame(NamedTuple):
    """One frame. commit: how many pages the file has after this transaction, 0 where it goes on. sound: the checksum
    follows from that of the frame before, whatever the salts are. whole: all of these are of the same write."""

    page: int
    commit: int
    salts: Pair
    sound: bool
    whole: bool


class Header(NamedTuple):
    """What the header of a log says. sums: its checksum, from which that of the first frame goes on."""

    page_size: int
    salts: Pair
    sums: Pair
    big: bool


def header_of(head: bytes) -> Header | None:
    """A log's first bytes; None: they are damaged."""
    magic, version, page_size, _, salt1, salt2, *sums = _header.unpack(head)
    big = bool(magic & 1)
    if magic & ~1 != MAGIC or version != FORMAT or _sum(head[:24], big) != tuple(sums):
        return None
    return Header(page_size, (salt1, salt2), (sums[0], sums[1]), big)


def sums_in(head: bytes) -> Pair:
    """The checksum that a header has, right or not."""
    one, two = _header.unpack(head)[-2:]
    return one, two


def salts_in(head: bytes) -> Pair:
    """The salts that the header of a frame has, right or not."""
    salt1, salt2 = _frame.unpack(head)[2:4]
    return salt1, salt2


def page_size_in(head: bytes) -> int:
    """The size of a database's pages, from its first bytes."""
    size = int.from_bytes(head[16:18], "big")
    size = 65536 if size == 1 else size
    return size if size in PAGE_SIZES else PAGE_SIZE


def inspect_beside(path: str) -> Finding:
    """Look at the log of a database file, without SQLite and without changing either. Raises OSError."""
    with contextlib.ExitStack() as files:
        try:
            log = files.enter_context(open(f"{path}-wal", "rb"))
        except FileNotFoundError:
            return Finding()
        size = os.fstat(log.fileno()).st_size
        try:
            file = files.enter_context(open(path, "rb"))
            head = file.read(DATABASE_HEADER)
        except FileNotFoundError:
            head = b""
        if not head:  # SQLite would take the log for another file's, and remove it
            return Finding("its file is missing or empty, but there is a write-ahead log" if size > HEADER else "")
        page_size = page_size_in(head)

        def page(number: int) -> bytes:
            file.seek((number - 1) * page_size)
            return file.read(page_size)

        return inspect(log, size, page_size, page)


def inspect(log: BinaryIO, size: int, page_size: int, page: Callable[[int], bytes]) -> Finding:
    """Look at a log of `size` bytes. page_size, page: of the file that it belongs to; `page(number)` reads one of its
    pages, counted from 1, and is asked only where the log's header is bad."""
    if size < HEADER:
        return Finding(unfinished=size > 0)
    head = log.read(HEADER)
    header = header_of(head)
    if header is None:
        return _without_header(log, size, page_size, page, sums_in(head))
    if header.page_size not in PAGE_SIZES:
        return Finding("its write-ahead log has pages of no possible size")
    frames = frames_of(log, size, header.page_size, header.sums, header.big, header.salts)
    return _with_header(frames, header.salts, (size - HEADER) % (FRAME_HEADER + header.page_size))


def _with_header(frames: Iterator[Frame], salts: Pair, rest: int) -> Finding:
    good = taken = 0  # frames, and those of them that SQLite takes: up to the last commit
    for frame in frames:
        if not frame.sound or frame.salts != salts or not frame.page:
            break
        good += 1
        if frame.commit:
            taken = good
    else:
        return Finding(unfinished=good > taken or rest > 0)
    # Of an older use of the file nothing fits: the first salt is counted up at every new one, the second is drawn. So
    # with both salts right a frame is of this use even where it, or the one before it, was damaged. But where they lie
    # in a sector of their own, a power cut may have lost the one that says whether the frame ends a transaction.
    mine = frame.sound or is_of(frame.salts, salts)
    commits = sum(
        later.commit > 0 and ((later.whole and later.salts == salts) or (later.sound and is_of(later.salts, salts)))
        for later in frames
    )
    commits += frame.sound and frame.commit > 0
    # Where the bad frame still says that it is the end of a transaction, the next one began after that was synced.
    ends_one = frame.whole and frame.salts == salts and frame.commit > 0 and not frame.sound
    if commits >= (1 if ends_one else 2):
        follow = f"{commits} transactions follow" if commits > 1 else "a transaction follows"
        return Finding(f"its write-ahead log is bad at frame {good + 1}, and {follow}")
    return Finding(unfinished=mine or good > taken or commits > 0)


def _without_header(log: BinaryIO, size: int, page_size: int, page: Callable[[int], bytes], sums: Pair) -> Finding:
    """A bad header: to SQLite the log is empty. A power cut leaves one when a log is used again, and then all that was
    in it is in the file; or before anything was in it."""
    salts: Pair | None = None
    newest: dict[int, int] = {}  # page -> index of its newest frame
    committed: dict[int, int] = {}
    pages = 0
    frame_size = FRAME_HEADER + page_size
    for index, frame in enumerate(frames_of(log, size, page_size, sums, sys.byteorder == "big")):
        if not frame.sound or (salts and frame.salts != salts):
            continue
        salts = frame.salts
        newest[frame.page] = index
        if frame.commit:
            committed.update(newest)
            newest.clear()
            pages = frame.commit
    for number, index in committed.items():
        if number > pages:
            continue
        log.seek(HEADER + index * frame_size + FRAME_HEADER)
        if log.read(page_size) != page(number):
            return Finding("the header of its write-ahead log is bad, and there are transactions in it")
    return Finding(unfinished=True)


def is_of(found: Pair, salts: Pair) -> bool:
    """Whether a frame with these salts is of this use of the file, also where one of them was damaged."""
    return found[0] == salts[0] or found[1] == salts[1]


def frames_of(
    log: BinaryIO, size: int, page_size: int, sums: Pair, big: bool, salts: Pair | None = None
) -> Iterator[Frame]:
    """The frames of a log that was read up to the end of its header. sums: the header's, which the first frame goes on
    from. big: its checksums take words in big-endian order. salts: of this use of the file. Where they are known, what
    is left of older uses is not summed up."""
    frame_size = FRAME_HEADER + page_size
    left = (size - HEADER) // frame_size
    at = HEADER
    while left:
        chunk = log.read(min(left, FRAMES_AT_ONCE) * frame_size)
        count = len(chunk) // frame_size
        if not count:
            return
        left -= count
        heads = [_frame.unpack_from(chunk, index * frame_size) for index in range(count)]
        before = [sums, *((head[4], head[5]) for head in heads)]
        sums = before.pop()
        if salts:  # and one more: it may be the one in which both salts are damaged
            last = max((index for index, head in enumerate(heads) if is_of((head[2], head[3]), salts)), default=-1)
            del before[last + 2 :]
        found = _frame_sums(chunk[: len(before) * frame_size], frame_size, before, big)
        for head, right in zip_longest(heads, found):
            whole = at % SECTOR <= SECTOR - SALTS_END
            yield Frame(head[0], head[1], (head[2], head[3]), right == (head[4], head[5]), whole)
            at += frame_size


def _frame_sums(chunk: bytes, frame_size: int, before: list[Pair], big: bool) -> Iterator[Pair]:
    """The checksum that each frame of the chunk should have after that of the frame before it.

    All frames at once, each in a lane of 64 bits of one large number: one by one, 4 MB take 0.1 s, so 10 ms.
    """
    count = len(before)
    words = array("I", chunk)
    if big:
        words.byteswap()
    view = memoryview(words).cast("B").cast("Q")
    mask = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * count, "little")
    lanes = struct.Struct(f"<{count}Q")
    one = int.from_bytes(lanes.pack(*(sums[0] for sums in before)), "little")
    two = int.from_bytes(lanes.pack(*(sums[1] for sums in before)), "little")
    stride = frame_size // 8
    # The first 8 bytes of a frame's header, and its page.
    for done, word in enumerate((0, *range(FRAME_HEADER // 8, stride)), 1):
        pairs = int.from_bytes(view[word::stride].tobytes(), "little")
        one += (pairs & mask) + two
        two += (pairs >> 32 & mask) + one
        if done % SUMS_BEFORE_CARRY == 0:
            one &= mask
            two &= mask
    size = count * 8
    ones = lanes.unpack((one & mask).to_bytes(size, "little"))
    return zip(ones, lanes.unpack((two & mask).to_bytes(size, "little")), strict=True)


def _sum(data: bytes, big: bool) -> Pair:
    one = two = 0
    for first, second in struct.iter_unpack(">II" if big else "<II", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
