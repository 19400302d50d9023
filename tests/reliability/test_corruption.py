"""R3: files that were damaged while nobody looked. No job is missing or altered without a word.

Each time a few bits of the store of a killed server are flipped, a page is wiped or a file cut off. Then farm must
refuse to start, with what is wrong and what to do, or say which jobs are damaged; what it runs is as it was submitted.

What no check can see is left out: a write-ahead log that was cut off exactly at the end of a transaction, for a log
that ended there looks the same. A log cut off anywhere else is said to end in an unfinished transaction; the same is
said after a power cut, where it is right, so it is a line in the log and no reason to refuse.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from farm.broker.effects import Finish, Save
from farm.protocol import packets as p
from farm.store import jobs, sqlite, wal
from farm.store.contract import StoreError
from farm.store.repair import repair
from farm.store.sqlite import SqliteStore
from tests.cli.rig import Rig, connect
from tests.reliability.power.load import Load
from tests.support import Wire, req

pytestmark = [pytest.mark.slow, pytest.mark.power]

TRIES = 2000
MUTANT_TRIES = 400
DB, LOG = "jobs.db", "jobs.db-wal"
PAGE, FRAME = 4096, 4096 + 24
REPAIRED_EVERY = 4  # of those that are refused
OUTCOMES = {
    *("refused", "put aside", "said to be unfinished", "end refused", "harmless", "repaired"),
    *("repaired, and what is lost was said", "refused, and nothing can be read"),
}
SILENT = ("missing", "altered", "unknown", "end missing")


class Sound(NamedTuple):
    """A store as a killed server left it, and what is in it. but_last: what of the jobs is there also without the last
    transaction."""

    files: dict[str, bytes]
    jobs: dict[int, Save]
    ended: dict[int, Finish]
    but_last: frozenset[int]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Jobs that wait are in the file and in the log."""
    directory = tmp_path_factory.mktemp("sound")
    rig = Rig(directory)
    try:
        server = rig.server("--store", str(directory / "store"), "--keep-results-size", "100k")
        with server.connect() as client:
            acknowledged = submit(client, 150)
            Load(lambda: connect(server.address), 1500, seed=3).run()
            acknowledged |= submit(client, 150)
        server.kill()
    finally:
        rig.end()
    files = {name: (directory / "store" / name).read_bytes() for name in (DB, LOG)}
    store = SqliteStore(str(directory / "store"))
    store.open()
    jobs = {save.id: save for save in store.load()}
    rows = store._opened().execute("SELECT id FROM ended").fetchall()
    ended = {id: end for (id,) in rows if (end := store.ended(id))}
    store.close()
    assert len(ended) == len(rows) > 100
    assert acknowledged <= {save.payload for save in jobs.values()}
    return Sound(files, jobs, ended, but_last(directory / "but_last", files))


def but_last(directory: Path, files: dict[str, bytes]) -> frozenset[int]:
    """The jobs of a store whose log ends with its last transaction but one."""
    directory.mkdir(mode=0o700)
    (directory / DB).write_bytes(files[DB])
    (directory / LOG).write_bytes(files[LOG][: last_frames(files[LOG])[-2] + FRAME])
    store = SqliteStore(str(directory))
    store.open()
    found = frozenset(save.id for save in store.load())
    store.close()
    return found


def submit(client: Wire, count: int) -> set[bytes]:
    """Background jobs that no worker can do, each in a transaction of its own; returns the payloads."""
    chance = random.Random(count)
    payloads = set()
    for _ in range(count):
        payload = chance.randbytes(chance.choice((20, 300, 6000)))
        client.raw(req(p.SUBMIT_JOB_BG, b"kept", b"", payload))
        assert client.packet()[0] == p.JOB_CREATED
        payloads.add(payload)
    return payloads


