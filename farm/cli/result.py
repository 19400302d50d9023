"""`farm result`: the bytes that a job wrote to stdout, and its exit code."""

from __future__ import annotations

from farm.cli.asking import servers_of
from farm.cli.main import SIGPIPE, Leave, say
from farm.cli.options import Values
from farm.cli.printing import as_json, data_as_json, print_json
from farm.cli.show import ask
from farm.client.ask import LOG, RESULT, JobServer
from farm.client.job_output import JobOutput
from farm.client.outcome import End, ended_already
from farm.client.output import Output
from farm.client.records import ENDED_STATES, Record
from farm.errors import EXIT_DATA, EXIT_SIGNAL_BASE, FarmError, TryAgain
from farm.protocol.extension import ORIGIN_JOB
from farm.tui.values import text

SCHEMA = "farm.result/1"


def run_result(values: Values) -> int:
    """Write it, and leave with the job's exit code. Raises TryAgain, with nothing written, before the job has ended."""
    with servers_of(values) as servers:
        server, id = servers.find(str(values["id"]))
        job, _ = ask(server, id)
        _must_have_ended(job)
        try:
            if values["json"]:
                end = _print_json(server, id, job)
            else:
                _write(server, id, job)
                end = ended_already(server, id)
                _say_if_failed(end)
        except BrokenPipeError:
            raise Leave(EXIT_SIGNAL_BASE + SIGPIPE, signal=SIGPIPE) from None
        _leave(job, end)
    raise AssertionError  # it has left


def _must_have_ended(job: Record) -> None:
    if job["state"] not in ENDED_STATES:
        id = job["id"]
        raise TryAgain(f"job {id} has not ended: it is {text(job['state'])}", f"farm wait {id}, or farm explain {id}")


def _write(server: JobServer, id: str, job: Record) -> None:
    output, out = JobOutput(server, id), Output()
    output.skip(job, LOG)
    for stream, data in output.more(wait=False)[1]:
        if stream == RESULT:
            out.write(data)


def _print_json(server: JobServer, id: str, job: Record) -> End:
    """In one document; a failure is in it, and not said besides."""
    output = JobOutput(server, id)
    output.skip(job, LOG)
    job, pieces = output.more(wait=False)
    _must_have_ended(job)  # somebody may have let it run again meanwhile
    end = ended_already(server, id)
    stdout = b"".join(data for stream, data in pieces if stream == RESULT)
    fields = {
        "job": {"server": server.address, **as_json(job)},
        "exit": EXIT_DATA if job["cut"] and not end.exit else end.exit,
        "stdout": data_as_json(stdout),
    }
    print_json(SCHEMA, fields)
    return end


def _say_if_failed(end: End) -> None:
    """There may be no byte that tells of it."""
    if end.exit:
        reason = f": {text(end.reason)}" if end.reason else ""
        say(f"job {end.id} is {text(end.state)}{reason}", f"farm logs {end.id}")


def _leave(job: Record, end: End) -> None:
    if job["cut"] and not end.exit:
        raise FarmError(
            f"only a part of what job {end.id} wrote was kept", "farm server --result-max keeps more", EXIT_DATA
        )
    raise Leave(end.exit, ORIGIN_JOB)
