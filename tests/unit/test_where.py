"""The language of --where: what it selects, and that any text is an expression or one clear error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farm.client.records import JOB_FIELDS, job_record
from farm.client.where import DEPTH_MAX, FIELDS, LENGTH_MAX, parse, seconds, size
from farm.errors import NotGearman, UsageError

NOW = 10_000.0

JOB = {
    "id": "H:1:12",
    "function": "resize",
    "unique": "nightly report",
    "priority": "high",
    "background": True,
    "state": "dead",
    "reason": "exit 3",
    "created_at": NOW - 3600,
    "started_at": NOW - 3000,
    "ended_at": NOW - 2988.5,
    "run_s": 11.5,
    "worker": "host-1",
    "exit_code": 3,
    "cpu_s": 0.25,
    "peak_bytes": 64 << 20,
    "attempts": 3,
    "failures": 2,
    "losses": 1,
    "retries": 5,
    "payload_bytes": 2048,
    "result_bytes": 0,
    "log_bytes": 100,
}


def record(**fields: Any) -> dict[str, Any]:
    return job_record({**JOB, **fields}, "here")


def meant(text: str, **fields: Any) -> bool:
    return parse(text)(record(**fields), NOW)


@pytest.mark.parametrize(
    "text",
    [
        "run > 10s and exit != 0",
        "run > 10 and run < 11501ms or exit = 0",
        "run >= 11.5s and run <= 11.5s",
        "state = dead",
        "state == dead",
        "state=dead and(function=resize)",
        "STATE = dead AND NOT exit = 0",
        "not not state = dead",
        "not (state = done or state = running)",
        "state = done or state = running or state = dead",
        "exit = 0 and exit = 0 or exit = 3",
        "exit = 3 or exit = 0 and exit = 0",
        "function ~ ^re and function ~ 'size$'",
        "function ~ '^(resize|report)$'",
        "unique = 'nightly report'",
        'unique = "nightly report"',
        "unique != x",
        "background = yes and background != no",
        "memory >= 64M and memory <= 64MiB and memory > 1k",
        "payload = 2K and result = 0 and log = 100",
        "age = 1h and age < 1d and age > 59m59s",
        "ended < 1h and ended > 49m",
        "queued = 10m",
        "attempts = 3 and failures = 2 and losses = 1 and retries = 5",
        "exit > -1 and exit < 3.5",
        "id = H:1:12 and worker ~ host and priority = high and reason ~ '3$'",
        "cpu < 1s",
    ],
)
def test_what_is_meant(text: str) -> None:
    assert meant(text)
    assert not meant(f"not ({text})")


@pytest.mark.parametrize(
    "text", ["exit = 0", "exit != 3", "run > 1m", "state = done", "function ~ ^size", "memory < 1M", "attempts > 3"]
)
def test_what_is_not_meant(text: str) -> None:
    assert not meant(text)


def test_what_is_unknown_compares_false() -> None:
    unknown = {"exit_code": None, "worker": None, "run_s": None, "ended_at": None}
    for text in ("exit = 0", "exit != 0", "worker ~ .", "worker != x", "run < 1d", "ended > 0", "timeout > 0"):
        assert not meant(text, **unknown)
        assert meant(f"not {text}", **unknown)


def test_how_long_it_has_waited() -> None:
    assert meant("queued = 1h", state="queued", started_at=None, ended_at=None)
    assert meant("queued = 5m", state="queued", started_at=None, ended_at=None, due_at=NOW - 300)
    assert meant("queued = 0", state="delayed", started_at=None, ended_at=None, due_at=NOW + 300)
    assert meant("queued = 30m", state="expired", started_at=None, ended_at=NOW - 1800)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "empty"),
        ("   ", 4, "empty"),
        ("run", 4, "after 'run' comes one of"),
        ("run >", 6, "a value is missing after '>'"),
        ("run > and", 7, "'and' is none"),
        ("run > 10s and", 14, "something is missing at the end"),
        ("run > 10s exit = 0", 11, "expected 'and' or 'or'"),
        ("runn > 10s", 1, "'runn' is no field"),
        ("run > 10x", 7, "'10x' is none"),
        ("memory > 10s", 10, "is a size"),
        ("exit = two", 8, "is a number"),
        ("background = maybe", 14, "is a yes or no"),
        ("state = ded", 9, "never 'ded'"),
        ("state < dead", 7, "cannot be compared"),
        ("run ~ 1", 7, "~ is for text"),
        ("function ~ '('", 12, "not a regular expression"),
        ("(run > 1", 1, "not closed"),
        ("run > 1)", 8, "expected 'and' or 'or'"),
        ("run > 'x", 7, "does not end"),
        ("run ! 1", 5, "'!' means nothing"),
        ("'run' = 1", 1, "no field"),
        ("run = = 1", 7, "a value is missing"),
        ("(" * (DEPTH_MAX + 2), DEPTH_MAX + 2, "within each other"),
        ("not " * (DEPTH_MAX + 2), 4 * (DEPTH_MAX + 1) + 1, "within each other"),
    ],
)
def test_where_it_is_wrong(text: str, column: int, words: str) -> None:
    with pytest.raises(UsageError, match=f"--where, column {column}: .*{words}"):
        parse(text)


def test_a_near_miss_is_guessed() -> None:
    with pytest.raises(UsageError) as caught:
        parse("memmory > 1M")
    assert caught.value.hint.startswith("did you mean 'memory'?")


def test_it_is_not_endless() -> None:
    with pytest.raises(UsageError, match="letters long"):
        parse("x" * (LENGTH_MAX + 1))
    long = " or ".join(["run > 1s"] * 300)
    assert meant(long)


WORDS = st.sampled_from(
    [
        *FIELDS,
        "and",
        "or",
        "not",
        "(",
        ")",
        "=",
        "!=",
        "<",
        "~",
        "'",
        '"',
        "10s",
        "3",
        "10M",
        "dead",
        "yes",
        "[",
        "\\",
        "*",
    ]
)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=60))
@example("run > ٣")
@example("function ~ '[[a]'")
@example("exit = " + "9" * 500)
@example("function ~ 'a{99999999999}'")
def test_any_text_is_an_expression_or_one_clear_error(text: str) -> None:
    message, test = "", None
    try:
        test = parse(text)
    except UsageError as error:
        message = error.message
    if test is None:
        assert message.startswith("--where, column ") and len(message.splitlines()) == 1
    else:
        assert test(record(), NOW) in (True, False)
        assert test(record(**dict.fromkeys(JOB_FIELDS.keys() - KEPT)), NOW) in (True, False)


KEPT = {"id", "function", "state", "created_at", "attempts"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("10s", 10), ("1.5m", 90), ("2h30m", 9000), ("1d", 86400), ("1w", 604800), ("500MS", 0.5)],
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "s", "-1s", "1h30", "1 h", "1x", "٣s", "nan", "1" * 41])
def test_no_durations(text: str) -> None:
    assert seconds(text) is None


def test_sizes() -> None:
    assert [size(text) for text in ("0", "1k", "2KiB", "1.5M", "1gb")] == [0, 1024, 2048, 1.5 * (1 << 20), 1 << 30]
    assert [size(text) for text in ("", "M", "-1", "1x", "1kk")] == [None] * 5


# -- records


@pytest.mark.parametrize(
    "fields",
    [
        {"id": None},
        {"id": "a b"},
        {"id": ""},
        {"id": 3},
        {"state": None},
        {"run_s": "1"},
        {"attempts": True},
        {"cut": 1},
    ],
)
def test_a_strange_record_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(NotGearman, match="the server at here sent a"):
        record(**fields)


def test_unknown_fields_are_left_out_and_missing_ones_are_none() -> None:
    assert set(record(newer=1)) == set(JOB_FIELDS)
    assert record()["progress"] is None
