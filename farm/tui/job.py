"""All about one job, for a person: its terms, what is kept of it, and its timeline. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from farm.tui.jobs import state_of
from farm.tui.values import local, size, span, text

Job = dict[str, Any]


def job_view(job: Job, attempts: list[Job], now: float, server: str = "") -> Text:
    """The whole. attempts: in their order. server: its address, where there are several."""
    view = Text.assemble((job["id"], "bold"), "  ", text(job["function"]), "  ", state_of(job))
    if job["reason"]:
        view.append(f": {text(job['reason'])}")
    view.append("\n")
    for name, words in _facts(job, attempts, server):
        view.append(f"  {name:<10}", style="dim").append(f"{words}\n")
    view.append("\n")
    for moment, words, style in timeline(job, attempts, now):
        view.append(f"  {local(moment)}  ", style="dim").append(words + "\n", style=style)
    view.rstrip()
    return view


def _facts(job: Job, attempts: list[Job], server: str) -> Iterator[tuple[str, str]]:
    if server:
        yield "server", server
    if job["unique"]:
        yield "unique", text(job["unique"])
    yield "priority", f"{text(job['priority'] or 'normal')}, {'background' if job['background'] else 'foreground'}"
    kept = f"result {size(job['result_bytes'] or 0)}, log {size(job['log_bytes'] or 0)}"
    if job["payload_bytes"] is not None:
        yield "payload", size(job["payload_bytes"])
    yield "output", kept + (", of which only a part was kept" if job["cut"] else "")
    if terms := ", ".join(_terms(job)):
        yield "terms", terms
    if tries := _tries(job, attempts):
        yield "attempts", tries
    if job["ahead"] is not None:
        yield "ahead", f"{job['ahead']:g} jobs"
    if job["stopping"]:
        yield "stopping", f"its command is still being stopped on worker {text(job['stopping'])}"
    if job["progress"]:
        yield "progress", "/".join(text(part) for part in job["progress"])


def _tries(job: Job, attempts: list[Job]) -> str:
    """Where there was more than one; farm retry gives a job all its retries again, and that is said."""
    outcomes = [attempt["outcome"] for attempt in attempts]
    failed, lost = sum(outcome in ("failed", "timeout") for outcome in outcomes), outcomes.count("lost")
    if not failed + lost or job["attempts"] < 2:
        return ""
    failures, losses = int(job["failures"] or 0), int(job["losses"] or 0)
    anew = f"; since farm retry {failures} failed, {losses} lost" if failed > failures or lost > losses else ""
    return f"{job['attempts']:g}: {failed} failed, {lost} lost{anew}"


def _terms(job: Job) -> Iterator[str]:
    if job["retries"]:
        yield f"{job['retries']:g} retries"
    if job["timeout_s"]:
        yield f"timeout {span(job['timeout_s'])}"
    if job["expires_at"] is not None:
        yield f"expires {local(job['expires_at'])}"
    if job["after"]:
        after = job["after"]
        yield "after " + text(", ".join(map(str, after)) if isinstance(after, list) else after)
    if job["keep_s"] is not None:
        yield f"kept for {span(job['keep_s'])}"


def timeline(job: Job, attempts: list[Job], now: float) -> list[tuple[float, str, str]]:
    """What happened when: time, words, style. In order of time."""
    found: list[tuple[float, str, str]] = [(job["created_at"], "created", "")]
    ready = job["created_at"]
    if job["due_at"] is not None:
        ready = max(ready, job["due_at"])
        if not attempts:
            found.append((job["due_at"], "due", ""))
    for attempt in attempts:
        found += _attempt(attempt, ready, now)
        ready = attempt["ended_at"] if attempt["ended_at"] is not None else ready
    if job["ended_at"] is not None:
        reason = f": {text(job['reason'])}" if job["reason"] else ""
        found.append((job["ended_at"], text(job["state"]) + reason, str(state_of(job).style)))
    return sorted(found, key=lambda event: event[0])


def _attempt(attempt: Job, ready: float, now: float) -> Iterator[tuple[float, str, str]]:
    number, began = f"attempt {attempt['number'] or 0:g}", attempt["started_at"]
    if began is not None:
        at = f" at {text(attempt['worker'])}" if attempt["worker"] else ""
        yield began, f"{number} began{at}, {span(max(0.0, began - ready))} later", ""
    ended = attempt["ended_at"]
    reason = f": {text(attempt['reason'])}" if attempt["reason"] else ""
    if ended is None and attempt["outcome"] in ("running", None):
        if began is not None:
            yield now, f"{number} has run for {span(max(0.0, now - began))}", "green"
    elif ended is None:
        yield ready if began is None else began, f"{number} {text(attempt['outcome'])}{reason}, when is not known", ""
    else:
        yield ended, f"{number} {text(attempt['outcome'] or 'ended')}{reason} ({', '.join(_used(attempt))})", ""


def _used(attempt: Job) -> Iterator[str]:
    yield f"ran {span(attempt['run_s'] or 0.0)}"
    if attempt["exit_code"] is not None:
        yield f"exit {attempt['exit_code']:g}"
    if attempt["cpu_s"] is not None:
        yield f"cpu {span(attempt['cpu_s'])}"
    if attempt["peak_bytes"] is not None:
        yield f"memory {size(attempt['peak_bytes'])}"
