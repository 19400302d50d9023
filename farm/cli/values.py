"""What options take: kinds of values, and how a word becomes one: counts, times such as 2h30m, sizes.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

from farm.errors import UsageError

FLAG, TEXT, COUNT, COUNT_OR_0, SIZE = "flag", "text", "count", "count or 0", "size"
SECONDS, SECONDS_OR_0 = "seconds", "seconds or 0"

Value = str | int | float | bool | list[str] | dict[str, str] | None

_LEAST = 1e-9  # of what must be above 0
_SIZE_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SECONDS_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE_HINT = "write 64M or 1G"
_TIME_HINT = "write 10s, 500ms, 5m, 2h or 2h30m"


def truth(source: str, text: str) -> bool:
    """A flag as a word of the environment or a file. source: what says it, for the error. Raises UsageError."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{source} is neither yes nor no: {text!r}", "write 1 or 0")


def convert(kind: str, source: str, text: str) -> Value:
    """The value of a word: an int for counts and sizes in bytes, a float for seconds. source: what says it, for the
    error. Raises UsageError."""
    if kind in (COUNT, COUNT_OR_0):
        least = 1 if kind == COUNT else 0
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
            words = f"{source} is not a whole number{' above 0' if least else ''}: {text!r}"
            raise UsageError(words, f"write a number from {least} to 999999999")
        return int(text)
    if kind == SECONDS:
        return _measure(source, text, "a time", _TIME_HINT, _compound(text))
    if kind == SECONDS_OR_0:
        return _measure(source, text, "a time", _TIME_HINT + ", or 0", _compound(text), least=0.0)
    if kind == SIZE:
        upper = text.upper().removesuffix("B").removesuffix("I")
        size = int(_measure(source, upper, "a size", _SIZE_HINT, _single(upper, _SIZE_UNITS)))
        if not size:
            raise UsageError(f"{source} is not a size above 0: {text!r}", _SIZE_HINT)
        return size
    return text


def _measure(source: str, text: str, what: str, hint: str, value: float, least: float = _LEAST) -> float:
    """The value; -1: it is none."""
    if value == -1:
        raise UsageError(f"{source} is not {what}: {text!r}", hint)
    if not least <= value < 1e15:
        raise UsageError(f"{source} is not {what}{' above 0' if least else ''}: {text!r}", hint)
    return value


def _single(text: str, units: dict[str, float] | dict[str, int]) -> float:
    """A number and a unit."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    try:
        return float(number) * units[text[len(number) :]]
    except (ValueError, KeyError):
        return -1


def _compound(text: str) -> float:
    """Seconds: a number and a unit, or several of them from the largest unit to the smallest."""
    single, parts = _single(text, _SECONDS_UNITS), _parts(text)
    if single != -1 or len(parts) < 2:
        return single
    total, before = 0.0, 1e15
    for number, word in parts:
        unit = _SECONDS_UNITS.get(word, -1) if word else -1
        if not 0 < unit < before or not number.replace(".", "", 1).isdigit():
            return -1
        total, before = total + float(number) * unit, unit
    return total


def _parts(text: str) -> list[tuple[str, str]]:
    """Each number with the letters that follow it; [] for what is not made so."""
    parts: list[tuple[str, str]] = []
    rest = text if text.isascii() else ""
    while rest:
        after = rest.lstrip("0123456789.")
        number = rest[: len(rest) - len(after)]
        rest = after.lstrip("abcdefghijklmnopqrstuvwxyz")
        if not number:
            return []
        parts.append((number, after[: len(after) - len(rest)]))
    return parts
