"""`farm purge`: jobs that have ended are forgotten, with what they wrote."""

from __future__ import annotations

from farm.cli.changing import Change, change_meant
from farm.cli.options import Values
from farm.client.records import ENDED_STATES

_PURGE = Change("purge", ("purged",), {"live": "has not ended: farm cancel ends it"}, states=ENDED_STATES)


def run_purge(values: Values) -> int:
    """Forget them."""
    return change_meant(values, _PURGE)
