"""The words of --retry-on: which failures they mean, and what is none of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import UsageError
from farm.protocol.retry_on import parse_retry_on


@pytest.mark.parametrize(
    ("text", "kind", "code", "meant"),
    [
        ("75", "exit", 75, True),
        ("75", "exit", 76, False),
        ("75,1-5", "exit", 1, True),
        ("75,1-5", "exit", 5, True),
        ("75,1-5", "exit", 6, False),
        ("1-255", "other", -1, False),
        ("255", "exit", 255, True),
        ("exit", "exit", 3, True),
        ("exit", "signal", 137, False),
        ("signal", "signal", 137, True),
        ("137", "signal", 137, True),
        ("signal", "exit", 1, False),
        ("timeout", "timeout", 124, True),
        ("timeout", "exit", 124, False),
        ("signal,timeout", "exit", 1, False),
        ("any", "other", -1, True),
        ("any", "exit", 1, True),
    ],
)
def test_what_is_meant(text: str, kind: str, code: int, meant: bool) -> None:
    assert parse_retry_on(text).matches(kind, code) is meant


@pytest.mark.parametrize(
    "text",
    ["", "0", "0-5", "256", "5-1", "1-256", "1-", "-5", "1--2", "75,", ",75", "75, 76", "+5", "1e1", "\u0663", "Exit"],
)
def test_what_means_nothing(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--retry-on cannot be '") as caught:
        parse_retry_on(text)
    assert "ranges (1-5)" in caught.value.hint


@given(st.text(max_size=20))
def test_any_text_is_understood_or_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        parse_retry_on(text)
    except UsageError as error:
        message = error.message
    assert "\n" not in message
