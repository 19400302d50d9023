"""From what was typed to the words on the wire: a job's terms, its packet and its key."""

from __future__ import annotations

from typing import Any

import pytest

from farm.broker.terms import parse_submission
from farm.cli.options import complete
from farm.cli.submit import auto_key
from farm.cli.submit_options import SUBMIT, TERMS, terms_given
from farm.cli.terms import Terms, retry_words
from farm.client.request import Request
from farm.errors import UsageError
from farm.protocol import packets as p
from farm.protocol.limits import UNIQUE_MAX
from tests.support import req

NOW = 1_800_000_000.25

# Each option as typed, and its words.
WORDS = {
    "delay": ("10m", "in=600"),
    "at": ("2030-01-01T00:00Z", "at=1893456000"),
    "expires": ("1h", "expires=3600"),
    "queue_timeout": ("90s", "queue-timeout=90"),
    "timeout": ("2h30m", "timeout=9000"),
    "retries": ("5", "retries=5"),
    "retry_on": ("75,signal", "retry-on=75,signal"),
    "backoff": ("500ms", "backoff=0.5"),
    "backoff_max": ("1h", "backoff-max=3600"),
    "if_exists": ("skip", "if-exists=skip"),
    "unique_for": ("23h", "unique-for=82800"),
    "after": (["ok:H:a:1", "any:H:a:2,fail:H:a:3"], "after=ok:H:a:1,any:H:a:2,fail:H:a:3"),
    "keep_results": ("0", "keep=0"),
}


def values(**given: Any) -> Any:
    """Complete values of a command line."""
    return complete(SUBMIT, {"function": "f", "quiet": True, "unique": "k", **given}, {})


def test_every_term_is_tried_here() -> None:
    assert {option.name for option in TERMS} == set(WORDS)


@pytest.mark.parametrize("name", WORDS)
def test_each_has_its_words_and_the_server_understands_them(name: str) -> None:
    typed, words = WORDS[name]
    terms = Terms(values(**{name: typed}), NOW)
    assert terms.words == [words]
    assert terms.needs == [next(option.flags[0] for option in TERMS if option.name == name)]
    assert terms.epoch(NOW) == 0
    parse_submission(words.encode(), NOW)


def test_all_of_them_together() -> None:
    given = {name: typed for name, (typed, _) in WORDS.items() if name != "at"}
    terms = Terms(values(background=True, **given), NOW)
    assert sorted(terms.words) == sorted(words for name, (_, words) in WORDS.items() if name != "at")
    found = parse_submission(" ".join(["background=1", *terms.words]).encode(), NOW)
    assert found.background
    assert found.due == NOW + 600
    assert found.terms.after == ((b"ok", b"H:a:1"), (b"any", b"H:a:2"), (b"fail", b"H:a:3"))


def test_without_any_there_are_none() -> None:
    assert terms_given(values()) == []
    assert terms_given(values(if_exists="attach")) == []  # what every server does
    assert [option.name for option in terms_given(values(retries="0"))] == ["retries"]  # not what a function may say


@pytest.mark.parametrize(("name", "epoch"), [("delay", 1_800_000_601), ("at", 1_893_456_000)])
def test_a_background_jobs_time_alone_is_a_stock_packet(name: str, epoch: int) -> None:
    """Rounded up: it never runs too early."""
    terms = Terms(values(background=True, **{name: WORDS[name][0]}), NOW)
    assert (terms.words, terms.epoch(NOW)) == ([], epoch)
    packet = Request(b"f", b"payload", b"k", epoch=epoch).pieces(background=True)
    assert b"".join(packet) == req(p.SUBMIT_JOB_EPOCH, b"f", b"k", b"%d" % epoch, b"payload")


@pytest.mark.parametrize("more", [{"priority": "high"}, {"retries": "1"}])
def test_with_anything_else_it_is_not(more: dict[str, str]) -> None:
    terms = Terms(values(background=True, delay="10m", **more), NOW)
    assert terms.words[-1] == "in=600"
    assert terms.epoch(NOW) == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"delay": "1m", "at": "17:00"}, "--in and --at exclude each other"),
        ({"delay": "1h", "expires": "1m"}, "--expires 60s gives the job up before --in lets it run"),
        ({"delay": "1m", "expires": "1m"}, "--expires 60s gives the job up before --in lets it run"),
        ({"at": "2038-01-01", "expires": "1h30m"}, "--expires 5400s gives the job up before --at lets it run"),
        ({"unique": None, "if_exists": "skip"}, "--if-exists says something about a key, and there is none"),
        ({"unique": None, "unique_for": "1h"}, "--unique-for says something about a key, and there is none"),
        ({"retry_on": "0"}, "--retry-on cannot be '0'"),
        ({"after": ["H:a:1"]}, "--after cannot be 'H:a:1'"),
        ({"after": ["ok:"]}, "--after cannot be 'ok:'"),
        ({"after": ["ok"]}, "--after cannot be 'ok'"),
        ({"after": [""]}, "--after is empty"),
        ({"after": ["ok:H:a:1,"]}, "--after cannot be ''"),
        ({"after": ["good:H:a:1"]}, "--after cannot be 'good:H:a:1'"),
        ({"after": ["ok:H:a 1"]}, "--after cannot be 'ok:H:a 1'"),
        ({"after": ["ok:H:a\n1"]}, "--after cannot be "),
    ],
)
def test_what_is_no_term(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Terms(values(**given), NOW)
    assert caught.value.message.startswith(words)
    assert "\n" not in caught.value.message


def test_a_workers_words_are_of_retries_only() -> None:
    given = values(retries="3", timeout="1m", backoff="1m")
    assert retry_words(given) == ["retries=3", "backoff=60"]


# -- the packet


def test_the_packet_with_terms() -> None:
    wanted = Request(b"f", b"payload", b"k", "high", terms=["retries=5", "in=60"])
    assert b"".join(wanted.pieces(background=False)) == req(
        p.FARM_SUBMIT, b"f", b"k", b"priority=high retries=5 in=60", b"payload"
    )
    wanted = Request(b"f", b"", terms=["retries=5"])
    assert b"".join(wanted.pieces(background=True)) == req(p.FARM_SUBMIT, b"f", b"", b"background=1 retries=5", b"")


@pytest.mark.parametrize("background", [True, False])
def test_the_packet_without_terms_is_the_stock_one(background: bool) -> None:
    number = p.SUBMIT_JOB_LOW_BG if background else p.SUBMIT_JOB_LOW
    assert b"".join(Request(b"f", b"x", b"k", "low").pieces(background)) == req(number, b"f", b"k", b"x")


# -- the key that is made


def test_the_made_key_is_the_same_for_the_same_job_only() -> None:
    keys = [auto_key(*job) for job in [(b"f", b""), (b"f", b"x"), (b"g", b"x"), (b"fx", b""), (b"f\0x", b"")]]
    assert len(set(keys)) == len(keys)
    assert auto_key(b"f", b"x") == keys[1]
    for key in keys:
        assert key.startswith(b"auto:")
        assert len(key) <= UNIQUE_MAX


def test_the_made_key_does_not_change_between_versions() -> None:
    """Jobs with it may be kept by a server for days."""
    assert auto_key(b"resize", b"payload") == b"auto:c56f82c7d994849f32f46d44d95a507e38c0948bee6f7cd4"
