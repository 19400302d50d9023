"""From packet to rule: a table of handlers, each of which parses, calls one rule and answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from farm.broker import admin, asks, cron_asks, finding, giving_up, record, reports, stops, waiting
from farm.broker.broker import Broker
from farm.broker.course import course_of
from farm.broker.function import Function
from farm.broker.history import NotYet, Unreadable
from farm.broker.job import HIGH, LOW, NORMAL, handle_of, id_of
from farm.broker.peer import Peer
from farm.broker.reports import REPORTS
from farm.broker.terms import ATTACH, REPLACE, Submission, Terms, parse, parse_submission
from farm.errors import PacketRefused
from farm.protocol import extension, packets
from farm.protocol.limits import CLIENT_ID_MAX, NUMBER_MAX, UNIQUE_MAX
from farm.protocol.names import one_word
from farm.protocol.packets import KINDS, RESPONSE, response, split, with_data

Handler = Callable[[Broker, Peer, list[bytes], float], None]

SHORT_MAX = 4  # jobs to wait for that are not said by their whole handle: each is looked for among all
TERMS_MAX = 1000  # functions for which a worker may say what holds
MEASURE_MAX = 2.0**62  # what the journal can keep of a number

_UNREADABLE = b"What is kept of jobs that have ended cannot be read; the server's log says why"

TIMEOUT_MIN_MS = 1000  # gearmand raises a CAN_DO_TIMEOUT below a second to a second


def receive(broker: Broker, peer: Peer, number: int, body: bytes, now: float) -> None:
    """One whole packet or admin line of `peer`. What must happen is appended to `broker.effects`."""
    if peer.refused:
        return  # its connection closes: it would never hear what came of this
    try:
        handler = _HANDLERS.get(number)
        if handler is not None:
            handler(broker, peer, split(KINDS[number], body), now)
        elif number in REPORTS:
            reports.receive(broker, peer, number, body, now)
        elif number == packets.TEXT:
            admin.answer(broker, peer, body, now)
        elif number == packets.MISDIRECTED:
            raise PacketRefused(b"INVALID_MAGIC", b"Request magic expected", close=False)
        else:
            raise PacketRefused(b"INVALID_COMMAND", b"Command not expected", close=False)
    except PacketRefused as refused:
        refuse(broker, peer, refused)
    except Unreadable:
        refuse(broker, peer, PacketRefused(b"STORE_ERROR", _UNREADABLE, close=False))
    except NotYet:
        broker.later.append((peer.id, number, body))


def refuse(broker: Broker, peer: Peer, refused: PacketRefused) -> None:
    """Answer ERROR, and close the connection where nothing sensible can follow."""
    broker.effects.send(peer.id, response(packets.ERROR, refused.code, refused.text))
    if refused.close:
        peer.refused = True
        broker.effects.close(peer.id)


# -- clients

_SUBMITS = {
    packets.SUBMIT_JOB: (NORMAL, False),
    packets.SUBMIT_JOB_BG: (NORMAL, True),
    packets.SUBMIT_JOB_HIGH: (HIGH, False),
    packets.SUBMIT_JOB_HIGH_BG: (HIGH, True),
    packets.SUBMIT_JOB_LOW: (LOW, False),
    packets.SUBMIT_JOB_LOW_BG: (LOW, True),
}


def _submit(priority: int, background: bool) -> Handler:
    def submit(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
        function, unique, payload = args
        broker.submit(peer, function, unique, priority, background, payload, now)

    return submit


def _submit_reduce(background: bool) -> Handler:
    def submit(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
        function, unique, reducer, _, payload = args
        if len(reducer) > UNIQUE_MAX:
            raise PacketRefused(b"ARGUMENT_TOO_LARGE", b"Reducer value too large", close=False)
        broker.submit(peer, function, unique, NORMAL, background, payload, now, reducer=reducer)

    return submit


def _submit_epoch(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    """A background job for later. As in gearmand, what is no number and what is past means now."""
    function, unique, epoch, payload = args
    digits = epoch.strip().removeprefix(b"+")
    if len(digits) > NUMBER_MAX:
        raise PacketRefused(b"INVALID_PACKET", b"Epoch too long")
    due = float(digits) if digits.isdigit() else 0.0
    broker.submit(peer, function, unique, NORMAL, True, payload, now, due=due)


def _submit_with_terms(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    """A job with terms, and what to do when there is one of its key."""
    _must_know_extension(peer)
    name, unique, words, payload = args
    wanted = parse_submission(words, now + broker.wall_offset)
    if broker.stopping:
        raise PacketRefused(b"SHUTDOWN", b"Server is shutting down", close=False)
    if wanted.terms.after:
        if sum(not id_of(text) for _, text in wanted.terms.after) > SHORT_MAX:
            raise PacketRefused(b"INVALID_REQUEST", b"after names too many jobs by a part of their handle", close=False)
        after = tuple((condition, finding.one_handle(broker, text)) for condition, text in wanted.terms.after)
        wanted = wanted._replace(terms=wanted.terms._replace(after=after))
    if unique and unique != b"-" and not _may_submit(broker, peer, broker.function(name), unique, wanted, now):
        return
    broker.submit(
        peer,
        name,
        unique,
        wanted.priority,
        wanted.background,
        payload,
        now,
        due=wanted.due,
        terms=wanted.terms,
        unique_for_s=wanted.unique_for_s,
        replaces=wanted.if_exists == REPLACE and unique not in (b"", b"-"),
    )


def _may_submit(broker: Broker, peer: Peer, function: Function, unique: bytes, wanted: Submission, now: float) -> bool:
    """Whether a job of this key is to be submitted, or joined; else its client was told of the one that there is."""
    live = function.coalescing.get(unique)
    id = live.id if live else waiting.holder(function, unique, now + broker.wall_offset)
    if id and wanted.if_exists == REPLACE and not (live and not live.background and live.watchers == [peer]):
        peer.must_be_allowed()  # as for any other way to end a job that is not its own
    if not id or wanted.if_exists == REPLACE or (live and wanted.if_exists == ATTACH):
        return True
    known = live or waiting.live(broker, handle_of(id))
    state = record.shown_state(known.state) if known else _state_of_past(broker, id)
    broker.effects.promise(peer.id, response(packets.FARM_EXISTS, handle_of(id), state.encode()))
    return False


def _state_of_past(broker: Broker, id: int) -> str:
    past = broker.history.about(id)
    return record.shown_state(past.outcome) if past else "ended"


def _ask(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    _must_know_extension(peer)
    verb, request, payload = args
    asks.answer(broker, peer, verb, request, payload, now)


def _must_know_extension(peer: Peer) -> None:
    if not peer.extension:
        raise PacketRefused(b"INVALID_COMMAND", b"Command not expected", close=False)


def _get_status_unique(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    """Of all functions, as in gearmand: where two use the same key, the function that was mentioned first wins."""
    (unique,) = args
    job = broker.uniques.first(unique)
    if job is None:
        status = (b"0", b"0", b"0", b"0", b"0")
    else:
        running, watchers = b"1" if job.worker else b"0", b"%d" % len(job.watchers)
        status = (b"1", running, job.numerator, job.denominator, watchers)
    broker.effects.send(peer.id, response(packets.STATUS_RES_UNIQUE, unique, *status))


def _get_status(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    (handle,) = args
    job = broker.jobs.get(handle)
    if job is None:
        status = (b"0", b"0", b"0", b"0")
    else:
        status = (b"1", b"1" if job.worker else b"0", job.numerator, job.denominator)
    broker.effects.send(peer.id, response(packets.STATUS_RES, handle, *status))


def _cancel(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    _must_know_extension(peer)
    (handle,) = args
    outcome = giving_up.cancel(broker, peer, handle, now)
    broker.effects.send(peer.id, response(packets.FARM_CANCEL_RES, handle, outcome))


# -- anybody


def _echo(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    if peer.sync:
        broker.effects.promise(peer.id, response(packets.ECHO_RES, args[0]))
    else:
        broker.effects.send_pieces(peer.id, with_data(RESPONSE, packets.ECHO_RES, (), args[0]))


def _option(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    (option,) = args
    if option.lower() == b"exceptions":
        peer.exceptions = True
    elif option == extension.OPTION:
        peer.extension = True
    elif option == extension.OPTION_HEARTBEAT and peer.extension:
        _start_heartbeats(broker, peer)
        return
    elif option == extension.SYNC_OPTION:
        peer.sync = True
    else:
        raise PacketRefused(b"UNKNOWN_OPTION", b"Server does not recognize given option", close=False)
    broker.effects.send(peer.id, response(packets.OPTION_RES, option))


def _start_heartbeats(broker: Broker, peer: Peer) -> None:
    """The first one goes out at once: it says how often the peer's own are expected."""
    peer.heartbeats = True
    broker.effects.send(peer.id, response(packets.OPTION_RES, extension.OPTION_HEARTBEAT))
    if broker.about.heartbeat_ms:
        broker.beating[peer.id] = peer
        broker.effects.send(peer.id, response(packets.FARM_HEARTBEAT, b"%d" % broker.about.heartbeat_ms))


