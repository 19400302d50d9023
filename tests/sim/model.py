"""What the ledger remembers: one record for each connection and one for each job, and nothing cleverer than lists."""

from __future__ import annotations

from collections import deque

from farm.protocol import packets

Out = tuple[int, int, bytes]  # (connection, packet number, body) of something the server decided to send
CLOSE = -2  # as a packet number: the server closes the connection

HIGH, NORMAL, LOW = 0, 1, 2
SPARE = (b"spare0", b"spare1", b"spare2")  # functions that only patient workers offer
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

# What must happen somewhere in any 300 seeds: a simulator that never meets these proves nothing about them.
SOMETIMES = (
    "abandoned job cancelled",
    "abandoned job ended",
    "abandoned job timed out",
    "abandoned job timed out, worker told before",
    "abandoned job's worker lost",
    "administrator cancelled a delayed job",
    "administrator cancelled a queued job",
    "administrator cancelled a running job",
    "administrator cancelled a waiting job",
    "administrator cancelled nothing",
    "all it was to wait for had ended",
    "another worker woken when one was lost",
    "asked about a function that nobody knows",
    "asked about a job: abandoned",
    "asked about a job: cancelled",
    "asked about a job: dead",
    "asked about a job: delayed",
    "asked about a job: done",
    "asked about a job: expired",
    "asked about a job: queued",
    "asked about a job: running",
    "asked about a job: unknown",
    "asked about a job: waiting",
    "attempt counted as lost after a restart",
    "attempts remembered after a restart",
    "attempt held back while the one before is being stopped",
    "background job cancelled",
    "background joins a job that has ended",
    "background joins background",
    "background joins foreground",
    "background joins foreground, part of its output missed",
    "background joins foreground, which was tried",
    "bad name refused",
    "broken stream refused",
    "can never run",
    "cancel by ask: cancelled",
    "cancel by ask: ended",
    "cancel by ask: told",
    "cancel by ask: unheard",
    "cancel by ask: unknown",
    "cancel: dropped",
    "cancel: shared",
    "cancel: told",
    "cancel: unheard",
    "cancel: unknown",
    "cancelled with a job that it waited for",
    "chain of jobs carried on",
    "client told of a restart",
    "client that joined late told all",
    "client told that it joined late",
    "clock set back",
    "clock set forward",
    "coalesced by payload",
    "coalesced with a delayed job",
    "coalesced with a job though the queue is full",
    "command answered when it is durable",
    "command from elsewhere refused",
    "condition met: any",
    "condition met: fail",
    "condition met: ok",
    "condition not met: fail",
    "condition not met: ok",
    "crash after the disk failed",
    "crash before a kept promise is sent",
    "crash before anything is kept",
    "crash before anything is sent",
    "crash during a commit that is kept",
    "crash during a commit that is lost",
    "crash in good order while a commit is under way",
    "crash while promises are sent",
    "crash while sending",
    "cron: added",
    "cron: a removed entry's job run again",
    "cron: added again",
    "cron: added anew, jobs of the earlier one live",
    "cron: an entry's job run again",
    "cron: behind several jobs",
    "cron: caught up with",
    "cron: certain times, an hour skipped",
    "cron: certain times, an hour twice",
    "cron: clock set back by more than a day",
    "cron: earlier job replaced",
    "cron: entries restored after a restart",
    "cron: its job refused",
    "cron: joined for queue",
    "cron: joined for replace",
    "cron: joined for skip",
    "cron: left out, a job lives",
    "cron: left out, it was missed",
    "cron: listed",
    "cron: name taken",
    "cron: no such entry",
    "cron: one that waited for its turn has ended",
    "cron: other times, an hour skipped",
    "cron: other times, an hour twice",
    "cron: paused",
    "cron: removed",
    "cron: replaced",
    "cron: resumed",
    "cron: run by hand",
    "cron: several caught up with",
    "cron: submitted for queue",
    "cron: submitted for replace",
    "cron: submitted for skip",
    "cron: waits for a job that is run again",
    "cron: what is no line refused",
    "dead",
    "delayed",
    "delayed job became due",
    "delayed job cancelled",
    "delayed job expired",
    "delayed job restored after a restart",
    "delayed job with terms",
    "dependencies remembered after a restart",
    "dependency that nobody knows refused",
    "dependent restored after a restart",
    "done",
    "due job woke a sleeper",
    "echo waited for a commit",
    "end after an exception absorbed",
    "end told when it is durable",
    "epoch that is past",
    "exception passed on",
    "exception turned into a failure",
    "failure not worth a retry",
    "foreground job retried",
    "foreground job with terms",
    "foreground joins background",
    "foreground joins foreground",
    "function created",
    "function dropped",
    "function dropped with its keys",
    "function dropped with what holds for it",
    "function not dropped",
    "function with a TAB created",
    "functions take turns",
    "given again to the worker that was too slow",
    "job failed for its lost workers",
    "job failed for its lost workers, the server being the last",
    "job given before it is durable",
    "job refused for want of room on the disk",
    "job tried again after its pause",
    "key that outlives a foreground job",
    "key that outlives its job",
    "late end absorbed",
    "late report absorbed",
    "left a job that others want",
    "left several jobs, of which one waited for another",
    "left a job that waits for others",
    "left a queued job",
    "left a running job, worker cannot be told",
    "left a running job, worker told",
    "limit that is no number",
    "long option refused",
    "met, but its command is being stopped",
    "missed end made up for after a restart",
    "no retries left",
    "no sleep while jobs wait",
    "not joined for want of room on the disk",
    "packet after a fatal one",
    "packet waited behind a promise",
    "pause remembered after a restart",
    "paused a function",
    "paused a function whose jobs wait",
    "payload read from the store",
    "payload read though the job's end was decided",
    "promise waited for a commit",
    "purge: live",
    "purge: purged",
    "purge: unknown",
    "question put off until an end is durable",
    "queue full",
    "queued job cancelled",
    "queued job expired",
    "queued job replaced",
    "reducer given to a worker",
    "reducer kept from a worker that cannot take it",
    "registered anew",
    "released into its line",
    "released, to wait for its time",
    "report on no job refused",
    "requeued",
    "requeued after a failure",
    "restored after a restart",
    "result cut",
    "result kept",
    "resumed a function",
    "resumed a function whose jobs wait",
    "retried",
    "retried a second time",
    "retried by its function's settings",
    "retried by its worker's terms",
    "replacement from elsewhere refused",
    "retry: done",
    "retry: exists",
    "retry: live",
    "retry: queued",
    "retry: unknown",
    "run limited by its function's settings",
    "run took longer than its terms allow",
    "running job cancelled",
    "running job handed back",
    "running job replaced",
    "same key in two functions",
    "same key: attach, ended",
    "same key: attach, live",
    "same key: fail, ended",
    "same key: fail, live",
    "same key: replace, ended",
    "same key: replace, live",
    "same key: skip, ended",
    "same key: skip, live",
    "same key: told when it is durable",
    "setting set",
    "setting taken back",
    "settings or keys remembered after a restart",
    "several changes in one commit",
    "several jobs requeued at once",
    "several jobs timed out at once",
    "status by key",
    "status by key of nothing",
    "status with jobs",
    "strange question refused",
    "strange terms refused",
    "stop had its time",
    "stop reported",
    "stopped by a worker that left",
    "stranger refused",
    "stream stopped inside a packet",
    "submission refused while stopping",
    "timed out",
    "timed out, another worker woken",
    "timed out, worker told",
    "timeout tried again",
    "usage told",
    "usage told after the end",
    "waited for a job that has ended",
    "waited for a job that nobody knows",
    "waiter left",
    "waiter told of an end: cancelled",
    "waiter told of an end: done",
    "waiter told of an end: expired",
    "waiter told of an end: failed",
    "waiting job cancelled",
    "waiting job expired",
    "waits for a command that had its key",
    "waits for another one still",
    "waits for others",
    "waits for several jobs",
    "wake-up passed on after patience",
    "wake-up passed on by CANT_DO",
    "wake-up passed on by PRE_SLEEP",
    "wake-up passed on by a worker that came",
    "woken by CAN_DO while asleep",
    "woken in vain",
    "woken worker hangs for good",
    "worker obeyed a cancel",
)

