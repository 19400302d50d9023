"""`farm logs`: what a job wrote to stderr; with --follow all that it writes until it ends. As JSON: logs_json.py."""

from __future__ import annotations

import time
from typing import Protocol

from farm.cli.asking import servers_of
from farm.cli.logs_json import JsonLines, end_of_log, no_attempt, print_logs
from farm.cli.main import SIGPIPE, Leave, say
from farm.cli.options import Values
from farm.cli.servers import RECONNECT_MAX_S, RECONNECT_PAUSE_S
from farm.cli.show import ask
from farm.client.ask import LOG, RESULT, JobServer
from farm.client.job_output import JobOutput, Pieces
from farm.client.job_servers import JobServers
from farm.client.outcome import End, ended_already
from farm.client.output import STDERR, Output
from farm.client.records import ENDED_STATES, Record
from farm.errors import EXIT_OK, EXIT_SIGNAL_BASE, FarmError, Unavailable, UsageError
from farm.protocol.extension import ORIGIN_JOB
from farm.tui.values import text

# In a row, with nothing written meanwhile: a server that closes each connection at once is not called for ever.
LOSSES_MAX = 100


def run_logs(values: Values) -> int:
    """Print them."""
    number = values["attempt"]
    if number and values["follow"]:
        raise UsageError("--follow and --attempt exclude each other", "--follow is for the attempt that runs")
    with servers_of(values) as servers:
        server, id = servers.find(str(values["id"]))
        try:
            if values["follow"]:
                _follow(servers, server, id, JsonLines(server.address, id) if values["json"] else Streams(id))
            elif values["json"]:
                print_logs(server, id, number if isinstance(number, int) else None)
            elif isinstance(number, int):
                _print_attempt(server, id, number)
            else:
                _print_log(server, id)
        except BrokenPipeError:
            raise Leave(EXIT_SIGNAL_BASE + SIGPIPE, signal=SIGPIPE) from None
    return EXIT_OK


def _print_log(server: JobServer, id: str) -> None:
    """Of the newest attempt. Between two of them there is no more than the end of it."""
    job, attempts = ask(server, id)
    output = JobOutput(server, id)
    output.skip(job, RESULT)
    job, pieces = output.more(wait=False)
    log = [data for stream, data in pieces if stream == LOG]
    if not any(log):
        log = [end_of_log(attempt) for attempt in attempts if attempt["number"] == output.number]
    out = Output()
    for data in log:
        out.write(data)
    _say_if_cut(job)


def _print_attempt(server: JobServer, id: str, number: int) -> None:
    job, attempts = ask(server, id)
    found = [attempt for attempt in attempts if attempt["number"] == number]
    if not found:
        raise no_attempt(job, number)
    Output().write(end_of_log(found[0]))


class Told(Protocol):
    """Where it goes that a followed job writes."""

    def take(self, output: JobOutput, pieces: Pieces) -> None:
        """What has come; `output` knows of which attempt."""

    def end(self, output: JobOutput, job: Record, end: End) -> None:
        """No more will come."""


class Streams:
    """Each stream to its own; a new attempt is said, for what it writes comes behind what the last one wrote."""

    def __init__(self, id: str) -> None:
        self._id = id
        self._streams = {RESULT: Output(), LOG: _Stderr(STDERR)}

    def take(self, output: JobOutput, pieces: Pieces) -> None:
        if output.anew:
            say(f"attempt {output.number} of job {self._id} begins")
        for stream, data in pieces:
            if stream in self._streams:
                self._streams[stream].write(data)

    def end(self, output: JobOutput, job: Record, end: End) -> None:
        _say_if_cut(job)
        if job["state"] not in ("done", "dead") and job["reason"]:
            say(f"job {self._id} is {text(job['state'])}: {text(job['reason'])}")


def _follow(servers: JobServers, server: JobServer, id: str, told: Told) -> None:
    """A server that goes away is waited for, and it goes on where it was."""
    output, out = JobOutput(server, id), Output()
    watch = out.fd if out.to_pipe else -1
    losses = 0
    while True:
        try:
            job, pieces = output.more(wait=True, watch=watch)
        except Unavailable as lost:
            losses += 1
            if losses > LOSSES_MAX:
                raise
            server = _await(servers, server.address, output, lost)
            continue
        losses = 0
        told.take(output, pieces)
        if job["state"] in ENDED_STATES:
            break
    end = ended_already(server, id)
    told.end(output, job, end)
    raise Leave(end.exit, ORIGIN_JOB)


def _await(servers: JobServers, address: str, output: JobOutput, lost: Unavailable) -> JobServer:
    """Until the server is back. Raises Unavailable when it is not in time, and JobNotFound where it does not know the
    job any more."""
    say(f"{lost.message}; waiting for it to come back")
    deadline = time.monotonic() + RECONNECT_MAX_S
    while True:
        servers.lost(address)
        time.sleep(RECONNECT_PAUSE_S)
        try:
            server = servers.opened(address)
            output.resume(server)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        else:
            say(f"the server at {address} is back")
            return server


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
