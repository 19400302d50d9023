"""The table of differences as a page for people."""

from __future__ import annotations

from tests.interop.differential.differences import AGREED, DIFFERENCES, FARM, GEARMAND, UNSPECIFIED

_HEAD = """# Where farm and gearmand differ

<!-- Made by `python -P -m tests.interop.differential > farm/docs/differences.md`; tested. -->

Scripts of packets and admin lines are played against Debian's gearmand 1.1.20 and against `farm server --order
registration --wakeup all`, and every reply is compared
([tests/interop/differential](../../tests/interop/differential)).
Long random scripts of what programs send are answered alike. {count} corners are not, and each was decided on; in
{agreed} others that were looked at one by one the two agree. A difference that is not here fails a test, and so does a
row here that no longer holds.

`--order` and `--wakeup` have other defaults, and handles, versions and process ids are each server's own.
"""
_TAIL = """
## What no script can play

Each has a test in [tests/cli/test_gearmand.py](../../tests/cli/test_gearmand.py).

| | gearmand 1.1.20 | farm | why |
|---|---|---|---|
"""
_UNPLAYED = (
    (
        "`-R`",
        "functions take turns, and priority counts within each: `b0 a-high b1 a0 a1`",
        "gearmand 2.0's rule, priority first: `a-high b0 a0 b1 a1`",
        "2.0 has no other; a worker of two functions must not do LOW before HIGH",
    ),
    ("`-j` above 255", "taken, and kept in a byte", "the number", "it is what was said"),
    (
        "admin commands that change something",
        "from everybody",
        "from this machine; with `--remote-admin`, which is farm's own, from everybody",
        "whoever reaches the port could empty the queues",
    ),
    (
        "SIGUSR1",
        "waits for jobs whose time has not come",
        "does not; without `-q` they are lost, and the log counts them",
        "that may take days",
    ),
)
_TITLES = {GEARMAND: "gearmand is wrong", FARM: "farm is right", UNSPECIFIED: "Unspecified"}


def rendered() -> str:
    """The page."""
    parts = [_HEAD.format(count=len(DIFFERENCES), agreed=len(AGREED))]
    for verdict, title in _TITLES.items():
        parts.append(f"\n## {title}\n\n| | gearmand 1.1.20 | farm | why |\n|---|---|---|---|\n")
        parts += [
            f"| {row.name} | {row.gearmand} | {row.farm} | {row.reason} |\n"
            for row in DIFFERENCES
            if row.verdict == verdict
        ]
    return "".join(parts) + _TAIL + "".join(f"| {' | '.join(row)} |\n" for row in _UNPLAYED)
