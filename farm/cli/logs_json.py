"""`farm logs --json`: what a job wrote to stderr, of each attempt; with --follow a line for each piece as it comes."""

from __future__ import annotations

from typing import Any

from farm.cli.printing import as_json, data_as_json, print_json, print_json_line
from farm.cli.show import ask
from farm.client.ask import LOG, RESULT, JobServer
from farm.client.job_output import JobOutput, Pieces
from farm.client.outcome import End
from farm.client.records import ATTEMPT_FIELDS, Record
from farm.errors import JobNotFound

SCHEMA, FOLLOW_SCHEMA = "farm.logs/1", "farm.follow/1"

_STREAMS = {RESULT: "stdout", LOG: "stderr"}


def print_logs(server: JobServer, id: str, number: int | None) -> None:
    """Of the newest attempt all that there is, of an earlier one the end, as much as its server keeps of it. number: of
    the only attempt that is wanted; None: all. Raises JobNotFound when nothing is known of it."""
    job, attempts = ask(server, id)
    output = JobOutput(server, id)
    output.skip(job, RESULT)
    job, pieces = output.more(wait=False)
    newest = b"".join(data for stream, data in pieces if stream == LOG)
    if output.number and output.number not in [attempt["number"] for attempt in attempts]:  # it has just begun
        attempts.append({**dict.fromkeys(ATTEMPT_FIELDS), "number": output.number})
    rows = [_attempt(each, newest, job) for each in attempts if number in (None, each["number"])]
    if number is not None and not rows:
        raise no_attempt(job, number)
    print_json(SCHEMA, {"job": {"server": server.address, **as_json(job)}, "attempts_list": rows})


def no_attempt(job: Record, number: int) -> JobNotFound:
    """What to raise when there is none of this number."""
    return JobNotFound(f"nothing is known of attempt {number} of job {job['id']}: {job['attempts']:g} have begun")


def _attempt(attempt: Record, newest: bytes, job: Record) -> dict[str, Any]:
    """newest: what the newest attempt wrote, of which `job` says whether it was cut. Between two attempts there is no
    more than the end of it."""
    fields = as_json(attempt)
    del fields["log"]
    end = end_of_log(attempt)
    if attempt["number"] == job["attempts"] and (newest or not end):
        return {**fields, "cut": job["cut"], "stderr": data_as_json(newest)}
    return {**fields, "cut": None, "stderr": data_as_json(end)}


def end_of_log(attempt: Record) -> bytes:
    """Of what it wrote to stderr: all that its server keeps of an attempt that is over, while its job is not."""
    return str(attempt["log"] or "").encode("utf-8", "surrogateescape")


class JsonLines:
    """A line for each piece that a followed job writes, and one for its end. server: its address.

    A letter of which only the beginning has come is kept back until the rest is there: else text would become base64
    wherever a read happened to end within a letter."""

    def __init__(self, server: str, id: str) -> None:
        self._job = {"server": server, "id": id}
        self._number = 0  # of the attempt that wrote what is kept back
        self._begun: dict[str, bytes] = {}  # of each stream, the beginning of a letter
        self._anew = False

    def take(self, output: JobOutput, pieces: Pieces) -> None:
        """As of farm.cli.logs.Told."""
        if output.anew:
            self._flush()
            self._anew = True
        self._number = output.number
        for stream, data in pieces:
            if stream in _STREAMS:
                data = self._begun.pop(stream, b"") + data
                size = whole_letters(data)
                if data[size:]:
                    self._begun[stream] = data[size:]
                self._piece(stream, data[:size])

    def end(self, output: JobOutput, job: Record, end: End) -> None:
        """The last line."""
        self._flush()
        ending = {name: end.as_json()[name] for name in ("state", "reason", "exit_code", "exit")}
        self._line(stream=None, output=None, end={**ending, "cut": job["cut"]})

    def _flush(self) -> None:
        """What was begun is not continued."""
        begun, self._begun = self._begun, {}
        for stream, data in begun.items():
            self._piece(stream, data)

    def _piece(self, stream: str, data: bytes) -> None:
        if data:
            self._line(stream=_STREAMS[stream], output=data_as_json(data), end=None)

    def _line(self, **fields: Any) -> None:
        print_json_line(FOLLOW_SCHEMA, {**self._job, "attempt": self._number, "anew": self._anew, **fields})
        self._anew = False


def whole_letters(data: bytes) -> int:
    """How many bytes there are before a letter of UTF-8 that the end cuts off; all of them where there is none, or they
    are no UTF-8 anyway."""
    try:
        data.decode()
    except UnicodeDecodeError as fault:
        return fault.start if fault.reason == "unexpected end of data" else len(data)
    return len(data)
