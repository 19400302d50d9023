"""FARM_ASK: questions about jobs, and commands for them. A table of verbs (`farm/protocol/JOBS.md`), each of which
checks the request, calls a rule or looks a job up, and answers in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from farm.broker import cron_asks, explain, finding, functions, record, restart, stops, waiting
from farm.broker.course import Reader, course_of
from farm.broker.effects import Past, Purge
from farm.broker.history import Unreadable
from farm.broker.job import ENDED, FAILED, QUEUED, handle_of, id_of
from farm.errors import PacketRefused
from farm.protocol import extension, packets
from farm.protocol.names import shown
from farm.protocol.packets import RESPONSE, response, with_data

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.function import Function
    from farm.broker.peer import Peer

Json = dict[str, Any]
IDS_MAX = 1000  # jobs that one ask may name
PAGE_MAX = 1000  # jobs that one answer lists
SCANNED_MAX = 20_000  # live jobs that are looked at for one answer: the next page goes on behind them
CURSOR_DIGITS_MAX = 19  # of a job's id, or of what the store counts with; both are below 2**63


def answer(broker: Broker, peer: Peer, verb: bytes, text: bytes, payload: bytes, now: float) -> None:
    """Answer one ask. Raises PacketRefused, and NotYet where it must be put again later."""
    name = verb.decode(errors="replace")
    handler = _QUESTIONS.get(name) or _COMMANDS.get(name)
    if handler is None:
        raise refused(f"Unknown verb: {shown(verb[:40])}")
    if name in _COMMANDS:
        peer.must_be_allowed()
    try:
        request = json.loads(text) if text else {}
    except ValueError:
        raise refused("The request is not JSON") from None
    except RecursionError:
        raise refused("The request is nested too deeply") from None
    if not isinstance(request, dict):
        raise refused("The request is no object")
    try:
        found = handler(broker, peer, Request(request, text, payload), now)
    except UnicodeError:  # JSON can say half a character
        raise refused("A text of the request is no text") from None
    if found is None:
        return
    packet = with_data(RESPONSE, packets.FARM_ANSWER, (verb,), record.dumps(found))
    if name in _COMMANDS or "set" in request:  # what it says has been done is durable
        broker.effects.promise(peer.id, b"".join(packet))
    else:
        broker.effects.send_pieces(peer.id, packet)


def refused(words: str) -> PacketRefused:
    """The request is wrong."""
    return PacketRefused(b"INVALID_REQUEST", words.encode(errors="replace"), close=False)


class Request:
    """The fields of a request, checked. text: as it came. payload: what came behind it."""

    def __init__(self, fields: Json, text: bytes, payload: bytes) -> None:
        self.text = text
        self.payload = payload
        self._fields = fields

    def word(self, name: str, default: str | None = None) -> str:
        """A text. Raises PacketRefused where it is missing and there is no default."""
        value = self._fields.get(name, default)
        if not isinstance(value, str):
            raise refused(f"{name} is no text")
        return value

    def name(self, name: str, default: str | None = None) -> bytes:
        """A name or a handle, as bytes; what is not UTF-8 as os.fsencode has it."""
        word = self.word(name, default)
        try:
            return word.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise refused(f"{name} is no text") from None

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return name in self._fields

    def objects(self, name: str, most: int) -> list[Request]:
        """A list of objects, each as a request of its own."""
        value = self._fields.get(name)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value) or len(value) > most:
            raise refused(f"{name} is no list of at most {most} objects")
        return [Request(each, b"", b"") for each in value]

    def number(self, name: str, default: float, most: float = 2**53) -> float:
        """A number from 0 to `most`."""
        value = self._fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
            raise refused(f"{name} is no number from 0 to {most:g}")
        return value

    def words(self, name: str, most: int = IDS_MAX) -> list[str]:
        """A list of texts; an absent one is empty."""
        value = self._fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value) or len(value) > most:
            raise refused(f"{name} is no list of at most {most} texts")
        return value

    def handles(self) -> list[bytes]:
        """The field `ids`."""
        return [word.encode(errors="surrogatepass") for word in dict.fromkeys(self.words("ids"))]

    def truth(self, name: str) -> bool:
        """Yes or no; absent: no."""
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise refused(f"{name} is neither true nor false")
        return value

    def object(self, name: str) -> Json | None:
        """An object, None where it is absent."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise refused(f"{name} is no object")
        return value