def _alive(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    """Its heartbeat. That it came is all."""
    if not peer.heartbeats:
        raise PacketRefused(b"INVALID_COMMAND", b"Command not expected", close=False)


def _set_client_id(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    peer.client_id = one_word(args[0][:CLIENT_ID_MAX]) or b"-"


# -- workers


def _can_do(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    broker.can_do(peer, args[0], 0.0, now)


def _can_do_timeout(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    function, timeout = args
    digits = timeout.strip()
    if len(digits) > NUMBER_MAX:
        raise PacketRefused(b"INVALID_PACKET", b"Timeout too long")
    timeout_ms = int(digits) if digits.isdigit() else 0
    broker.can_do(peer, function, max(timeout_ms, TIMEOUT_MIN_MS) / 1000 if timeout_ms else 0.0, now)


def _worker_terms(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    """What holds for jobs that this worker runs and that do not say otherwise."""
    _must_know_extension(peer)
    name, words = args
    said = parse(words)
    terms = Terms(said.retries, said.retry_on, said.backoff_s, said.backoff_max_s)
    if len(peer.terms) >= TERMS_MAX and name not in peer.terms:
        raise PacketRefused(b"QUEUE_ERROR", b"Terms for too many functions", close=False)
    broker.function(name)
    peer.terms[name] = terms


def _usage(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    """What the command of a job used."""
    _must_know_extension(peer)
    handle, cpu, peak = args
    cpu_s, peak_bytes = _measure(cpu), int(_measure(peak))
    if stops.used(broker, peer, handle, cpu_s, peak_bytes):
        return
    job = broker.held(peer, handle)
    if job is not None:  # or it was taken from the worker, which does not know that yet
        course = course_of(job)
        course.cpu_s, course.peak = cpu_s, peak_bytes


def _measure(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        return -1.0
    return value if 0 <= value <= MEASURE_MAX else -1.0


def _cannot_do(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    broker.cannot_do(peer, args[0], now)


def _reset_abilities(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    broker.reset_abilities(peer, now)


def _pre_sleep(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    broker.pre_sleep(peer, now)


_NO_JOB: Final = response(packets.NO_JOB)


def _grab(reply: int) -> Handler:
    def grab(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
        job = broker.grab(peer, now)
        if job is None:
            broker.effects.send(peer.id, _NO_JOB)
            return
        number = reply
        head: tuple[bytes, ...] = (job.handle, job.function.name)
        if reply != packets.JOB_ASSIGN:
            head += (job.unique,)
        if reply == packets.JOB_ASSIGN_ALL:
            if job.reducer:
                head += (job.reducer,)
            else:
                number = packets.JOB_ASSIGN_UNIQ  # as gearmand
        if job.payload is not None:
            broker.effects.send_pieces(peer.id, with_data(RESPONSE, number, head, job.payload))
        else:
            names = b"\0".join(head) + b"\0"
            packet = packets.header(RESPONSE, number, len(names) + job.payload_size) + names
            broker.effects.send(peer.id, packet)
            broker.effects.send_payload(peer.id, job.id)

    return grab


_HANDLERS: Final[dict[int, Handler]] = {
    **{number: _submit(priority, background) for number, (priority, background) in _SUBMITS.items()},
    packets.SUBMIT_REDUCE_JOB: _submit_reduce(background=False),
    packets.SUBMIT_REDUCE_JOB_BACKGROUND: _submit_reduce(background=True),
    packets.SUBMIT_JOB_EPOCH: _submit_epoch,
    packets.SUBMIT_JOB_SCHED: cron_asks.schedule,
    packets.GET_STATUS: _get_status,
    packets.GET_STATUS_UNIQUE: _get_status_unique,
    packets.FARM_CANCEL: _cancel,
    packets.FARM_SUBMIT: _submit_with_terms,
    packets.FARM_ASK: _ask,
    packets.FARM_TERMS: _worker_terms,
    packets.FARM_USAGE: _usage,
    packets.ECHO_REQ: _echo,
    packets.OPTION_REQ: _option,
    packets.SET_CLIENT_ID: _set_client_id,
    packets.FARM_ALIVE: _alive,
    packets.CAN_DO: _can_do,
    packets.CAN_DO_TIMEOUT: _can_do_timeout,
    packets.CANT_DO: _cannot_do,
    packets.RESET_ABILITIES: _reset_abilities,
    packets.PRE_SLEEP: _pre_sleep,
    packets.GRAB_JOB: _grab(packets.JOB_ASSIGN),
    packets.GRAB_JOB_UNIQ: _grab(packets.JOB_ASSIGN_UNIQ),
    packets.GRAB_JOB_ALL: _grab(packets.JOB_ASSIGN_ALL),
}
