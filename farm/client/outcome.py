"""How jobs ended, for who waits for them: one server at a time, and again when it was started anew."""

from __future__ import annotations

from typing import NamedTuple

from farm.client.ask import IDS_MAX, Answer, JobServer
from farm.client.records import END_FIELDS, record
from farm.errors import EXIT_JOB_FAILED, EXIT_OK, JobNotFound, NotGearman


class End(NamedTuple):
    """server: its address. exit: what who waits for the job exits with. exit_code: its command's, None: unknown."""

    server: str
    id: str
    state: str
    reason: str
    exit_code: int | None
    exit: int

    def as_json(self) -> Answer:
        """The same, for a program: what is not known is null."""
        return {**self._asdict(), "reason": self.reason or None}


def end_of(server: str, id: str, fields: Answer) -> End:
    """From FARM_ENDED. Raises NotGearman for a strange one."""
    found = record(fields, END_FIELDS, server)
    state, code, leave = found["state"] or "", found["exit_code"], found["exit"]
    if leave is None:
        leave = EXIT_OK if state == "done" else EXIT_JOB_FAILED
    if not 0 <= leave <= 255:
        raise NotGearman(f"the server at {server} sent a strange exit code")
    return End(server, id, state, found["reason"] or "", None if code is None else int(code), int(leave))


def wait_for(server: JobServer, ids: list[str]) -> list[str]:
    """Ask for the ends of these jobs: `take_ended` gives them. Returns those that the server does not know."""
    found: list[str] = []
    for start in range(0, len(ids), IDS_MAX):
        unknown = server.ask("wait", {"ids": ids[start : start + IDS_MAX]}).get("unknown")
        if not isinstance(unknown, list):
            raise NotGearman(f"the server at {server.address} sent a strange list of jobs")
        found += map(str, unknown)
    return found


def ended_already(server: JobServer, id: str) -> End:
    """The end of a job that is known to have ended."""
    if wait_for(server, [id]):
        raise JobNotFound(f"no job {id!r} any more")
    while True:
        for found, fields in server.wait_ended():
            if found == id:
                return end_of(server.address, id, fields)
