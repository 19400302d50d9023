"""What the ledger remembers: one record for each connection and one for each job, and nothing cleverer than lists."""

from __future__ import annotations

from collections import deque

from farm.protocol import packets

Out = tuple[int, int, bytes]  # (connection, packet number, body) of something the server decided to send
CLOSE = -2  # as a packet number: the server closes the connection

HIGH, NORMAL, LOW = 0, 1, 2
SUBMITS = {
    packets.SUBMIT_JOB: (NORMAL, False),
    packets.SUBMIT_JOB_BG: (NORMAL, True),
    packets.SUBMIT_JOB_HIGH: (HIGH, False),
    packets.SUBMIT_JOB_HIGH_BG: (HIGH, True),
    packets.SUBMIT_JOB_LOW: (LOW, False),
    packets.SUBMIT_JOB_LOW_BG: (LOW, True),
    packets.SUBMIT_JOB_EPOCH: (NORMAL, True),
    packets.SUBMIT_REDUCE_JOB: (NORMAL, False),
    packets.SUBMIT_REDUCE_JOB_BACKGROUND: (NORMAL, True),
}

# What must happen somewhere in any 200 seeds: a simulator that never meets these proves nothing about them.
SOMETIMES = (
    "abandoned job ended",
    "abandoned job timed out",
    "abandoned job timed out, worker told before",
    "abandoned job's worker lost",
    "administrator cancelled a background job",
    "administrator cancelled a delayed job",
    "administrator cancelled a queued job",
    "administrator cancelled a running job",
    "administrator cancelled nothing",
    "another worker woken when one was lost",
    "background joins background",
    "background joins foreground",
    "background joins foreground, part of its output missed",
    "bad name refused",
    "broken stream refused",
    "cancel: dropped",
    "cancel: shared",
    "cancel: told",
    "cancel: unheard",
    "cancel: unknown",
    "client told of a restart",
    "client told that it joined late",
    "clock set back",
    "clock set forward",
    "coalesced by payload",
    "coalesced with a delayed job",
    "coalesced with a job though the queue is full",
    "crash after the disk failed",
    "crash before a kept promise is sent",
    "crash before anything is kept",
    "crash before anything is sent",
    "crash during a commit that is kept",
    "crash during a commit that is lost",
    "crash in good order while a commit is under way",
    "crash while promises are sent",
    "crash while sending",
    "delayed",
    "delayed job became due",
    "delayed job restored after a restart",
    "due job woke a sleeper",
    "echo waited for a commit",
    "end after an exception absorbed",
    "epoch that is past",
    "exception passed on",
    "exception turned into a failure",
    "foreground joins background",
    "foreground joins foreground",
    "function created",
    "function dropped",
    "function with a TAB created",
    "function not dropped",
    "functions take turns",
    "given again to the worker that was too slow",
    "job failed for its lost workers",
    "job given before it is durable",
    "job refused for want of room on the disk",
    "late end absorbed",
    "late report absorbed",
    "left a job that others want",
    "left a queued job",
    "left a running job, worker cannot be told",
    "left a running job, worker told",
    "limit that is no number",
    "long option refused",
    "no sleep while jobs wait",
    "not joined for want of room on the disk",
    "packet after a fatal one",
    "packet waited behind a promise",
    "payload read from the store",
    "payload read though the job's end was decided",
    "promise waited for a commit",
    "queue full",
    "reducer given to a worker",
    "reducer kept from a worker that cannot take it",
    "registered anew",
    "report on no job refused",
    "requeued",
    "restored after a restart",
    "result cut",
    "result kept",
    "same key in two functions",
    "several changes in one commit",
    "several jobs requeued at once",
    "several jobs timed out at once",
    "status by key",
    "status by key of nothing",
    "status with jobs",
    "stranger refused",
    "stream stopped inside a packet",
    "submission refused while stopping",
    "timed out",
    "timed out, another worker woken",
    "timed out, worker told",
    "wake-up passed on after patience",
    "wake-up passed on by CANT_DO",
    "wake-up passed on by PRE_SLEEP",
    "wake-up passed on by a worker that came",
    "woken by CAN_DO while asleep",
    "woken in vain",
    "woken worker hangs for good",
    "worker obeyed a cancel",
)

Key = tuple[bytes, bytes, bytes]  # function, unique, payload (empty unless the unique is `-`)


