"""farm/docs/cron.md has every command, every field of the JSON and every limit, as they are."""

from __future__ import annotations

import re

import pytest

from farm.broker import cron, crons
from farm.broker.schedule import WORDS, Schedule
from farm.cli.cron_options import CRON
from farm.client.records import CRON_FIELDS, CRON_RUN_FIELDS
from tests.support import CHECKOUT

TEXT = (CHECKOUT / "farm/docs/cron.md").read_text()


@pytest.mark.parametrize("name", CRON)
def test_every_command(name: str) -> None:
    assert f"farm {name}" in TEXT or f"`{name.removeprefix('cron ')} NAME`" in TEXT


@pytest.mark.parametrize("field", [*CRON_FIELDS, *CRON_RUN_FIELDS, "server", "entries", "servers", "times", "local"])
def test_every_field(field: str) -> None:
    assert f"`{field}`" in TEXT.partition("## JSON")[2]


@pytest.mark.parametrize("word", [*WORDS, *cron.OVERLAPS, *cron.CATCH_UPS])
def test_every_word(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_every_limit() -> None:
    for words in (
        f"at most {cron.LATE_MAX_S:g} seconds old",
        f"the newest {cron.CATCH_UP_MAX} of them",
        f"at most {cron.LIVE_MAX} of an entry",
        f"at most {crons.ENTRIES_MAX} entries",
        f"payloads of {crons.PAYLOADS_MAX >> 20} MiB together",
    ):
        assert words in TEXT
    assert (cron.RUNS_KEPT, cron.CLOCK_WRONG_S) == (10, 86400.0)
    assert "the ten newest runs" in TEXT and "more than a day" in TEXT


def test_every_line_of_an_example_is_one() -> None:
    lines = re.findall(r"cron add '([^']*)'", TEXT)
    assert len(lines) >= 2
    for line in lines:
        Schedule(line)
