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
    return "".join(parts)
