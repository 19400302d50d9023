"""What the commands about jobs share: the servers that were named, the jobs that were meant, and what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from farm.cli.main import say, say_error
from farm.cli.options import Values
from farm.client.ask import IDS_MAX, JobServer, StockServer
from farm.client.job_servers import JobServers
from farm.client.records import STATES
from farm.errors import EXIT_OK, FarmError, InputError, Unavailable, UsageError
from farm.protocol.address import parse_addresses

ID_LINE_MAX = 256  # of a line of stdin that is an ID

Meant = list[tuple[JobServer, str]]  # jobs, and where they are


def servers_of(values: Values, deadline: float | None = None) -> JobServers:
    """Those of --server. deadline: as for JobServers."""
    notify = None if values.get("quiet") else say
    return JobServers(parse_addresses(words(values["server"])), bool(values["insecure"]), notify, deadline)


def words(value: object) -> list[str]:
    """The words of a repeatable option or of arguments."""
    return [str(text) for text in value] if isinstance(value, list) else []


def split_words(value: object) -> list[str]:
    """The words of a repeatable option of which several may stand with commas."""
    return [word.strip() for text in words(value) for word in text.split(",") if word.strip()]


def states_of(values: Values, default: tuple[str, ...] = ()) -> list[str]:
    """Those of --state. Raises UsageError for what is none."""
    states = split_words(values["state"])
    for state in states:
        if state not in STATES:
            raise UsageError(f"--state cannot be {state!r}", f"one of: {', '.join(STATES)}")
    return states or list(default)


def named(texts: list[str]) -> list[str]:
    """The IDs that were, with those of stdin in the place of `-`. Where stdin has none there are none, and nothing is
    to be done, as with xargs -r. Raises UsageError when nothing was said at all."""
    if not texts:
        raise UsageError("no job was named", "an ID is a handle, a beginning of one, a number or last: see farm jobs")
    return [word for text in texts for word in (_lines() if text == "-" else (text,))]


def meant(servers: JobServers, ids: list[str]) -> tuple[Meant, dict[str, FarmError]]:
    """The jobs that these IDs mean, each once, and the IDs that none was found for, each with why: JobNotFound, or that
    it may be a job of a server that cannot be asked. They keep nobody from the others. Raises UsageError for an ID that
    may mean several, and the first failure when no server answers."""
    found: Meant = []
    missing: dict[str, FarmError] = {}
    servers.look_up(ids)
    for text in ids:
        try:
            found.append(servers.find(text))
        except UsageError:
            raise
        except FarmError as error:
            missing[text] = error
    return list(dict.fromkeys(found)), missing


def by_server(jobs: Meant) -> Iterator[tuple[JobServer, list[str]]]:
    """The same, as questions to put: a server, and some of its jobs."""
    together: dict[JobServer, list[str]] = {}
    for server, id in jobs:
        together.setdefault(server, []).append(id)
    for server, ids in together.items():
        for start in range(0, len(ids), IDS_MAX):
            yield server, ids[start : start + IDS_MAX]


def incomplete(servers: JobServers, hint: str = "") -> int:
    """After a change that is for all servers: say who did not take part, and return the exit status that tells of it;
    EXIT_OK when all did. hint: what to do about one that is frozen or down now."""
    for failure in servers.failures.values():
        away = isinstance(failure, Unavailable) and not isinstance(failure, StockServer)
        say(f"error: {failure.message}", hint if away and hint else failure.hint)
    return next((failure.status for failure in servers.failures.values()), EXIT_OK)


def say_who_failed(servers: JobServers) -> None:
    """On stderr: a listing without a server's jobs must not look complete."""
    for failure in servers.failures.values():
        say_error(failure)


def _lines() -> Iterator[str]:
    """One ID a line."""
    try:
        while line := sys.stdin.buffer.readline(ID_LINE_MAX + 1):
            if len(line) > ID_LINE_MAX:
                raise UsageError(f"a line of stdin is longer than {ID_LINE_MAX} bytes: no ID is")
            word = line.decode(errors="replace").strip()
            if word:
                yield word
    except OSError as error:
        raise InputError(f"cannot read stdin: {(error.strerror or str(error)).lower()}") from error