class Wrong(Exception):
    """The server did what it must not do, or did not do what it must."""


class Owed:
    """A packet that was decided. needs: the batch that must be durable before it is sent, 0: none. waits_for: the batch
    that it may wait for, as it may for what is decided in the same turn; None: that turn has not ended."""

    __slots__ = ("body", "needs", "number", "waited", "waits_for")

    def __init__(self, number: int, body: bytes, needs: int, waits_for: int | None) -> None:
        self.number = number
        self.body = body
        self.needs = needs
        self.waits_for = waits_for
        self.waited = False


class Party:
    """A connection. `asleep`: it said PRE_SLEEP and has not grabbed since; `notified`: and a NOOP was sent since.
    `refused`: it broke the rules beyond repair; nothing that it sent after that counts. `owed`: what it must be sent
    and was not yet, in order. `sync`: its echoes wait until all before them is durable."""

    __slots__ = (
        "abilities",
        "asleep",
        "client_id",
        "closed",
        "ended",
        "exceptions",
        "expired",
        "extension",
        "holds",
        "id",
        "notified",
        "notified_at",
        "owed",
        "refused",
        "sync",
        "watches",
    )

    def __init__(self, id: int) -> None:
        self.id = id
        self.abilities: dict[bytes, float] = {}  # function -> timeout in seconds, 0: none
        self.expired: dict[bytes, None] = {}  # jobs that it took too long for and did not end since
        self.asleep = False
        self.notified = False
        self.notified_at = 0.0
        self.refused = False
        self.closed = False
        self.sync = False
        self.client_id = b"-"
        self.owed: deque[Owed] = deque()
        self.exceptions = False
        self.extension = False
        self.ended: bytes | None = None
        self.holds: dict[bytes, Item] = {}
        self.watches: dict[bytes, Item] = {}


class Item:
    """A job. `holder`: the connection that runs it; `abandoned`: it runs, and nobody wants it any more; `due`: by the
    wall clock; `delayed`: and that has not come yet; `expires`: when its worker's time is up, 0: never. `queued_at`,
    `started`, by the monotonic clock, `worker`, `said`: what is kept of it; `missed`: and that is not all."""

    __slots__ = (
        "abandoned",
        "background",
        "delayed",
        "due",
        "expires",
        "function",
        "handle",
        "holder",
        "losses",
        "missed",
        "payload",
        "priority",
        "progress",
        "queued_at",
        "reducer",
        "said",
        "started",
        "streamed",
        "unique",
        "watchers",
        "worker",
    )

    def __init__(
        self, handle: bytes, function: bytes, unique: bytes, priority: int, background: bool, payload: bytes
    ) -> None:
        self.handle = handle
        self.function = function
        self.unique = unique
        self.priority = priority
        self.background = background
        self.payload = payload
        self.reducer = b""
        self.due = 0.0
        self.delayed = False
        self.expires = 0.0
        self.losses = 0
        self.watchers: list[int] = []
        self.holder: int | None = None
        self.abandoned = False
        self.streamed = False
        self.progress = (b"0", b"0")
        self.queued_at = self.started = 0.0
        self.worker = b""
        self.said: list[tuple[int, bytes]] = []
        self.missed = False

    @property
    def key(self) -> Key | None:
        """What another submission must have in common with this one to join it; None: nothing does."""
        return key_of(self.function, self.unique, self.payload)

    def afresh(self) -> Item:
        """The job as a new life of the server finds it in the journal."""
        item = Item(self.handle, self.function, self.unique, self.priority, True, self.payload)
        item.reducer, item.due = self.reducer, self.due
        return item


def key_of(function: bytes, unique: bytes, payload: bytes) -> Key | None:
    """Same function, same unique key; with the key `-`, same payload. An empty key, or `-` with no payload, is none."""
    if unique == b"-":
        return (function, unique, payload) if payload else None
    return (function, unique, b"") if unique else None


def age(handle: bytes) -> tuple[int, int]:
    """Sorts handles by when they were given out: the server's life, then the count within it."""
    _, life, count = handle.split(b":")
    return int(life, 16), int(count)


def acceptable(function: bytes) -> bool:
    """Whether a job may be submitted to a function of this name."""
    return 0 < len(function) <= 512 and not any(byte == 0x7F or (byte <= 0x20 and byte != 9) for byte in function)
