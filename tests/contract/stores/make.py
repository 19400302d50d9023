"""Makes the store file of the version that this checkout writes: `python -P -m tests.contract.stores.make`.

Run it once for each new version of the tables, by the code of that version, and check the file in. A file that is
checked in is never made again: it is what somebody's server has written, and it must open for ever.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from farm.broker.effects import Attempt, CronRow, Finish, Known, Progress, Save, Setting, UniqueUntil
from farm.store.schema import VERSION
from farm.store.sqlite import FILE, SqliteStore

SHARD = 77
CREATED = 1_790_000_000.25

QUEUED = [
    Save(SHARD << 40 | 1, b"resize", b"", 1, b"plain", created=CREATED),
    Save(SHARD << 40 | 2, b"resize", b"the-key", 0, b"of high priority, with a key", created=CREATED + 1),
    Save(SHARD << 40 | 3, b"resize", b"-", 2, b"of low priority, by payload", created=CREATED + 2),
    Save(SHARD << 40 | 4, b"later", b"", 1, b"delayed", due=4_000_000_000.0, created=CREATED + 3),
    Save(SHARD << 40 | 5, b"b\t\xff\xc3\xa9", b"\x01\xfe '\"", 1, bytes(range(256)), created=CREATED + 4),
    Save(SHARD << 40 | 6, b"split", b"", 1, b"", b"reducer", created=CREATED + 5),
    Save((SHARD + 1) << 40 | 1, b"resize", b"", 1, b"of a later life of the server", created=CREATED + 6),
]
ENDED = [
    (
        Save(SHARD << 40 | 7, b"resize", b"", 1, b"was done", created=CREATED),
        Finish(SHARD << 40 | 7, "done", CREATED + 7, CREATED + 8, b"worker-1", 0, b"\0result\xff", b"a warning\n"),
    ),
    (
        Save(SHARD << 40 | 8, b"resize", b"again", 0, b"failed: its payload is kept", created=CREATED),
        Finish(SHARD << 40 | 8, "failed", CREATED + 9, CREATED + 10, b"worker-2", 3, b"", b"why", cut=True),
    ),
    (
        Save(SHARD << 40 | 9, b"later", b"", 2, b"never ran", created=CREATED),
        Finish(SHARD << 40 | 9, "cancelled", 0.0, CREATED + 11),
    ),
]

# What came with version 3: an older file has none of it.
ALSO_QUEUED = [
    Save(SHARD << 40 | 10, b"retried", b"", 1, b"failed once", created=CREATED, terms=b"retries=3 backoff=2.5"),
    Save(SHARD << 40 | 11, b"retried", b"", 1, b"is running", created=CREATED, terms=b"timeout=60"),
]
ALSO_ENDED = [
    (
        Save(SHARD << 40 | 12, b"retried", b"", 1, b"is dead", b"reducer", 5.0, CREATED, b"retries=1 keep=1000000"),
        Finish(
            SHARD << 40 | 12, "failed", CREATED, CREATED + 12, b"worker-1", 3, b"", b"why", False, b"exit 3", 2, 2, 0,
            0.25, 1 << 20, 1_000_000.5,
        ),
    ),
]  # fmt: skip
ATTEMPTS = [
    Attempt(SHARD << 40 | 10, 1, CREATED + 1, CREATED + 2, "failed", b"exit 3", b"w\xff", 3, 0.5, 1 << 30, b"log \xff"),
    Attempt(SHARD << 40 | 12, 1, CREATED + 1, CREATED + 2, "lost"),
]
KNOWN: list[Known] = [
    Progress(SHARD << 40 | 10, 1, 1, 0, 4_000_000_000.5, False, b"ok:H:4d:3"),
    Progress(SHARD << 40 | 11, 1, running=True),
    Setting(b"paused\xff", b"paused=1 retries=2"),
    UniqueUntil(b"resize", b"the-key", SHARD << 40 | 2, 4_000_000_000.25),
    CronRow(b"nightly", b'{"line":"0 3 * * *"}', bytes(range(256))),
]


# With version 4 came when the running attempt has begun, and where.
KNOWN_4: list[Known] = [
    KNOWN[0],
    Progress(SHARD << 40 | 11, 1, running=True, started=CREATED + 3.5, worker=b"w\xff"),
    *KNOWN[2:],
]


def main() -> None:
    """Write version-N.db beside this file."""
    with tempfile.TemporaryDirectory() as name:
        store = SqliteStore(name)
        store.open()
        store.apply([*QUEUED, *(save for save, _ in ENDED)])
        store.apply([end for _, end in ENDED])
        store.apply([*ALSO_QUEUED, *(save for save, _ in ALSO_ENDED), *ATTEMPTS, *KNOWN_4])
        store.apply([end for _, end in ALSO_ENDED])
        store.close()
        target = Path(__file__).with_name(f"version-{VERSION}.db")
        assert not target.exists(), "it is checked in, and stays as it is"
        target.write_bytes((Path(name) / FILE).read_bytes())


if __name__ == "__main__":
    main()
