"""What workers report on the jobs that they run: output, progress, and the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.broker import stops, waiting
from farm.broker.course import course_of
from farm.broker.keeping import Report
from farm.errors import EXIT_WORKER_FAILED, PacketRefused
from farm.protocol import extension, packets
from farm.protocol.extension import parse_exit_trailer
from farm.protocol.limits import JOIN_MAX, NUMBER_MAX
from farm.protocol.packets import KINDS, RESPONSE, Kind, response, split

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.job import Job
    from farm.broker.peer import Peer
    from farm.errors import PacketTooLarge

# The packets of a running job, with the text that gearmand answers when the job is not this worker's.
_NOT_YOURS = b"Job given in work result not found"
REPORTS: Final = {
    packets.WORK_STATUS: _NOT_YOURS,
    packets.WORK_COMPLETE: _NOT_YOURS,
    packets.WORK_FAIL: _NOT_YOURS,
    packets.WORK_EXCEPTION: b"An exception was received for a job that does not exist",
    packets.WORK_DATA: b"Job does not exist on server",
    packets.WORK_WARNING: b"Job does not exist on server",
}
_ENDS = (packets.WORK_COMPLETE, packets.WORK_FAIL, packets.WORK_EXCEPTION)


def receive(broker: Broker, peer: Peer, number: int, body: bytes, now: float) -> None:
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
        raise PacketRefused(b"JOB_NOT_FOUND", REPORTS[number], close=False)


def fail_for_size(broker: Broker, peer: Peer, refused: PacketTooLarge, now: float) -> None:
    """The decoder did not take a worker's packet, and its connection closes. The job that it was about has failed:
    given to another worker it would end in the same way, again and again. A worker that runs several jobs on one
    connection says which it is in the packet's first bytes; if they had not come, all of them go to other workers."""
    if refused.number not in REPORTS:
        return
    job = broker.held(peer, refused.begin.partition(b"\0")[0])
    if job is None and len(peer.holds) == 1:
        (job,) = peer.holds.values()
    if job is None:
        return
    words = b"farm: the server does not take what the job's worker sent: %s (--max-job-size)\n" % refused.text
    for warning in (words, extension.exit_trailer(EXIT_WORKER_FAILED, extension.ORIGIN_FARM)):
        receive(broker, peer, packets.WORK_WARNING, job.handle + b"\0" + warning, now)
    receive(broker, peer, packets.WORK_FAIL, job.handle, now)


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
