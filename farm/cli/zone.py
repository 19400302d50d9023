"""This machine's time zone, by its name in the time zone database: an entry must mean the same on another machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from farm.errors import UsageError

_MARK = "/zoneinfo/"  # what stands before the name in the path of a zone's file


def local_zone(environment: Mapping[str, str], etc: str = "/etc") -> str:
    """From TZ, else from /etc/localtime, else from /etc/timezone. Raises UsageError when none of them names it."""
    name = environment.get("TZ")
    if name is not None:
        return _named_by_tz(name.removeprefix(":"))
    _, mark, found = os.path.realpath(f"{etc}/localtime").partition(_MARK)
    if mark:
        return found.removeprefix("posix/").removeprefix("right/")
    try:
        with open(f"{etc}/timezone", encoding="utf-8") as file:
            if found := file.readline().strip():
                return found
    except (OSError, UnicodeDecodeError):
        pass
    if not os.path.exists(f"{etc}/localtime"):
        return "UTC"  # as the C library has it
    raise UsageError("cannot tell the name of this machine's time zone", "--zone Europe/Berlin, or --zone UTC")


def _named_by_tz(name: str) -> str:
    if _MARK in name:
        return name.partition(_MARK)[2]
    return name or "UTC"
