"""R5: whatever the store is asked fails once: the first time that it is asked, the second, and so on to the last.

Each time a real server goes through the same story, in this process and turn by turn. Where something fails it must
leave, and what it has acknowledged until then, by the books of a client and a worker, must be there for the next one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import sqlite3
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from farm.broker.broker import Rules
from farm.broker.effects import Attempt, Change, Finish, Known, Past, Save
from farm.errors import FarmError
from farm.loop import Loop
from farm.protocol import packets as p
from farm.protocol.address import Address
from farm.server import journal
from farm.server.config import ServerConfig
from farm.server.server import Server
from farm.store.contract import Store, StoreError
from farm.store.sqlite import SqliteStore
from tests.support import Wire

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
# A server whose store fails in one of these must leave: what it promises hangs on them.
PROMISING = ("open", "known", "load", "write", "commit", "payload", "low", "close")
# Of these only who has asked need know: nothing hangs on what is told of jobs that have ended.
TELLING = ("ended", "past", "about", "attempts", "ended_ids")
CODES = {
    "IOERR": sqlite3.SQLITE_IOERR,
    "FULL": sqlite3.SQLITE_FULL,
    "BUSY": sqlite3.SQLITE_BUSY,
    "CORRUPT": sqlite3.SQLITE_CORRUPT,
}


class Fault:
    """Fails the `nth` of the calls that it is told of, before or after it was carried out; 0: none."""

    def __init__(self, nth: int, error: Callable[[], Exception], after: bool) -> None:
        self.calls = 0
        self.happened = False
        self._nth = nth
        self._error = error
        self._after = after

    def around(self, call: Callable[..., Any], *args: Any) -> Any:
        """The call, or the error."""
        self.calls += 1
        if self.calls != self._nth:
            return call(*args)
        self.happened = True
        if self._after:
            call(*args)
        raise self._error()


class FailingStore(Store):
    """A SqliteStore of which one method fails."""

    def __init__(self, store: SqliteStore, method: str, fault: Fault) -> None:
        self._store = store
        self._method = method
        self._fault = fault

    def _call(self, method: str, *args: Any) -> Any:
        call = getattr(self._store, method)
        return self._fault.around(call, *args) if method == self._method else call(*args)

    def describe(self) -> str:
        return self._store.describe()

    def open(self) -> int:
        return int(self._call("open"))

    def load(self) -> Iterator[Save]:
        return iter(self._call("load"))

    def known(self) -> Iterator[Known]:
        return iter(self._call("known"))

    def write(self, changes: Sequence[Change]) -> None:
        self._call("write", changes)

    def commit(self) -> None:
        self._call("commit")

    def payload(self, id: int) -> bytes:
        return bytes(self._call("payload", id))

    def ended(self, id: int) -> Finish | None:
        return cast("Finish | None", self._call("ended", id))

    def past(self, *args: Any) -> list[Past]:
        return list(self._call("past", *args))

    def about(self, id: int) -> Past | None:
        return cast("Past | None", self._call("about", id))

    def attempts(self, id: int) -> list[Attempt]:
        return list(self._call("attempts", id))

    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        return list(self._call("ended_ids", first, last, limit))

    def keeps(self) -> bool:
        return self._store.keeps()

    def low(self) -> str:
        return str(self._call("low"))

    def close(self) -> None:
        self._call("close")


class FailingConnection(sqlite3.Connection):
    """A connection to SQLite of which one statement fails."""

    fault: Fault

    def execute(self, *args: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.fault.around(super().execute, *args)
        return cursor

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.fault.around(super().executemany, *args)
        return cursor

    def executescript(self, *args: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.fault.around(super().executescript, *args)
        return cursor


class End:
    """A client's or a worker's connection, which is never waited for."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._in = b""
        self.closed = False
        self.refused = False  # it has heard that the server has failed, and nothing else may follow
        wire.sock.setblocking(False)

    def send(self, number: int, *parts: bytes) -> None:
        """One packet; the buffers of the system have room for all of the story."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._wire.send(number, *parts)

    def packets(self) -> Iterator[tuple[int, bytes]]:
        """What has come until now."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while chunk := self._wire.sock.recv(1 << 16):
                self._in += chunk
            self.closed = True
        while len(self._in) >= 12:
            number, size = struct.unpack_from(">II", self._in, 4)
            if len(self._in) < 12 + size:
                return
            body, self._in = self._in[12 : 12 + size], self._in[12 + size :]
            yield number, body

    def close(self) -> None:
        """Leave."""
        self._wire.close()


