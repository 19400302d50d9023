"""Why a job is not running, or how it ended: reasons that a person can do something about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.broker import record, stops, tries
from farm.broker.job import ABANDONED, DELAYED, QUEUED, RUNNING, WAITING, id_of
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


def of_past(broker: Broker, past: Past) -> Reasons:
    """Of an ended job."""
    shown_past = record.of_past(past)
    state, handle = shown_past["state"], shown_past["id"]
    why = f" ({shown_past['reason']})" if shown_past["reason"] else ""
    hint = f"farm logs {handle}; farm retry {handle}" if state != "done" else f"farm result {handle}"
    return [_reason("ended", f"it has ended: {state}{why}", hint), *_stopping(broker, past.id)]
