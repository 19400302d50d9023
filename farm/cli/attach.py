"""`farm submit --unique` that comes when the job of its key has ended, and its key still counts: what that has written,
and its exit code, as if it had been waited for."""

from __future__ import annotations

from typing import NoReturn

from farm.cli.main import SIGPIPE, Leave, say
from farm.cli.options import Values
from farm.cli.show import ask
from farm.client.answers import EXISTS_HINT, Exists
from farm.client.ask import LOG, RESULT, JobServer
from farm.client.job_output import JobOutput
from farm.client.outcome import ended_already
from farm.client.output import STDERR, Output, write_all
from farm.client.records import ENDED_STATES
from farm.errors import EXIT_DATA, EXIT_SIGNAL_BASE, FarmError, JobNotFound, TryAgain
from farm.protocol.extension import ORIGIN_JOB


def give_kept(found: Exists, what: str, values: Values) -> NoReturn:
    """Write it, and leave. what: that the job exists, in words. Raises TryAgain, with nothing written, where nothing is
    kept of the job, as of a foreground job, or it has not ended for everybody."""
    with JobServer(found.address, bool(values["insecure"])) as server:
        try:
            job, _ = ask(server, found.handle)
        except JobNotFound:
            raise TryAgain(f"{what}, and what it wrote is not kept", EXISTS_HINT) from None
        if job["state"] not in ENDED_STATES:
            raise TryAgain(what, EXISTS_HINT)
        if not values["quiet"]:
            say(f"{what}: this is what it wrote")
        try:
            _write(server, found.handle)
        except BrokenPipeError:
            raise Leave(EXIT_SIGNAL_BASE + SIGPIPE, signal=SIGPIPE) from None
        end = ended_already(server, found.handle)
    if job["cut"] and not end.exit:
        raise FarmError(
            f"only a part of what job {end.id} wrote was kept", "farm server --result-max keeps more", EXIT_DATA
        )
    raise Leave(end.exit, ORIGIN_JOB)


def _write(server: JobServer, id: str) -> None:
    """Each stream to its own, as of a job that is waited for."""
    out = Output()
    for stream, data in JobOutput(server, id).more(wait=False)[1]:
        if stream == RESULT:
            out.write(data)
        elif stream == LOG:
            try:
                write_all(STDERR, data)
            except OSError:
                pass  # nobody reads it: the job's result still counts