class Story:
    """A server, a client and a worker. `failed`: what the server ended with, if anything."""

    def __init__(self, store: Store) -> None:
        self.failed: Exception | None = None
        self.submitted: list[bytes] = []  # payloads
        self.acknowledged: dict[bytes, bytes] = {}  # handle -> payload
        self.may_end: set[bytes] = set()
        self.ended: set[bytes] = set()
        self.revived: set[bytes] = set()  # it was asked that they run again, so they may be there or not
        self.unread = 0  # questions of which the server has said that it cannot read what it has kept
        self._unanswered: list[bytes] = []
        self._assigned: list[bytes] = []
        self._reported: list[bytes] = []
        self._asked: list[bytes] = []  # verbs
        self._store = store
        self._loop = Loop()
        self._loop._running = True
        self._server: Server | None = None
        self._ends: list[End] = []

    def run(self) -> None:
        """From the server's start to its end. Also where something is not as it must be, nothing stays open: that would
        be a warning in whatever test runs when Python notices."""
        try:
            try:
                with self._noting():
                    self._begin()
                    self._tell()
            finally:
                with self._noting():
                    if self._server:
                        self._server.close()
            self.failed = self.failed or (self._server.failure if self._server else None)
            for end in self._ends:  # whatever was said in the end counts as well
                self._hear(end)
        finally:
            self._loop.close()
            for end in self._ends:
                end.close()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """The first error of the store is what the server ended with."""
        try:
            yield
        except (FarmError, sqlite3.Error) as error:
            self.failed = self.failed or error

    def _begin(self) -> None:
        # Hardly any payload stays in memory: they are read from the store.
        config = ServerConfig(listen=[Address("127.0.0.1", 0)], rules=Rules(payload_memory_max=1, result_max=100))
        self._server = Server(config, self._store, self._loop)
        host, _, port = self._server.listen()[0].rpartition(":")
        self._ends = [End(Wire((host, int(port)))) for _ in range(2)]

    def _tell(self) -> None:
        client, worker = self._ends
        worker.send(p.OPTION_REQ, b"farm-sync")
        worker.send(p.CAN_DO, b"f")
        for number in range(3):
            self._submit(client, b"first %d" % number)
            self._until(lambda: not self._unanswered)
        for number in range(4):
            self._submit(client, b"second %d" % number)
        self._until(lambda: not self._unanswered)
        for number in (p.WORK_COMPLETE, p.WORK_FAIL, p.WORK_COMPLETE):
            worker.send(p.GRAB_JOB)
            self._until(lambda: self._assigned)
            self._report(worker, number)
            self._until(lambda: not self._reported)
        assert self._server
        self._server._upkeep.expire()
        self._submit(client, b"third")
        self._until(lambda: not self._unanswered)
        self._ask_about(client)
        worker.send(p.GRAB_JOB)  # and it never reports
        self._until(lambda: self._assigned)

    def _ask_about(self, client: End) -> None:
        """All that can be asked of ended jobs, and that the one that has failed is run again."""
        client.send(p.OPTION_REQ, b"farm-1")
        done, dead, _ = (handle.decode() for handle in self.acknowledged if handle in self.may_end)
        self._ask(client, b"jobs")
        for text in ("last", done.rpartition(":")[2], done[:-1]):
            self._ask(client, b"find", text=text)
        for verb in (b"job", b"output", b"explain"):
            self._ask(client, verb, id=dead)
        self._ask(client, b"wait", ids=[done])
        self.revived.add(dead.encode())
        self._ask(client, b"retry", ids=[dead])
        self._ask(client, b"job", id=dead)

    def _ask(self, client: End, verb: bytes, **request: object) -> None:
        self._asked.append(verb)
        client.send(p.FARM_ASK, verb, json.dumps(request).encode(), b"")
        self._until(lambda: not self._asked)

    def _submit(self, client: End, payload: bytes) -> None:
        self.submitted.append(payload)
        self._unanswered.append(payload)
        client.send(p.SUBMIT_JOB_BG, b"f", b"", payload)

    def _report(self, worker: End, number: int) -> None:
        handle = self._assigned.pop()
        self.may_end.add(handle)
        self._reported.append(handle)
        worker.send(number, *([handle, b"result"] if number == p.WORK_COMPLETE else [handle]))
        worker.send(p.ECHO_REQ, b"durable?")

    def _until(self, told: Callable[[], object]) -> None:
        """Turns until this is so. Raises what the server ends with."""
        assert self._server
        deadline = time.monotonic() + PATIENCE_S
        while not told():
            assert time.monotonic() < deadline, "the server neither answers nor leaves"
            self._loop.call_in(0.002, lambda: None)  # no turn waits for longer
            self._loop.turn()
            if self._server.failure:
                assert not self._loop._running, "it failed and goes on"
                raise self._server.failure
            for end in self._ends:
                self._hear(end)

    def _hear(self, end: End) -> None:
        for number, body in end.packets():
            assert number == p.ERROR or not end.refused, (number, body)
            if number == p.JOB_CREATED:
                self.acknowledged[body] = self._unanswered.pop(0)
            elif number == p.JOB_ASSIGN:
                self._assigned.append(body.split(b"\0")[0])
            elif number == p.ECHO_RES:
                self.ended.update(self._reported)
                self._reported.clear()
            elif number == p.FARM_ANSWER:
                verb, _, answer = body.partition(b"\0")
                assert verb == self._asked.pop()
                self.unread += b'"unreadable"' in answer
            elif number == p.ERROR and body.startswith(b"STORE_ERROR\0"):
                assert not self._server or not self._server.failure
                self._asked.pop()
                self.unread += 1
            elif number == p.ERROR:
                self._hear_refused(end, body)
            else:
                assert number in (p.OPTION_RES, p.NOOP, p.NO_JOB, p.FARM_OUTPUT, p.FARM_ENDED), (number, body)

    def _hear_refused(self, end: End, body: bytes) -> None:
        """The server has failed, and says so once for each thing that somebody waits for: it is answered, and not kept
        for certain."""
        assert self._server
        assert self._server.failure, "an ERROR of a server that has not failed"
        assert body == b"QUEUE_ERROR\0The job cannot be stored; the server stops"
        waiting = (self._unanswered or self._asked) if end is self._ends[0] else self._reported
        assert waiting, "an ERROR for nothing"
        waiting.pop(0)
        end.refused = True


