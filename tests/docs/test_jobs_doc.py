"""farm/docs/jobs.md has every field of --where, every state and every field of the JSON; and its part of the README is
typed into a shell in test_readme.py."""

from __future__ import annotations

import re

import pytest

from farm.client.records import ATTEMPT_FIELDS, END_FIELDS, FUNCTION_FIELDS, JOB_FIELDS, STATES
from farm.client.where import FIELDS
from tests.docs.console import between
from tests.support import CHECKOUT

TEXT = (CHECKOUT / "farm/docs/jobs.md").read_text()


def test_the_fields_of_where() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", between(TEXT, "fields"), re.M)
    assert rows == [(name, field.kind, field.meaning) for name, field in FIELDS.items()]


@pytest.mark.parametrize("heading", ["A job", "A function"])
def test_the_fields_of_the_json(heading: str) -> None:
    part = TEXT.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    for name in {"A job": [*JOB_FIELDS, *ATTEMPT_FIELDS], "A function": list(FUNCTION_FIELDS)}[heading]:
        assert f"`{name}`" in part, name


def test_states_and_the_fields_of_an_end() -> None:
    for name in (*STATES, *END_FIELDS):
        assert f"`{name}`" in TEXT, name
