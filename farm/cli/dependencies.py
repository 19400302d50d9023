"""`farm submit --after` with several servers: a job waits only for jobs of its own server, which is found first."""

from __future__ import annotations

from farm.cli.asking import servers_of
from farm.cli.options import Values
from farm.errors import UsageError


def home_of(after: str, values: Values) -> tuple[str, str]:
    """The address of the server that has these jobs (`ok:ID,any:ID`, checked), and the same with whole handles. Raises
    FarmError, as `farm show` does, and UsageError where they are at different servers."""
    words = [word.partition(":") for word in after.split(",")]
    with servers_of(values) as servers:
        servers.look_up(text for _, _, text in words)
        found = [servers.find(text) for _, _, text in words]
    first, first_id = found[0]
    for server, id in found:
        if server is not first:
            raise UsageError(
                f"--after names jobs of different servers: {first_id} of {first.address}, {id} of {server.address}",
                "a job can wait only for jobs of its own server: submit them all to one with --server",
            )
    whole = zip((condition for condition, _, _ in words), (id for _, id in found), strict=True)
    return first.address, ",".join(f"{condition}:{id}" for condition, id in whole)
