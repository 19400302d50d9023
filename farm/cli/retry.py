"""`farm retry`: jobs that have failed run again."""

from __future__ import annotations

from farm.cli.changing import Change, change_meant
from farm.cli.options import Values

_RETRY = Change(
    "retry",
    ("queued",),
    {
        "live": "has not ended",
        "done": "is done: there is nothing to repeat",
        "gone": "cannot run again: its payload is not kept any more",
        "unreadable": "cannot run again: the server cannot read what it has kept of it",
        "exists": "cannot run again: another job has its unique key now",
    },
    states=("dead",),
)


def run_retry(values: Values) -> int:
    """Run them again."""
    return change_meant(values, _RETRY)