# -- looking jobs up


def _find(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    return {"ids": [shown(handle) for handle in finding.find(broker, request.name("text"))]}


def _jobs(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    """A page of a listing: live jobs first, the newest of them first, then ended ones, the newest end first."""
    states = request.words("states", len(record.STATES))
    if unknown := set(states) - set(record.STATES):
        raise refused(f"There is no state {sorted(unknown)[0][:40]}")
    name = request.word("function", "").encode(errors="surrogatepass")
    since = request.number("since", 0.0)
    limit = int(request.number("limit", PAGE_MAX, PAGE_MAX)) or 1
    where, _, at = request.word("before", "live:").partition(":")
    if (
        where not in ("live", "ended")
        or not (at.isdecimal() or not at)
        or len(at) > CURSOR_DIGITS_MAX
        or int(at or 0) >= 1 << 63
    ):
        raise refused("before is no cursor")
    outcomes = [FAILED if state == record.DEAD else state for state in states]
    if where == "live" and (not outcomes or set(outcomes) - ENDED):
        listed, more = _live_page(broker, set(outcomes), name, since, limit, int(at or 0), now)
        if more:
            return {"jobs": listed, "more": more}
        if len(listed) >= limit:
            return {"jobs": listed, "more": "ended:"}
        at = ""
    else:
        listed, at = [], at if where == "ended" else ""
    if outcomes and not set(outcomes) & ENDED:
        return {"jobs": listed, "more": None}
    wanted = [outcome for outcome in outcomes if outcome in ENDED]
    pasts = broker.history.past(limit - len(listed), int(at or 0), name, wanted, since)
    cursor = f"ended:{pasts[-1].n}" if len(pasts) == limit - len(listed) else None
    return {"jobs": listed + [record.of_past(past) for past in pasts], "more": cursor}


def _live_page(
    broker: Broker, states: set[str], name: bytes, since: float, limit: int, before: int, now: float
) -> tuple[list[Json], str]:
    """The jobs, and the cursor of the next page, empty: there is none."""
    listed: list[Json] = []
    created_min, scanned = since - broker.wall_offset, 0
    # In the order in which they came; those that were run again came again. Where the last one of the page before has
    # gone meanwhile, it goes on with those that were submitted before it.
    seek = before and handle_of(before) in broker.jobs
    for job in reversed(broker.jobs.values()):
        if seek:
            seek = job.id != before
            continue
        if before and job.id >= before and handle_of(before) not in broker.jobs:
            continue
        scanned += 1
        if (
            (not states or job.state in states)
            and (not name or job.function.name == name)
            and job.queued_at >= created_min
            and not (job.course and job.course.ended)
        ):
            listed.append(record.of_job(broker, job, now))
        if len(listed) >= limit or scanned >= SCANNED_MAX:
            return listed, f"live:{job.id}"
    return listed, ""


def _job(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    handle = request.name("id")
    job = waiting.live(broker, handle)
    stopping = shown(stops.named(broker, id_of(handle))) or None
    if job is not None:
        found = record.of_job(broker, job, now)
        found["stopping"] = stopping
        kept = broker.history.attempts(job.id) if job.background else []
        found["ahead"] = explain.ahead_of(job) if job.state == QUEUED else None
        found["attempts_list"] = record.attempts_of_job(broker, job, kept, now)
        return {"job": found}
    past = _past(broker, handle)
    found = record.of_past(past)
    found["stopping"] = stopping
    end, kept = broker.history.ended(past.id), broker.history.attempts(past.id)
    found["attempts_list"] = record.attempts_of_past(past, kept, end.log if end else b"")
    return {"job": found}


def _past(broker: Broker, handle: bytes) -> Past:
    id = id_of(handle)
    past = broker.history.about(id) if id else None
    if past is None:
        raise PacketRefused(b"JOB_NOT_FOUND", b"There is no job " + handle[:64], close=False)
    return past


def _output(broker: Broker, peer: Peer, request: Request, now: float) -> None:
    """What it has written beyond what the peer has. With `wait`: once there is more, or it has ended."""
    handle = request.name("id")
    number = int(request.number("number", 0))
    have = {stream: int(request.number(stream, 0)) for stream in ("result", "log")}
    job = waiting.live(broker, handle)
    if job is not None:
        found = record.of_job(broker, job, now)
        have = have if number == found["attempts"] else dict.fromkeys(have, 0)
        streams = [b"", b""]
        if job.report and (job.worker is not None or number == found["attempts"]):
            report = job.report
            streams = [
                beyond(report.result, report.result_size, have["result"]),
                beyond(report.log, report.log_size, have["log"]),
            ]  # and nothing between two attempts: the earlier one's has been said, or does not count
    else:
        past = _past(broker, handle)
        found = record.of_past(past)
        have = have if number == found["attempts"] else dict.fromkeys(have, 0)
        end = broker.history.ended(past.id)
        streams = [end.result[have["result"] :], end.log[have["log"] :]] if end else [b"", b""]
    if job is not None and request.truth("wait") and not any(streams):
        course = course_of(job)
        course.readers = [reader for reader in course.readers if reader.peer is not peer]  # one question is enough
        course.readers.append(Reader(peer, b"output\0" + request.text + b"\0"))
        peer.waits[job.handle] = job
        return
    for stream, data in zip((b"result", b"log"), streams, strict=True):
        broker.effects.send_pieces(peer.id, with_data(RESPONSE, packets.FARM_OUTPUT, (handle, stream), data))
    data = record.dumps({"job": found})
    broker.effects.send_pieces(peer.id, with_data(RESPONSE, packets.FARM_ANSWER, (b"output",), data))


def beyond(pieces: list[bytes], size: int, have: int) -> bytes:
    """What there is beyond the first `have` bytes of so many. Only that is looked at: whoever follows a job asks after
    each piece of what may be very much."""
    new: list[bytes] = []
    for piece in reversed(pieces):
        if size <= have:
            break
        size -= len(piece)
        new.append(piece[max(0, have - size) :])
    return b"".join(reversed(new))


def _wait(broker: Broker, peer: Peer, request: Request, now: float) -> None:
    handles = request.handles()
    pasts = {handle: _ended(broker, handle) for handle in handles}  # before anything is answered: it may be too early
    unknown = [handle for handle, past in pasts.items() if past is None and waiting.live(broker, handle) is None]
    data = record.dumps({"unknown": [shown(handle) for handle in unknown]})
    broker.effects.send_pieces(peer.id, with_data(RESPONSE, packets.FARM_ANSWER, (b"wait",), data))
    for handle, past in pasts.items():
        job = waiting.live(broker, handle)
        if job is not None:
            if peer not in course_of(job).waiters:
                course_of(job).waiters.append(peer)
            peer.waits[handle] = job
        elif past is not None:
            end = record.end(past.outcome, past.reason, past.exit_code)
            broker.effects.send(peer.id, response(packets.FARM_ENDED, handle, end))


def _ended(broker: Broker, handle: bytes) -> Past | None:
    if waiting.live(broker, handle) is not None or not id_of(handle):
        return None
    return broker.history.about(id_of(handle))


def _explain(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    handle = request.name("id")
    job = waiting.live(broker, handle)
    if job is None:
        past = _past(broker, handle)
        return {"job": record.of_past(past), "reasons": explain.of_past(broker, past, now)}
    return {"job": record.of_job(broker, job, now), "reasons": explain.of_job(broker, job, now)}


# -- changing jobs


def _each(change: Callable[[Broker, bytes, Request, float], str]) -> Verb:
    """A command for each of several jobs. What cannot be decided yet is found out before anything is changed."""

    def changes(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
        handles = request.handles()
        lived = {handle for handle in handles if _ended(broker, handle) is None and waiting.live(broker, handle)}
        results = []
        for handle in handles:
            gone = handle in lived and waiting.live(broker, handle) is None  # with another one, on which it depended
            try:
                outcome = "cancelled" if gone else change(broker, handle, request, now)
            except Unreadable:  # the others may have been changed, and that must be told
                outcome = "unreadable"
            results.append({"id": shown(handle), "outcome": outcome})
        return {"results": results}

    return changes


REASON_MAX = 200  # characters of why a job was cancelled


def _cancel(broker: Broker, handle: bytes, request: Request, now: float) -> str:
    job = waiting.live(broker, handle)
    if job is None:
        return "unknown" if _ended(broker, handle) is None else "ended"
    reason = " ".join(request.word("reason", "").split())[:REASON_MAX]
    outcome = broker.drop(job, reason.encode(errors="replace"), now)
    return {extension.CANCEL_TOLD: "told", extension.CANCEL_UNHEARD: "unheard"}.get(outcome, "cancelled")


def _retry(broker: Broker, handle: bytes, request: Request, now: float) -> str:
    """Run a job that did not end well once more, under its handle, with all its retries."""
    if waiting.live(broker, handle) is not None:
        return "live"
    past = _ended(broker, handle)
    if past is None:
        return "unknown"
    refusal = restart.refusal(broker, past)
    if not refusal:
        restart.revive(broker, past, broker.history.payload(past.id), now)
    return refusal or "queued"


def _purge(broker: Broker, handle: bytes, request: Request, now: float) -> str:
    if waiting.live(broker, handle) is not None:
        return "live"
    if _ended(broker, handle) is None:
        return "unknown"
    broker.effects.changes.append(Purge(id_of(handle)))
    return "purged"


# -- functions


def _pause(paused: bool) -> Verb:
    def pause(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
        function = broker.function(request.name("function"))
        functions.pause(broker, function, paused, now)
        return {"function": _shown_function(function)}

    return pause


def _functions(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    return {"functions": [_shown_function(function) for function in broker.functions.values()]}


def _function(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    name, settings = request.name("function"), request.object("set")
    if settings is None:
        known = broker.functions.get(name)
        if known is None:
            raise PacketRefused(b"UNKNOWN_FUNCTION", b"There is no function " + name[:64], close=False)
        return {"function": _shown_function(known)}
    peer.must_be_allowed()
    if not all(value is None or isinstance(value, str) for value in settings.values()):
        raise refused("a setting is a text or null")
    function = broker.function(name)
    functions.change(broker, function, settings)
    return {"function": _shown_function(function)}


def _shown_function(function: Function) -> Json:
    return {
        "function": shown(function.name),
        "queued": function.queued,
        "running": function.running,
        "delayed": function.delayed,
        "waiting": function.waiting,
        "workers": len(function.workers),
        "paused": function.paused,
        "settings": functions.settings(function),
    }


Verb = Callable[["Broker", "Peer", Request, float], "Json | None"]

_QUESTIONS: dict[str, Verb] = {
    "find": _find,
    "jobs": _jobs,
    "job": _job,
    "output": _output,
    "wait": _wait,
    "explain": _explain,
    "functions": _functions,
    "function": _function,
    "cron": cron_asks.list_entries,
}
_COMMANDS: dict[str, Verb] = {
    "cancel": _each(_cancel),
    "retry": _each(_retry),
    "purge": _each(_purge),
    "pause": _pause(True),
    "resume": _pause(False),
    "cron add": cron_asks.add,
    "cron remove": cron_asks.remove,
    "cron pause": cron_asks.pause,
    "cron resume": cron_asks.resume,
    "cron run": cron_asks.run,
}
VERBS = (*_QUESTIONS, *_COMMANDS)
