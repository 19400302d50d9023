"""From packet to rule: a table of handlers, each of which parses, calls one rule and answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from farm.broker import admin, asks, cron_asks, finding, giving_up, record, stops, waiting
from farm.broker.broker import Broker
from farm.broker.course import course_of
from farm.broker.function import Function
from farm.broker.history import NotYet, Unreadable
from farm.broker.job import HIGH, LOW, NORMAL, Job, handle_of, id_of
from farm.broker.keeping import Report
from farm.broker.peer import Peer
from farm.broker.terms import ATTACH, REPLACE, Submission, Terms, parse, parse_submission
from farm.errors import EXIT_WORKER_FAILED, PacketRefused, PacketTooLarge
from farm.protocol import extension, packets
from farm.protocol.extension import parse_exit_trailer
from farm.protocol.limits import CLIENT_ID_MAX, JOIN_MAX, NUMBER_MAX, UNIQUE_MAX
from farm.protocol.names import one_word
from farm.protocol.packets import KINDS, RESPONSE, Kind, response, split, with_data

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
        elif number in _RELAYED:
            _relayed(broker, peer, number, body, now)
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


# The packets of a running job, with the text that gearmand answers when the job is not this worker's.
_NOT_YOURS = b"Job given in work result not found"
_RELAYED: Final = {
    packets.WORK_STATUS: _NOT_YOURS,
    packets.WORK_COMPLETE: _NOT_YOURS,
    packets.WORK_FAIL: _NOT_YOURS,
    packets.WORK_EXCEPTION: b"An exception was received for a job that does not exist",
    packets.WORK_DATA: b"Job does not exist on server",
    packets.WORK_WARNING: b"Job does not exist on server",
}
_ENDS = (packets.WORK_COMPLETE, packets.WORK_FAIL, packets.WORK_EXCEPTION)


def _relayed(broker: Broker, peer: Peer, number: int, body: bytes, now: float) -> None:
    """A worker's packet about a job: passed on as it is to everybody who waits for the job."""
    end = body.find(b"\0")
    if end < 0:
        handle, body = _lone_handle(KINDS[number], body)
    else:
        handle = body[:end]  # some workers end a lone handle with NUL
    job = broker.held(peer, handle)
    if job is None:
        _report_on_no_job(broker, peer, number, handle, now)
        return
    if number == packets.WORK_EXCEPTION:
        _exception(broker, peer, job, body, now)
        return
    if number == packets.WORK_FAIL:
        if broker.try_again(job, now):
            return
        body = handle
    elif number == packets.WORK_STATUS:
        _remember_progress(job, split(KINDS[number], body))
    elif len(body) > len(handle) + 1:
        job.streamed = True
        if number == packets.WORK_WARNING:
            _remember_exit(job, body[len(handle) + 1 :])
    if job.watchers:
        broker.relay(job, _packet(number, body))
    if job.background and len(body) > len(handle) + 1:
        _remember(broker, job, number, body[len(handle) + 1 :])
    if number == packets.WORK_COMPLETE or number == packets.WORK_FAIL:
        broker.finish(job, number == packets.WORK_COMPLETE, now)


def _lone_handle(kind: Kind, body: bytes) -> tuple[bytes, bytes]:
    """The handle, and the body as it should have been, where there is nothing but a handle."""
    if len(kind.args) > 1:
        split(kind, body)  # raises, for an argument is missing
    # Perl's worker leaves the NUL out where the data is empty; clients count on it.
    return body, body + b"\0" if kind.data else body


def _report_on_no_job(broker: Broker, peer: Peer, number: int, handle: bytes, now: float) -> None:
    if not _absorbed(broker, peer, number, handle, now):
        raise PacketRefused(b"JOB_NOT_FOUND", _RELAYED[number], close=False)


def fail_for_size(broker: Broker, peer: Peer, refused: PacketTooLarge, now: float) -> None:
    """The decoder did not take a worker's packet, and its connection closes. The job that it was about has failed:
    given to another worker it would end in the same way, again and again. A worker that runs several jobs on one
    connection says which it is in the packet's first bytes; if they had not come, all of them go to other workers."""
    if refused.number not in _RELAYED:
        return
    job = broker.held(peer, refused.begin.partition(b"\0")[0])
    if job is None and len(peer.holds) == 1:
        (job,) = peer.holds.values()
    if job is None:
        return
    words = b"farm: the server does not take what the job's worker sent: %s (--max-job-size)\n" % refused.text
    for warning in (words, extension.exit_trailer(EXIT_WORKER_FAILED, extension.ORIGIN_FARM)):
        _relayed(broker, peer, packets.WORK_WARNING, job.handle + b"\0" + warning, now)
    _relayed(broker, peer, packets.WORK_FAIL, job.handle, now)


def _absorbed(broker: Broker, peer: Peer, number: int, handle: bytes, now: float) -> bool:
    """Whether this report on a job that is no longer the worker's is dropped without an answer. Perl and PHP workers
    send WORK_FAIL after WORK_EXCEPTION, and a worker whose time was up does not know it: an ERROR would end the loop of
    libgearman's, PHP's and Perl's workers."""
    if handle and handle == peer.ended and number in (packets.WORK_FAIL, packets.WORK_COMPLETE):
        peer.ended = b""
        return True
    if handle not in peer.late:
        return False
    if number in _ENDS:
        peer.late_end(handle)
        if handle not in peer.late:
            stops.reported(broker, peer, handle, now)
    if number == packets.WORK_EXCEPTION:
        peer.ended = handle
    return True


def _packet(number: int, body: bytes) -> tuple[bytes, ...]:
    head = packets.header(RESPONSE, number, len(body))
    return (head + body,) if len(body) <= JOIN_MAX else (head, body)


def _exception(broker: Broker, peer: Peer, job: Job, body: bytes, now: float) -> None:
    """It ends the attempt. A client that did not ask for exceptions gets WORK_FAIL, with the bare handle: with
    gearmand's trailing NUL, libgearman's clients wait for ever."""
    if job.background:
        _remember(broker, job, packets.WORK_EXCEPTION, body[len(job.handle) + 1 :])
    peer.ended = job.handle
    if broker.try_again(job, now):
        return
    whole, failed = _packet(packets.WORK_EXCEPTION, body), response(packets.WORK_FAIL, job.handle)
    for watcher in job.watchers:
        broker.effects.send_pieces(watcher.id, whole if watcher.exceptions or broker.rules.exceptions else (failed,))
    broker.finish(job, False, now)


def _remember(broker: Broker, job: Job, number: int, data: bytes) -> None:
    if number == packets.WORK_STATUS or not broker.rules.result_max:
        return
    if job.report is None:
        job.report = Report(broker.rules.result_max)
    job.report.take(number, data)
    if job.course and job.course.readers:
        waiting.tell_readers(broker, job)


def _remember_exit(job: Job, warning: bytes) -> None:
    """Keep the exit code, if this is the trailer that tells it."""
    if trailer := parse_exit_trailer(warning):
        course = course_of(job)
        course.exit_code, course.exit_is_farms = trailer[0], trailer[1] == extension.ORIGIN_FARM


def _remember_progress(job: Job, args: list[bytes]) -> None:
    """Keep the numbers for GET_STATUS, where what is no number counts as 0. They are passed on as they were sent."""
    _, numerator, denominator = args
    job.numerator = numerator if numerator.isdigit() and len(numerator) <= NUMBER_MAX else b"0"
    job.denominator = denominator if denominator.isdigit() and len(denominator) <= NUMBER_MAX else b"0"


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
