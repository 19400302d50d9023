"""What the commands about jobs share: the servers that were named, the jobs that were meant, and what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from farm.cli.main import say, say_error
from farm.cli.options import Values
from farm.client.ask import IDS_MAX, JobServer
from farm.client.job_servers import JobServers
from farm.client.records import STATES
from farm.errors import InputError, JobNotFound, UsageError
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


def meant(servers: JobServers, texts: list[str]) -> Meant:
    """The jobs that these IDs mean, each once. Raises FarmError when one means none, or several. None at all: `-` was
    said, and there are none on stdin."""
    wanted = _with_stdin(texts)
    servers.look_up(wanted)
    return list(dict.fromkeys(map(servers.find, wanted)))


def meant_or_unknown(servers: JobServers, texts: list[str]) -> tuple[Meant, dict[str, JobNotFound]]:
    """The same, but one that is not found does not keep the others from being; each with why."""
    found: Meant = []
    unknown: dict[str, JobNotFound] = {}
    wanted = _with_stdin(texts)
    servers.look_up(wanted)
    for text in wanted:
        try:
            found.append(servers.find(text))
        except JobNotFound as error:
            unknown[text] = error
    return list(dict.fromkeys(found)), unknown


def by_server(jobs: Meant) -> Iterator[tuple[JobServer, list[str]]]:
    """The same, as questions to put: a server, and some of its jobs."""
    together: dict[JobServer, list[str]] = {}
    for server, id in jobs:
        together.setdefault(server, []).append(id)
    for server, ids in together.items():
        for start in range(0, len(ids), IDS_MAX):
            yield server, ids[start : start + IDS_MAX]


def say_who_failed(servers: JobServers) -> None:
    """On stderr: a listing without a server's jobs must not look complete."""
    for failure in servers.failures.values():
        say_error(failure)


def _with_stdin(texts: list[str]) -> list[str]:
    """The words, with those of stdin in the place of `-`. Where stdin has none there are none, and nothing is to be
    done, as with xargs -r."""
    if not texts:
        raise UsageError("no job was named", "an ID is a handle, a beginning of one, a number or last: see farm jobs")
    return [word for text in texts for word in (_lines() if text == "-" else (text,))]


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