def must_agree(story: Story, directory: Path) -> None:
    """The next server finds what this one has acknowledged, and not what had ended."""
    from farm.broker.job import handle_of

    store = SqliteStore(str(directory))
    store.open()
    there = {handle_of(save.id): save.payload for save in store.load()}
    faults = store._opened().execute("PRAGMA integrity_check").fetchall()
    store.close()
    assert faults == [("ok",)]
    for handle, payload in story.acknowledged.items():
        assert handle in story.may_end or there.get(handle) == payload, f"lost: {payload!r}"
    assert not there.keys() & (story.ended - story.revived), "what had ended durably is back"
    assert set(there.values()) <= set(story.submitted)
    assert len(set(there.values())) == len(there)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Whatever hangs in here is interrupted."""

    def hangs(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, 2 * PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def try_each(tmp_path: Path, tell: Callable[[Path, int], tuple[Story, Fault]]) -> Counter[str]:
    """The story with the first call failing, with the second one, and so on until none fails; returns how it went."""
    went: Counter[str] = Counter()
    for nth in range(1, 1000):
        directory = tmp_path / str(nth)
        with bounded():
            story, fault = tell(directory, nth)
        must_agree(story, directory)
        if not fault.happened:
            assert story.failed is None, story.failed
            assert len(story.acknowledged) == len(story.submitted) == 8
            assert len(story.ended) == 3
            assert not story.unread
            return went
        went["left" if story.failed else "told" if story.unread else "went on"] += 1
    raise AssertionError("it never came to an end without a fault")


def store_error() -> Exception:
    """What a store may say."""
    return StoreError("the disk does not answer")


def sqlite_error(code: int) -> Exception:
    """What SQLite may say."""
    kind = sqlite3.DatabaseError if code == sqlite3.SQLITE_CORRUPT else sqlite3.OperationalError
    error = kind(f"error {code}")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "?"
    return error


def fails(method: str, error: Callable[[], Exception], after: bool) -> Callable[[Path, int], tuple[Story, Fault]]:
    """The story on a store of which this method fails."""

    def tell(directory: Path, nth: int) -> tuple[Story, Fault]:
        fault = Fault(nth, error, after)
        inner = SqliteStore(str(directory), reserve=0)
        story = Story(FailingStore(inner, method, fault))
        story.run()
        inner.close()
        return story, fault

    return tell


@pytest.mark.parametrize("after", [False, True], ids=["not-done", "done"])
@pytest.mark.parametrize(
    "error", [store_error, functools.partial(sqlite_error, CODES["IOERR"])], ids=["Store", "SQLite"]
)
@pytest.mark.parametrize("method", PROMISING)
def test_a_method_of_the_store_fails(method: str, error: Callable[[], Exception], after: bool, tmp_path: Path) -> None:
    went = try_each(tmp_path, fails(method, error, after))
    assert went["left"] > 0
    assert went["went on"] == 0, "an error of the store was taken for none"
    # A payload that is only to be run again can be refused; one that is given out cannot.
    assert went["told"] == (1 if (method, error) == ("payload", store_error) else 0), went


@pytest.mark.parametrize("after", [False, True], ids=["not-done", "done"])
@pytest.mark.parametrize("method", TELLING)
def test_what_cannot_be_told_is_said_to_who_has_asked(
    method: str, after: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the server goes on."""
    went = try_each(tmp_path, fails(method, store_error, after))
    assert went["told"] > 0
    assert (went["left"], went["went on"]) == (0, 0), went
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert set(lines) == {"cannot read what is kept of jobs that have ended: the disk does not answer"}
    assert len(lines) == went["told"]


