"""gearmand's losses A to N (RELIABILITY.md) and its 25 bugs (PROTOCOL.md, section 3): where each is tested.

Only those that concern a server without a store; the others (A, D, G, I, 4, 5, 24) come with the store. `row NAME` is a
row of the differential test's table: its script is played against both servers and shows gearmand's fault and farm's
answer. Anything else is a test's name.
"""

from __future__ import annotations

import re

import pytest

from tests.interop.differential.differences import AGREED, DIFFERENCES
from tests.support import CHECKOUT

TESTED = {
    "B": "row background-lost",
    "C": "row background-joins",
    "E": "test_a_handle_names_the_life_and_the_count",
    "F": "test_job_retries",
    "H": "row four-gib",
    "J": "test_a_client_that_does_not_read_holds_up_its_worker",
    "K": "row line-8k",
    "L": "test_stalled",
    "M": "row drop-queued",
    "N": "test_what_would_lose_something_is_refused_with_a_hint",
    "1": "row background-lost",
    "2": "row attach-abandoned",
    "3": "row abandoned-counted",
    "6": "row timeout-second-job",
    "7": "row epoch-due",
    "8": "row exception-as-fail",
    "9": "row reduce-unique",
    "10": "row four-gib",
    "11": "row short-packet",
    "12": "row unique-64",
    "13": "test_what_would_lose_something_is_refused_with_a_hint",
    "14": "row lf-in-id",
    "15": "row create-lf",
    "16": "row drop-queued",
    "17": "row abandoned-limit",
    "18": "test_a_handle_names_the_life_and_the_count",
    "19": "test_the_worker_of_an_unwanted_job_is_told_if_it_can_be",
    "20": "row lost-order",
    "21": "row status-long-denominator",
    "25": "row fail-after-exception",
}


@pytest.mark.parametrize("number", TESTED)
def test_what_tests_it_is_there(number: str) -> None:
    """A test that was renamed or a row that was taken out must not leave a fault without one."""
    kind, _, name = TESTED[number].rpartition(" ")
    if kind:
        assert name in {row.name for row in DIFFERENCES} | set(AGREED)
    else:
        files = (CHECKOUT / "tests").rglob("test_*.py")
        assert any(re.search(rf"^def {name}\(", file.read_text(), re.M) for file in files)
