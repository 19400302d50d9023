"""A client on pygearman: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py."""

import sys

import gearman
from gearman.constants import JOB_COMPLETE, PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NONE

PRIORITIES = {"": PRIORITY_NONE, "high": PRIORITY_HIGH, "low": PRIORITY_LOW}


def show(request: gearman.job.GearmanJobRequest) -> bool:
    """All that the request has gathered; returns whether it failed."""
    for warning in request.warning_updates:
        print("warning", warning.decode(), file=sys.stderr)
    if request.status:
        print(f"status {request.status['numerator']}/{request.status['denominator']}", file=sys.stderr)
    for data in [*request.data_updates, request.result or b""]:
        sys.stdout.buffer.write(data)
    if request.exception:
        print("exception", request.exception.decode(), file=sys.stderr)
    if request.state != JOB_COMPLETE:
        print("fail", file=sys.stderr)
    return bool(request.state != JOB_COMPLETE)


def admin(servers: list[str], name: str) -> None:
    """The row of one function."""
    row = next(row for row in gearman.GearmanAdminClient(servers).get_status() if row["task"] in (name, name.encode()))
    print(row["queued"], row["running"], row["workers"])


def main() -> int:
    port, action, name, priority, unique, _ = sys.argv[1:]
    servers = [f"127.0.0.1:{port}"]
    payload = sys.stdin.buffer.read()
    client = gearman.GearmanClient(servers)
    options = {"unique": unique or None, "priority": PRIORITIES[priority]}
    if action == "run":
        return show(client.submit_job(name, payload, poll_timeout=60, **options))
    elif action == "parallel":
        jobs = [{"task": name, "data": line, **options} for line in payload.splitlines(keepends=True)]
        return max(show(request) for request in client.submit_multiple_jobs(jobs, poll_timeout=60))
    elif action == "background":
        request = client.submit_job(name, payload, background=True, wait_until_complete=False, **options)
        print(request.job.handle.decode())
        status = client.get_job_status(request).status
        print(f"known {status['known']:d} running {status['running']:d}", file=sys.stderr)
    elif action == "admin":
        admin(servers, name)
    elif action == "cancel":
        print(gearman.GearmanAdminClient(servers).cancel_job(name).strip())
    elif action == "ping":
        print(gearman.GearmanAdminClient(servers).ping_server() > 0)
    else:
        return 64
    return 0


sys.exit(main())
