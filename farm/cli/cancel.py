"""`farm cancel`: jobs that wait never run, and those that run are ended at their worker."""

from __future__ import annotations

from farm.cli.changing import Change, change_named
from farm.cli.options import Values

# `unheard`: a stock worker cannot be told; what it says later is ignored.
_CANCEL = Change("cancel", ("cancelled", "told", "unheard"), {"ended": "has ended already"})


def run_cancel(values: Values) -> int:
    """Cancel them."""
    return change_named(values, _CANCEL, reason=values["reason"] or "")