Terms = dict[bytes, bytes]  # name -> value, as words of farm/protocol/JOBS.md
Key = tuple[bytes, bytes, bytes]  # function, unique, payload (empty unless the unique is `-`)


class Wrong(Exception):
    """The server did what it must not do, or did not do what it must."""


class PutOff(Exception):
    """A packet cannot be answered yet: how a job ended that it names was decided and is not durable."""


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


class Later:
    """A packet that was put off. batch: with which it may be answered, None: its turn has not ended. due: it has to be
    answered in this turn."""

    __slots__ = ("batch", "body", "due", "number")

    def __init__(self, number: int, body: bytes) -> None:
        self.number = number
        self.body = body
        self.batch: int | None = None
        self.due = False


class Party:
    """A connection. `asleep`: it said PRE_SLEEP and has not grabbed since; `notified`: and a NOOP was sent since.
    `refused`: it broke the rules beyond repair; nothing that it sent after that counts. `owed`: what it must be sent
    and was not yet, in order. `sync`: its echoes wait until all before them is durable. `may_change`: its commands are
    taken. `terms`: what it said of its functions' jobs. `later`: its packets that were put off."""

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
        "later",
        "may_change",
        "notified",
        "notified_at",
        "owed",
        "refused",
        "sync",
        "terms",
        "watches",
    )

    def __init__(self, id: int, may_change: bool = True) -> None:
        self.id = id
        self.may_change = may_change
        self.terms: dict[bytes, Terms] = {}
        self.later: list[Later] = []
        self.abilities: dict[bytes, float] = {}  # function -> timeout in seconds, 0: none
        self.expired: dict[bytes, int] = {}  # jobs that it took too long for, and how many ends it owes
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


