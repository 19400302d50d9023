"""Why a job is not running, or how it ended: reasons that a person can do something about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.broker import record, restart, stops, tries
from farm.broker.job import ABANDONED, DELAYED, QUEUED, RUNNING, WAITING, handle_of, id_of
from farm.protocol.names import shown

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.effects import Past
    from farm.broker.job import Job

Reasons = list[dict[str, Any]]


def _reason(code: str, text: str, hint: str = "", **more: object) -> dict[str, Any]:
    return {"code": code, "text": text, "hint": hint, **more}


def of_job(broker: Broker, job: Job, now: float) -> Reasons:
    """Of a job that has not ended."""
    reasons: Reasons = []
    name = shown(job.function.name)
    if job.state == RUNNING:
        text = f"it runs at {shown(job.worker_name)} since {now - job.started_at:.1f} s"
        reasons.append(_reason("running", text, f"farm logs -f {shown(job.handle)}"))
        return reasons
    if job.state == ABANDONED:
        text = "nobody waits for it any more; its worker has not given it up yet"
        return [_reason("abandoned", text), *_stopping(broker, job.id)]
    if job.state == WAITING:
        for condition, handle in tries.waits_for(job):
            text = f"it waits for {shown(handle)} to end ({shown(condition)})"
            if worker := stops.named(broker, id_of(handle)):
                text = f"it waits for {shown(handle)}: its command is still being stopped on worker {shown(worker)}"
            reasons.append(_reason("waiting", text, f"farm explain {shown(handle)}", id=shown(handle)))
    reasons += _stopping(broker, job.id)
    if job.state == DELAYED and (not reasons or job.due > now + broker.wall_offset):
        code = "back-off" if job.course and job.course.failures else "delayed"
        left_s = job.due - now - broker.wall_offset
        text = f"its time comes in {left_s:.1f} s"
        if code == "back-off":
            text = f"it failed ({record.of_job(broker, job, now)['reason']}); it runs again in {left_s:.1f} s"
        reasons.append(_reason(code, text, due_at=job.due))
    if job.function.paused:
        reasons.append(_reason("paused", f"the function {name} is paused", f"farm resume {name}"))
    if not job.function.workers:
        reasons.append(_reason("no-worker", f"no worker offers {name}", f"start one: farm work {name} -- COMMAND"))
    elif job.state == QUEUED and not job.function.paused:
        reasons += _in_line(job)
    return reasons


def _stopping(broker: Broker, id: int) -> Reasons:
    """Where an attempt of the job was taken from its worker, and may run yet."""
    worker = stops.named(broker, id)
    text = f"its command is still being stopped on worker {shown(worker)}"
    return [_reason("stopping", text, worker=shown(worker))] if worker else []


def _in_line(job: Job) -> Reasons:
    ahead = ahead_of(job)
    workers = len(job.function.workers)
    if ahead:
        return [_reason("ahead", f"{ahead} jobs come before it; {workers} workers offer its function", ahead=ahead)]
    return [_reason("next", f"it is next; all {workers} workers of its function are busy, or about to take it")]


def ahead_of(job: Job) -> int:
    """How many queued jobs of its function are given out before a queued one (it walks the queue)."""
    before = sum(len(queue) for queue in job.function.queues[: job.priority])
    return before + job.function.queues[job.priority].waiting().index(job)


def of_past(broker: Broker, past: Past, now: float) -> Reasons:
    """Of an ended job, and what stands against running it again."""
    shown_past = record.of_past(past)
    state, handle = shown_past["state"], shown_past["id"]
    why = f" ({shown_past['reason']})" if shown_past["reason"] else ""
    refusal = restart.refusal(broker, past)
    hint = f"farm result {handle}" if refusal == "done" else f"farm logs {handle}"
    if not refusal:
        hint += f"; farm retry {handle}"
    reasons = [_reason("ended", f"it has ended: {state}{why}", hint), *_stopping(broker, past.id)]
    return reasons + _REFUSED[refusal](broker, past, now) if refusal in _REFUSED else reasons


def _held(broker: Broker, past: Past, now: float) -> Reasons:
    """What `farm retry` waits for, and until when at most. A worker that runs a command ends it, within seconds; nobody
    can end a function of the library, and a stock worker is not told. A job that its worker has still is its worker's
    until that has reported the end; of one that was taken away, nobody waits for that for longer than for a command."""
    handle = shown(handle_of(past.id))
    job, stop = broker.jobs.get(handle_of(past.id)), broker.stops.by_id.get(past.id)
    if job is not None:
        worker, until = job.worker_name, broker.timeouts.of(job)
        if until is not None and stop is not None:
            until = max(until, stop.until)
    else:
        assert stop is not None
        worker, until = stop.name, stop.until
    text = f"it can be run again when worker {shown(worker)} has reported its end, or has gone"
    if until is not None:
        text += f", in {max(0.0, until - now):.1f} s at the latest"
    elif stop is None:
        text += "; a function of the library, or a stock worker, goes on for as long as it likes"
    return [_reason("held", text, f"then: farm retry {handle}", worker=shown(worker))]


def _exists(broker: Broker, past: Past, now: float) -> Reasons:
    other = shown(broker.functions[past.function].coalescing[past.unique].handle)
    text = f"it cannot be run again while {other} lives, which has its unique key"
    return [_reason("exists", text, f"farm explain {other}", id=other)]


def _gone(broker: Broker, past: Past, now: float) -> Reasons:
    return [_reason("gone", "its payload is not kept any more: it cannot be run again")]


_REFUSED = {"live": _held, "exists": _exists, "gone": _gone}
