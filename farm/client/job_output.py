"""What a job has written, and what it goes on to write. A new attempt begins its output anew."""

from __future__ import annotations

from farm.client.ask import LOG, RESULT, JobServer
from farm.client.records import Record, job_record

Pieces = list[tuple[str, bytes]]  # stream (RESULT, LOG), bytes

# Two beginnings of an attempt so near to each other are one: the server's clock may be set a little meanwhile, and no
# server starts again in so short a time.
SAME_S = 0.1


class JobOutput:
    """The output of one job at a server, taken in turns. number: the attempt that it is of, 0: none has begun. anew:
    what came last is of another attempt than what had come before."""

    def __init__(self, server: JobServer, id: str) -> None:
        self.number = 0
        self.anew = False
        self._last: Record | None = None  # the job, when there was output
        self._server = server
        self._id = id
        self._have = {RESULT: 0, LOG: 0}

    def skip(self, job: Record, stream: str) -> None:
        """Of this attempt's output, that stream is not wanted."""
        self.number = int(job["attempts"])
        self._have[stream] = int(job[f"{stream}_bytes"] or 0)

    def more(self, *, wait: bool, watch: int = -1) -> tuple[Record, Pieces]:
        """The job as it is now, and what has come since the last call; everything, when another attempt has begun.
        wait: until there is something, or it has ended. watch: as for Connection.receive."""
        pieces: Pieces = []
        asked = {"id": self._id, "number": self.number, **self._have, "wait": wait}
        take = lambda stream, data: pieces.append((stream, data))  # noqa: E731
        answer = self._server.ask("output", asked, take=take, for_ever=wait, watch=watch)
        job = job_record(answer.get("job"), self._server.address)
        if job["attempts"] != self.number:
            self.number = int(job["attempts"])
            self._have = {RESULT: 0, LOG: 0}
        self.anew = self._last is not None and bool(pieces) and not self._is_same(job)
        if pieces:
            self._last = job
        for stream, data in pieces:
            if stream in self._have:
                self._have[stream] += len(data)
        return job, pieces

    def resume(self, server: JobServer) -> None:
        """Go on at a new connection. A server that was started again may have forgotten how many attempts there were,
        so that the next one has the number of the last one: all of its output is wanted. Raises as JobServer.ask."""
        self._server = server
        job = job_record(server.ask("job", {"id": self._id}).get("job"), server.address)
        if not self._is_same(job):
            self.number = 0
            self._have = {RESULT: 0, LOG: 0}

    def _is_same(self, job: Record) -> bool:
        """Whether its newest attempt is the one of which there was output."""
        last = self._last
        if last is None or last["attempts"] != job["attempts"] or None in (last["started_at"], job["started_at"]):
            return False
        return bool(abs(job["started_at"] - last["started_at"]) < SAME_S)