def damage(files: dict[str, bytes], chance: random.Random) -> tuple[dict[str, bytes], bool]:
    """The files with something wrong in one of them; and whether its end was cut off, or might as well have
    been."""
    name = chance.choice((DB, LOG))
    content = bytearray(files[name])
    kind = chance.random()
    is_cut = kind >= 0.85
    if kind < 0.7:
        near = chance.randrange(len(content)) if chance.random() < 0.3 else None  # all in one place, or anywhere
        for _ in range(chance.randint(1, 8)):
            place = (
                chance.randrange(len(content)) if near is None else min(near + chance.randrange(64), len(content) - 1)
            )
            content[place] ^= 1 << chance.randrange(8)
    elif kind < 0.85:
        page = chance.randrange(len(content) // PAGE) * PAGE
        content[page : page + PAGE] = bytes(PAGE)
    else:
        size = chance.randrange(1, len(content))
        if name == LOG and (size - 32) % FRAME == 0:
            size += 1
        del content[size:]
    return files | {name: bytes(content)}, is_cut or (name == LOG and may_be_torn(files[LOG], bytes(content)))


def last_frames(log: bytes) -> list[int]:
    """Where the last frame of each transaction begins; behind them the file has frames of earlier uses."""
    salts = log[16:24]
    return [
        at
        for at in range(32, len(log) - FRAME + 1, FRAME)
        if log[at + 4 : at + 8] != bytes(4) and log[at + 8 : at + 16] == salts
    ]


def may_be_torn(log: bytes, damaged: bytes) -> bool:
    """Whether what is damaged and the transaction behind it may be a single one, which a power cut tore: nothing tells.
    A header whose first 16 bytes lie in two sectors proves nothing, for one of them may be of an earlier use."""
    ends = last_frames(log)
    frames = range(32, ends[-1] + 1, FRAME)
    last = max((at for at in frames if log[at : at + FRAME] != damaged[at : at + FRAME]), default=0)
    return sum(at > last and at % 512 <= 512 - 16 for at in ends) < 2


class Heard(logging.Handler):
    """What the store has said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """The store's log, and nothing of it on the terminal."""
    heard = Heard()
    log = logging.Logger("heard")
    log.addHandler(heard)
    for module in (sqlite, jobs):
        monkeypatch.setattr(module, "log", log)
    return heard


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory, in memory where that is possible."""
    where = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    directory = where / f"farm-corruption-{os.getpid()}"
    directory.mkdir(mode=0o700)
    yield directory
    shutil.rmtree(directory)


def try_all(sound: Sound, tries: int, scratch: Path, heard: Heard) -> tuple[Counter[str], list[str]]:
    """Damage, open, compare, so many times; returns how often what was found, and what was silent."""
    found: Counter[str] = Counter()
    silent = []
    for number in range(tries):
        for path in scratch.iterdir():
            if path.name != "ballast":
                path.unlink()
        files, is_cut = damage(sound.files, random.Random(f"damage {number}"))
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        heard.lines.clear()
        store = SqliteStore(str(scratch), reserve=0)
        refusal: StoreError | None = None
        try:
            store.open()
            what = compare(sound, store, heard, is_cut)
        except StoreError as error:
            refusal, what = error, "refused"
        finally:
            store.close()
        if refusal and number % REPAIRED_EVERY == 0:
            what = mend(sound, scratch)
        if refusal:
            assert refusal.message.startswith((f"the store {scratch}", str(scratch))), refusal.message
            assert "\n" not in refusal.message
            assert refusal.hint, refusal.message
        found[what] += 1
        if what in SILENT:
            silent.append(f"damage {number}: {what}")
    return found, silent


def mend(sound: Sound, scratch: Path) -> str:
    """One word for what became of a store that was refused and then repaired. What is missing or is back was said."""
    try:
        done, report = repair(str(scratch))
    except StoreError as error:
        return (
            "refused, and nothing can be read" if error.message.startswith("nothing can be read of") else "not mended"
        )
    assert report.sound
    store = SqliteStore(str(scratch), reserve=0)
    store.open()
    loaded = {save.id: save for save in store.load()}
    store.close()
    if any(save != sound.jobs[id] for id, save in loaded.items() if id in sound.jobs):
        return "altered"
    if loaded.keys() - sound.jobs.keys() - sound.ended.keys():
        return "unknown"
    if loaded.keys() != sound.jobs.keys() and not done.lost and not done.aside:
        return "missing"
    return "repaired" if loaded.keys() == sound.jobs.keys() else "repaired, and what is lost was said"


def compare(sound: Sound, store: SqliteStore, heard: Heard, is_cut: bool) -> str:
    """One word for what became of an opened store. A log that ends in an unfinished transaction lacks that one and no
    other, unless it was cut off, which nothing can tell from a power cut."""
    loaded = {save.id: save for save in store.load()}
    rows = store._opened().execute("SELECT count(*) FROM damaged").fetchone()[0]
    said = sum("is damaged in the store" in line for line in heard.lines)
    assert said == rows
    if any(save != sound.jobs[id] for id, save in loaded.items() if id in sound.jobs):
        return "altered"
    if any("unfinished transaction" in line for line in heard.lines) and (
        is_cut or sound.but_last - loaded.keys() == set()
    ):
        return "said to be unfinished"
    if loaded.keys() - sound.jobs.keys():
        return "unknown"
    if len(sound.jobs.keys() - loaded.keys()) > rows:
        return "missing"
    if rows:
        return "put aside"
    for id, end in sound.ended.items():
        try:
            if store.ended(id) != end:
                return "end missing"
        except StoreError as error:
            return "end refused" if "damaged" in error.message else f"end: {error.message}"
    return "harmless"


def line(found: Counter[str]) -> str:
    """The figures as people read them."""
    return f"corruption: {found.total()} damaged stores: " + ", ".join(
        f"{found[name]} {name}" for name in sorted(found)
    )


def test_no_damage_is_silent(sound: Sound, scratch: Path, heard: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    found, silent = try_all(sound, TRIES, scratch, heard)
    with capsys.disabled():
        print(f"\n{line(found)}; {len(silent)} silent")
    assert not silent
    assert found.keys() <= OUTCOMES
    assert found["refused"] > TRIES // 10
    assert found["repaired"] > TRIES // 100
    assert found["put aside"] > TRIES // 100
    assert found["harmless"] < TRIES // 2


def test_without_row_checksums_it_would_be(
    sound: Sound, scratch: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "is_sound", lambda row, crc: True)
    monkeypatch.setattr(jobs, "sound_only", lambda rows, damaged: (Save._make(row[:-1]) for row in rows))
    found, _ = try_all(sound, MUTANT_TRIES, scratch, heard)
    assert found["altered"] > 0


def test_without_the_check_of_the_log_it_would_be(
    sound: Sound, scratch: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "inspect_beside", lambda path: wal.Finding())
    found, _ = try_all(sound, MUTANT_TRIES, scratch, heard)
    assert found["missing"] + found["unknown"] > 0
