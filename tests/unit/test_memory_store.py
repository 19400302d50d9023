"""What the store in memory holds on to."""

from __future__ import annotations

import gc
import sys

from farm.broker.effects import Finish, Save
from farm.store.memory import MemoryJournal, MemoryStore


def ended(outcome: str, payload: bytes) -> MemoryJournal:
    """A store in which a job of this payload has ended."""
    journal = MemoryJournal()
    store = MemoryStore(journal)
    store.open()
    store.apply([Save(1, b"f", b"key", 1, payload), Finish(1, outcome, 1.0, 2.0)])
    return journal


def test_the_payload_of_a_job_that_is_done_is_let_go() -> None:
    payload = bytes(1000)
    before = sys.getrefcount(payload)
    journal = ended("done", payload)
    assert sys.getrefcount(payload) == before
    assert journal.ended_size < 1000


def test_the_payload_of_one_that_failed_is_kept_and_counted() -> None:
    payload = bytes(1000)
    journal = ended("failed", payload)
    assert journal.job(1).payload is payload
    assert journal.ended_size > 1000


def test_what_is_kept_is_nothing_to_look_at_for_the_garbage_collection() -> None:
    """However many jobs have ended, a collection takes no longer."""
    journal = ended("done", b"x")
    for _ in range(3):  # a tuple is let go of once all in it are
        gc.collect()
    assert not gc.is_tracked(journal.ended[1])