def test_every_method_of_a_store_is_among_them() -> None:
    """But those that read nothing, or only call others."""
    assert {*PROMISING, *TELLING, "describe", "give_to", "apply", "keeps"} == {
        name for name, value in vars(Store).items() if callable(value) and not name.startswith("_")
    }


@pytest.fixture
def tell_sqlite(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Fault, type[SqliteStore]], Story]:
    """Tells the story on a store of which a statement fails."""
    connect = sqlite3.connect

    def tell(directory: Path, fault: Fault, kind: type[SqliteStore]) -> Story:
        connection = type("Connection", (FailingConnection,), {"fault": fault})
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", functools.partial(connect, factory=connection))
            store = kind(str(directory), reserve=0)
            story = Story(store)
            story.run()
            store.close()
        return story

    return tell


@pytest.mark.parametrize("after", [False, True], ids=["not-done", "done"])
@pytest.mark.parametrize("code", CODES)
def test_a_statement_fails(code: str, after: bool, tell_sqlite: Callable[..., Story], tmp_path: Path) -> None:
    def tell(directory: Path, nth: int) -> tuple[Story, Fault]:
        fault = Fault(nth, functools.partial(sqlite_error, CODES[code]), after)
        return tell_sqlite(directory, fault, SqliteStore), fault

    went = try_each(tmp_path, tell)
    assert went.total() > 50, "so few statements?"
    # Room can be made when the disk is full, and then it goes on. Nothing else is ever tried again.
    assert (went["went on"] > 0) == (code == "FULL"), went
    assert went["told"] > 0, "no question was refused"


class Swallows(SqliteStore):
    """It takes an error for none."""

    def commit(self) -> None:
        try:
            super().commit()
        except StoreError:
            self._opened().rollback()
            self._open_changes = []


def test_it_notices_an_error_that_is_swallowed(tell_sqlite: Callable[..., Story], tmp_path: Path) -> None:
    def tell(directory: Path, nth: int) -> tuple[Story, Fault]:
        fault = Fault(nth, functools.partial(sqlite_error, CODES["IOERR"]), False)
        return tell_sqlite(directory, fault, Swallows), fault

    with pytest.raises(AssertionError, match="lost: "):
        try_each(tmp_path, tell)


def test_it_notices_a_server_that_leaves_for_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: an error went all the way up."""
    monkeypatch.setattr(journal.Past, "_reading", lambda self: contextlib.nullcontext())
    went = try_each(tmp_path, fails("ended", store_error, False))
    assert (went["told"], went["left"] > 0) == (0, True), went


def test_it_notices_a_question_that_is_answered_as_if_nothing_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.Past, "_reading", lambda self: contextlib.suppress(StoreError))
    with pytest.raises(AssertionError, match="an ERROR of a server that has not failed"):  # JOB_NOT_FOUND
        try_each(tmp_path, fails("about", store_error, False))
