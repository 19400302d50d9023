"""`farm pause` and `farm resume`: whether jobs of a function are started."""

from __future__ import annotations

from farm.cli.function import change_everywhere
from farm.cli.options import Values


def run_pause(values: Values) -> int:
    """Start no more of them."""
    return change_everywhere(values, "pause", {})


def run_resume(values: Values) -> int:
    """Start them again."""
    return change_everywhere(values, "resume", {})
