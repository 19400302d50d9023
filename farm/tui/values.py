"""Values as a person reads them: times, durations, sizes and words that come from jobs. Pure.

Such words are escaped, so that no name can move a terminal's cursor or make a column of its own.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

from farm.protocol.names import words_of

_LAST_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def iso(moment: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    moment = min(max(moment, 0.0), _LAST_S)
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(moment: float) -> str:
    """Seconds since 1970 as a person here writes them."""
    moment = min(max(moment, 0.0), _LAST_S)
    parts = time.localtime(moment)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', parts)}.{int(moment % 1 * 10)}"


def text(value: object) -> str:
    """A peer's words on one line, without anything that a terminal takes for a command."""
    return words_of(str(value).encode("utf-8", "replace"))


def span(seconds: float | None) -> str:
    """A duration in one or two units: `250ms`, `3.2s`, `2m05s`, `3h10m`, `2d4h`."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def size(count: float | None) -> str:
    """Bytes in the unit that leaves one to four digits."""
    if count is None:
        return ""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_SIZES[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {_SIZES[unit]}"