class Stopped:
    """A command that its worker was told to end. until: so long what comes after it waits. outcome: of its job.
    number: of the attempt. kept: what is known of it is in the journal."""

    __slots__ = ("kept", "key", "number", "outcome", "until", "worker")

    def __init__(self, item: Item, until: float, kept: bool) -> None:
        assert item.holder is not None
        self.worker = item.holder
        self.key = item.key
        self.number = item.attempts
        self.outcome = "cancelled"
        self.until = until
        self.kept = kept


class Item:
    """A job. `holder`: the connection that runs it; `abandoned`: it runs, and nobody wants it any more; `due`: by the
    wall clock; `delayed`: and that has not come yet; `expires`: when its worker's time is up, 0: never. `queued_at`,
    `started`, by the monotonic clock, `worker`, `said`: what is kept of it; `missed`: and that is not all. `code`: the
    exit code that its worker told. `failures`, `losses`: attempts that ended so; `before`: others. `noted`: it is
    written down that the running attempt has begun. `trailer`: in which its worker told `code`. `doomed`: it ran when
    the server died. `timed_out`: its worker told that its time was up. `terms`: its own. `after`: handle -> condition
    of the jobs that it still waits for. `expires_at`: by its terms. `deadline`: when it has waited too long, by the
    wall clock, 0: never; set at `limited_at`. `since`: since when it waits for a worker, where that is not its creation
    or its time. `limit`: what the running attempt may take by its terms, 0: anything. `reason`: why it is as it is.
    `cpu`, `peak`: what its worker told. `held_until`: when an earlier attempt was over that had kept it from going on.
    `waiters`: connections that want to hear of its end. `over`: they have. `stored`: it was ever to be kept. `granted`:
    the retries by which its last failure was not its end, None: there was none in this server's life."""

    __slots__ = (
        "abandoned",
        "after",
        "background",
        "before",
        "code",
        "cpu",
        "deadline",
        "delayed",
        "doomed",
        "due",
        "expires",
        "expires_at",
        "failures",
        "function",
        "granted",
        "handle",
        "held_until",
        "holder",
        "key_until",
        "limit",
        "limited_at",
        "losses",
        "missed",
        "noted",
        "over",
        "payload",
        "peak",
        "priority",
        "progress",
        "queued_at",
        "reason",
        "reducer",
        "said",
        "since",
        "started",
        "stored",
        "streamed",
        "terms",
        "timed_out",
        "trailer",
        "unique",
        "waiters",
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
        self.background = self.stored = background
        self.payload = payload
        self.reducer = self.reason = self.worker = b""
        self.terms: Terms = {}
        self.after: dict[bytes, bytes] = {}
        self.due = self.deadline = self.expires = self.limit = self.since = self.limited_at = 0.0
        self.held_until = 0.0
        self.key_until = 0.0  # of a foreground job: until when its key counts once it has ended
        self.expires_at: float | None = None
        self.delayed = self.abandoned = self.over = self.streamed = self.missed = False
        self.losses = self.failures = self.before = 0
        self.noted = self.doomed = self.timed_out = False
        self.watchers: list[int] = []
        self.waiters: list[int] = []
        self.holder: int | None = None
        self.granted: int | None = None
        self.progress = (b"0", b"0")
        self.queued_at = self.started = 0.0
        self.said: list[tuple[int, bytes]] = []
        self.unheard()

    @property
    def key(self) -> Key | None:
        """What another submission must have in common with this one to join it; None: nothing does."""
        return key_of(self.function, self.unique, self.payload)

    @property
    def attempts(self) -> int:
        """How many have begun."""
        return self.before + self.failures + self.losses + (self.holder is not None)

    @property
    def queued(self) -> bool:
        """Whether it stands in its line."""
        return self.holder is None and not self.delayed and not self.after and not self.over

    @property
    def state(self) -> str:
        """As people are told it, of a job that has not ended."""
        if self.holder is not None:
            return "abandoned" if self.abandoned else "running"
        return "waiting" if self.after else "delayed" if self.delayed else "queued"

    def unheard(self) -> None:
        """An attempt begins, of which nothing is known."""
        self.code, self.cpu, self.peak = -1, -1.0, -1
        self.trailer = b""
        self.timed_out = self.noted = False
        self.reason = b""


def key_of(function: bytes, unique: bytes, payload: bytes) -> Key | None:
    """Same function, same unique key; with the key `-`, same payload. An empty key, or `-` with no payload, is none."""
    if unique == b"-":
        return (function, unique, payload) if payload else None
    return (function, unique, b"") if unique else None


def error(party: Party, code: bytes, close: bool = False) -> list[Out]:
    """ERROR, of which the ledger compares the code alone, and the end of the connection where nothing can follow."""
    party.refused |= close
    return [(party.id, packets.ERROR, code)] + ([(party.id, CLOSE, b"")] if close else [])


def id_of(handle: bytes) -> int:
    """The number behind a handle; 0: it is none."""
    _, life, count = handle.split(b":")
    return int(life, 16) << 40 | int(count) if life != b"none" else 0


def shown_state(outcome: str) -> str:
    """What people are told of how a job ended."""
    return "dead" if outcome == "failed" else outcome


def age(handle: bytes) -> tuple[int, int]:
    """Sorts handles by when they were given out: the server's life, then the count within it."""
    _, life, count = handle.split(b":")
    return int(life, 16), int(count)


def acceptable(function: bytes) -> bool:
    """Whether a job may be submitted to a function of this name."""
    return 0 < len(function) <= 512 and not any(byte == 0x7F or (byte <= 0x20 and byte != 9) for byte in function)
