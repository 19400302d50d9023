"""`farm logs`: what a job wrote to stderr; with --follow all that it writes until it ends."""

from __future__ import annotations

from farm.cli.asking import servers_of
from farm.cli.main import SIGPIPE, Leave, say
from farm.cli.options import Values
from farm.cli.show import ask
from farm.client.ask import LOG, RESULT, JobServer
from farm.client.job_output import JobOutput
from farm.client.outcome import ended_already
from farm.client.output import STDERR, Output
from farm.client.records import ENDED_STATES, Record
from farm.errors import EXIT_OK, EXIT_SIGNAL_BASE, FarmError, JobNotFound, UsageError
from farm.protocol.extension import ORIGIN_JOB
from farm.tui.values import text


def run_logs(values: Values) -> int:
    """Print them."""
    number = values["attempt"]
    if number and values["follow"]:
        raise UsageError("--follow and --attempt exclude each other", "--follow is for the attempt that runs")
    with servers_of(values) as servers:
        server, id = servers.find(str(values["id"]))
        try:
            if values["follow"]:
                _follow(server, id)
            elif isinstance(number, int):
                _print_attempt(server, id, number)
            else:
                _print_log(server, id)
        except BrokenPipeError:
            raise Leave(EXIT_SIGNAL_BASE + SIGPIPE, signal=SIGPIPE) from None
    return EXIT_OK


def _print_log(server: JobServer, id: str) -> None:
    job, _ = ask(server, id)
    output = JobOutput(server, id)
    output.skip(job, RESULT)
    job, pieces = output.more(wait=False)
    out = Output()
    for stream, data in pieces:
        if stream == LOG:
            out.write(data)
    _say_if_cut(job)


def _print_attempt(server: JobServer, id: str, number: int) -> None:
    job, attempts = ask(server, id)
    log = next((attempt["log"] or "" for attempt in attempts if attempt["number"] == number), None)
    if log is None:
        raise JobNotFound(f"nothing is known of attempt {number} of job {id}: {job['attempts']:g} have begun")
    Output().write(log.encode("utf-8", "surrogateescape"))


def _follow(server: JobServer, id: str) -> None:
    """Each stream to its own; a new attempt is said, for what it writes comes behind what the last one wrote."""
    output, out = JobOutput(server, id), Output()
    watch = out.fd if out.to_pipe else -1
    streams = {RESULT: out, LOG: _Stderr(STDERR)}
    while True:
        before = output.number
        job, pieces = output.more(wait=True, watch=watch)
        if before and output.number != before:
            say(f"attempt {output.number} of job {id} begins")
        for stream, data in pieces:
            if stream in streams:
                streams[stream].write(data)
        if job["state"] in ENDED_STATES:
            break
    _say_if_cut(job)
    if job["state"] not in ("done", "dead") and job["reason"]:
        say(f"job {id} is {text(job['state'])}: {text(job['reason'])}")
    raise Leave(ended_already(server, id).exit, ORIGIN_JOB)


class _Stderr(Output):
    """As for a foreground job: nobody may read it, and the job's result still counts."""

    def write(self, data: bytes) -> None:
        try:
            super().write(data)
        except (OSError, FarmError):
            pass


def _say_if_cut(job: Record) -> None:
    if job["cut"]:
        say("only a part of what it wrote was kept", "farm server --result-max keeps more")
