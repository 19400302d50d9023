"""Jobs that have no server any more, or none yet: who may be submitted again, and for how long a server is looked for.

Pure. Used by both clients, whose business the looking is.
"""

from __future__ import annotations

from farm.client.pending import Pending
from farm.client.session import Session
from farm.errors import FarmError, TryAgain

SUBMISSIONS_MAX = 5  # of one job: a job that brings down every server it comes to must not go round for ever
PATIENCE_S = 30.0  # for a server, after one was lost: long enough for a restart


class Stray:
    """A job to be submitted somewhere.

    until: monotonic seconds after which no server is looked for any more. error: what the job then ends with; None:
    with whatever the looking came to.
    """

    __slots__ = ("error", "job", "until")

    def __init__(self, job: Pending, until: float, error: FarmError | None = None) -> None:
        self.job = job
        self.until = until
        self.error = error

    def give_up(self, failure: FarmError) -> None:
        """No server was found. failure: why."""
        if self.error and failure.message not in self.error.message:
            self.error.args = (f"{self.error.message}; then {failure.message}",)
            self.error.message = self.error.args[0]
        self.job.end(self.error or failure)


def of_lost(session: Session, words: str, now: float) -> list[Stray]:
    """The connection is gone: the jobs that may be submitted again. The others end with JobLost."""
    strays = []
    for job in session.lose(words):
        error = job.lost(session.complaint or words)
        if job.may_move(SUBMISSIONS_MAX):
            strays.append(Stray(job, now + PATIENCE_S, error))
        else:
            job.end(error)
    return strays


def of_refused(session: Session, now: float) -> list[Stray]:
    """The jobs that the server has not taken, because it is going: they may be submitted elsewhere in any case."""
    refused, session.refused = session.refused, []
    strays = []
    for job in refused:
        error = TryAgain(f"the server at {session.server} takes no more jobs", "try again later")
        if job.submissions < SUBMISSIONS_MAX:
            strays.append(Stray(job, now, error))
        else:
            job.end(error)
    return strays
