"""A job's terms, from what was typed to the words of FARM_SUBMIT and FARM_TERMS (farm/protocol/JOBS.md).

Only imported when there are any. On the start-up path of `farm submit` then: it imports nothing slow.
"""

from __future__ import annotations

import time

from farm.cli.main import say
from farm.cli.options import RETRIES, Option, Values
from farm.cli.submit_options import TERMS
from farm.cli.values import SECONDS, SECONDS_OR_0
from farm.errors import UsageError
from farm.protocol.retry_on import parse_retry_on

_CONDITIONS = ("ok", "any", "fail")
_NOT_OWN = ("delay", "at", "if_exists", "after")  # each with a rule of its own
_WORDS = {"keep_results": "keep"}  # where the term is called otherwise than the option


class Terms:
    """What was typed, as a Request wants it. words: of FARM_SUBMIT; none when the stock packets say it all. epoch:
    seconds since 1970 for SUBMIT_JOB_EPOCH, 0: none. needs: the options that only farm's server knows."""

    __slots__ = ("epoch", "needs", "words")

    def __init__(self, words: list[str], epoch: int, needs: list[str]) -> None:
        self.words = words
        self.epoch = epoch
        self.needs = needs


def given(values: Values) -> bool:
    """Whether there are any."""
    return any(_is_given(option, values) for option in TERMS)


def retry_words(values: Values) -> list[str]:
    """The words of a worker. Raises UsageError."""
    return _words(RETRIES, values)


def terms_of(values: Values, now: float) -> Terms:
    """A submitter's. now: seconds since 1970. Raises UsageError."""
    _refuse_contradictions(values)
    options = [option for option in TERMS if _is_given(option, values)]
    words = _words(options, values)
    words += [f"if-exists={values['if_exists']}"] if values["if_exists"] != "attach" else []
    words += [f"after={_after(values['after'])}"] if values["after"] else []
    due = _due(values, now)
    timed = due is not None
    if timed and not words and values["background"] and values["priority"] == "normal":
        return Terms([], due_epoch(due), [])
    if values["delay"] is not None:
        words.append(f"in={_seconds(values['delay'])}")  # by the server's clock
    elif due is not None:
        words.append(f"at={_seconds(due)}")
    return Terms(words, 0, [option.flags[0] for option in options])


def due_epoch(due: float | None) -> int:
    """Whole seconds, so that the job never runs too early."""
    assert due is not None
    return -int(-due // 1)


def _is_given(option: Option, values: Values) -> bool:
    value = values[option.name]
    return value not in (None, []) and value != option.default


def _words(options: tuple[Option, ...] | list[Option], values: Values) -> list[str]:
    words = []
    for option in options:
        value = values[option.name]
        if value is None or option.name in _NOT_OWN:
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


def _due(values: Values, now: float) -> float | None:
    """Seconds since 1970. A time that was named is said again in full, as at(1) does."""
    if values["at"] is None:
        delay = values["delay"]
        return now + delay if isinstance(delay, float) else None
    from farm.cli.at import parse_at

    due = parse_at(str(values["at"]), now)
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
            raise UsageError(f"--after cannot be {word[:60]!r}", "ok:ID, any:ID or fail:ID, where ID is a job's handle")
    return ",".join(words)
