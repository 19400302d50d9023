"""A job's terms, from what was typed to the words of FARM_SUBMIT and FARM_TERMS (farm/protocol/JOBS.md).

Only imported when there are any. On the start-up path of `farm submit` then: it imports nothing slow.
"""

from __future__ import annotations

import time

from farm.cli.main import say
from farm.cli.options import RETRIES, Option, Values
from farm.cli.submit_options import terms_given
from farm.cli.values import SECONDS, SECONDS_OR_0
from farm.errors import UsageError
from farm.protocol.retry_on import parse_retry_on

_CONDITIONS = ("ok", "any", "fail")
_SPECIAL = ("delay", "at", "if_exists", "after")  # each with a rule of its own
_WORDS = {"keep_results": "keep"}  # where the term is called otherwise than the option


class Terms:
    """What was typed, as a Request wants it. words: of FARM_SUBMIT; none when stock packets say it all. needs: the
    options that only farm's server knows. after: the jobs to wait for, `ok:ID,any:ID`."""

    __slots__ = ("_delay", "_due", "after", "needs", "words")

    def __init__(self, values: Values, now: float) -> None:
        """now: seconds since 1970. Raises UsageError."""
        _refuse_contradictions(values)
        options = terms_given(values)
        self._delay = values["delay"]
        self._due = _due(values, now)
        self.needs = [option.flags[0] for option in options]
        self.words = _words(options, values)
        if values["if_exists"] != "attach":
            self.words.append(f"if-exists={values['if_exists']}")
        self.after = _after(values["after"]) if values["after"] else ""
        if self.after:
            self.words.append(f"after={self.after}")
        if self.words or not values["background"] or values["priority"] != "normal":
            self._move_time_to_words()

    def wait_for(self, after: str) -> None:
        """The same jobs as in `after`, said otherwise."""
        self.words[self.words.index(f"after={self.after}")] = f"after={after}"
        self.after = after

    def _move_time_to_words(self) -> None:
        """SUBMIT_JOB_EPOCH has room for nothing else."""
        if self._delay is not None:
            self.words.append(f"in={_seconds(self._delay)}")  # by the server's clock
        elif self._due:
            self.words.append(f"at={_seconds(self._due)}")
        self._due, self._delay = 0.0, None

    def epoch(self, now: float) -> int:
        """For SUBMIT_JOB_EPOCH: whole seconds since 1970, so that the job never runs too early; 0: it says no time."""
        due = now + self._delay if isinstance(self._delay, float) else self._due
        return -int(-due // 1)


def retry_words(values: Values) -> list[str]:
    """The words of a worker. Raises UsageError."""
    return _words(RETRIES, values)


def _words(options: tuple[Option, ...] | list[Option], values: Values) -> list[str]:
    words = []
    for option in options:
        value = values[option.name]
        if value is None or option.name in _SPECIAL:
            continue
        if option.name == "retry_on":
            parse_retry_on(str(value))
        text = _seconds(value) if option.kind in (SECONDS, SECONDS_OR_0) else str(value)
        words.append(f"{_WORDS.get(option.name, option.flags[0][2:])}={text}")
    return words


def _seconds(value: object) -> str:
    return f"{value:.15g}"


def _refuse_contradictions(values: Values) -> None:
    if values["delay"] is not None and values["at"] is not None:
        raise UsageError("--in and --at exclude each other")
    for name, flag in (("if_exists", "--if-exists"), ("unique_for", "--unique-for")):
        if values[name] not in (None, "attach") and not values["unique"]:
            raise UsageError(f"{flag} says something about a key, and there is none", "--unique KEY, or --unique auto")
        if values[name] not in (None, "attach") and values["unique"] == "-":
            raise UsageError(f"{flag} needs a key, and `-` only compares payloads of jobs that live", "--unique auto")
    if isinstance(values["delay"], float):
        _refuse_to_expire_first("--in", values["delay"], values)


def _refuse_to_expire_first(flag: str, waits_s: float, values: Values) -> None:
    """It could never run, and nobody would hear of it before it has expired."""
    expires_s = values["expires"]
    if isinstance(expires_s, float) and expires_s <= waits_s:
        raise UsageError(
            f"--expires {_seconds(expires_s)}s gives the job up before {flag} lets it run",
            "--expires counts from now on: make it longer than the wait",
        )


def _due(values: Values, now: float) -> float:
    """Of --at, in seconds since 1970; 0.0: there is none. It is said again in full, as at(1) does."""
    if values["at"] is None:
        return 0.0
    from farm.cli.at import parse_at

    due = parse_at(str(values["at"]), now)
    _refuse_to_expire_first("--at", due - now, values)
    if not values["quiet"]:
        say(f"the job is for {time.strftime('%a %Y-%m-%d %H:%M:%S %Z', time.localtime(due))}")
    return due


def _after(values: object) -> str:
    """`ok:ID,any:ID`, checked, from words that may have commas themselves."""
    assert isinstance(values, list)
    words = [word for text in values for word in str(text).split(",")]
    for word in words:
        condition, colon, handle = word.partition(":")
        if condition not in _CONDITIONS or not colon or not handle or not handle.isprintable() or " " in handle:
            raise UsageError(f"--after cannot be {word[:60]!r}", "ok:ID, any:ID or fail:ID; an ID may be shortened")
    return ",".join(words)
