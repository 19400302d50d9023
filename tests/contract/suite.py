"""What every store must do: plain functions that take a journal, so that broken stores can be run through them too.

A check gets `new`, which makes another store on the same journal each time it is called: a second call is a restart, or
another server. It raises AssertionError (or whatever the store raises) where the store is not as `Store` promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import pytest

from farm.broker.effects import Change, Expire, Finish, Forget, Save
from farm.store.contract import Fenced, Store, StoreError

NewStore = Callable[[], Store]

PAYLOADS = [b"", b"\0", b"\xff\xfe\n", bytes(range(256)), b"x" * 1_000_000]


def job(id: int, payload: bytes = b"in", priority: int = 1) -> Save:
    """A job to save."""
    return Save(id, b"f", b"u%d" % id, priority, payload)


def opened(new: NewStore) -> Store:
    """A store that owns the journal."""
    store = new()
    store.open()
    return store


def kept(new: NewStore) -> list[Save]:
    """What another owner of the journal finds in it."""
    store = opened(new)
    jobs = list(store.load())
    store.close()
    return jobs


def restarted(new: NewStore, *batches: Sequence[Change]) -> list[Save]:
    """What is left after these batches and a restart."""
    store = opened(new)
    for batch in batches:
        store.apply(batch)
    store.close()
    return kept(new)


# -- keeping


def check_a_new_journal_is_empty(new: NewStore) -> None:
    assert kept(new) == []


def check_saved_is_loaded_after_reopen(new: NewStore) -> None:
    assert restarted(new, [job(1)], [job(2), job(3)]) == [job(1), job(2), job(3)]


def check_saved_is_loaded_without_a_close(new: NewStore) -> None:
    store = opened(new)
    store.apply([job(1)])  # and then the power fails
    assert kept(new) == [job(1)]


def check_every_field_survives_exactly(new: NewStore) -> None:
    jobs = [Save(n + 1, b"f\t\xff", b"\0-'\"", n % 3, payload) for n, payload in enumerate(PAYLOADS)]
    jobs.append(Save((2**23 - 1) << 40 | 1, b"x" * 512, b"", 2, b"last"))  # as large as ids get
    found = restarted(new, jobs)
    assert found == jobs
    assert all(type(save.payload) is bytes and type(save.function) is bytes for save in found)


def check_loaded_in_id_order(new: NewStore) -> None:
    assert restarted(new, [job(30), job(4)], [job(200)], [job(1)]) == [job(1), job(4), job(30), job(200)]


def check_forgotten_is_not_loaded(new: NewStore) -> None:
    assert restarted(new, [job(1), job(2), job(3)], [Forget(2)]) == [job(1), job(3)]


def check_equal_uniques_are_different_jobs(new: NewStore) -> None:
    jobs = [Save(n, b"f", unique, 1, b"in") for n, unique in enumerate([b"", b"", b"-", b"-", b"u", b"u"], 1)]
    assert restarted(new, jobs, [Forget(2), Forget(3)]) == [jobs[0], *jobs[3:]]


def check_order_inside_a_batch(new: NewStore) -> None:
    assert restarted(new, [job(1), Forget(1), job(2)]) == [job(2)]
    assert restarted(new, [Forget(2), job(2), job(3), Forget(3), job(3)]) == [job(2), job(3)]


def check_saving_again_changes_nothing(new: NewStore) -> None:
    assert restarted(new, [job(1, b"first")], [job(1, b"second")], [job(1, b"third"), job(1)]) == [job(1, b"first")]


def check_forgetting_again_changes_nothing(new: NewStore) -> None:
    assert restarted(new, [Forget(7)], [job(1)], [Forget(7), Forget(7)], [job(2), Forget(1), Forget(1)]) == [job(2)]


def check_an_empty_batch_is_fine(new: NewStore) -> None:
    assert restarted(new, [], [job(1)], []) == [job(1)]


def check_the_callers_list_is_its_own(new: NewStore) -> None:
    batch: list[Change] = [job(1)]
    store = opened(new)
    store.apply(batch)
    batch.append(job(2))
    assert kept(new) == [job(1)]


class Failing(list[Change]):
    """A batch that breaks off after its first change, as a full disk would."""

    def __iter__(self) -> Iterator[Change]:
        yield self[0]
        raise OSError("half-way")

    def __reversed__(self) -> NoReturn:
        raise OSError("half-way")


def check_all_or_nothing(new: NewStore) -> None:
    store = opened(new)
    store.apply([job(1)])
    with pytest.raises((OSError, StoreError)):
        store.apply(Failing([job(2), Forget(1), job(3)]))
    assert kept(new) == [job(1)]


def check_a_large_batch(new: NewStore) -> None:
    jobs = [job(n) for n in range(1, 5001)]
    assert restarted(new, jobs, [Forget(n) for n in range(1, 5001, 2)]) == jobs[1::2]


# -- owning


def check_shards_are_numbers_that_never_repeat(new: NewStore) -> None:
    shards = []
    for _ in range(20):
        store = new()
        shards.append(store.open())
        store.close()
    assert all(type(shard) is int and shard > 0 for shard in shards)
    assert len(set(shards)) == len(shards)
    assert shards[-1] < 2**23, "with the 40 bits of a sequence an id must fit into the 63 bits that databases have"


def check_a_second_open_fences_the_first(new: NewStore) -> None:
    first = opened(new)
    first.apply([job(1)])
    second = opened(new)
    with pytest.raises(Fenced):
        first.apply([job(2), Forget(1)])
    second.apply([job(3)])
    assert list(second.load()) == [job(1), job(3)]


def check_a_fenced_store_stays_fenced(new: NewStore) -> None:
    first = opened(new)
    second = opened(new)
    second.apply([job(1)])
    second.close()  # the journal has no owner now, and yet:
    with pytest.raises(Fenced):
        first.apply([job(2)])
    assert kept(new) == [job(1)]


def check_closing_a_fenced_store_harms_nobody(new: NewStore) -> None:
    first = opened(new)
    second = opened(new)
    first.close()
    second.apply([job(1)])
    assert kept(new) == [job(1)]


def check_an_unopened_store_refuses(new: NewStore) -> None:
    store = new()
    with pytest.raises(StoreError):
        store.apply([job(1)])
    with pytest.raises(StoreError):
        list(store.load())
    assert kept(new) == []


def check_a_closed_store_refuses(new: NewStore) -> None:
    store = opened(new)
    store.apply([job(1)])
    store.close()
    with pytest.raises(StoreError):
        store.apply([job(2)])
    with pytest.raises(StoreError):
        list(store.load())
    assert kept(new) == [job(1)]


def check_closing_twice_is_fine(new: NewStore) -> None:
    store = opened(new)
    store.close()
    store.close()
    new().close()


def check_an_unopened_store_fences_nobody(new: NewStore) -> None:
    owner = opened(new)
    new()
    owner.apply([job(1)])
    assert kept(new) == [job(1)]


# -- what is kept of jobs that have ended


def ends(new: NewStore, *times: float, size: int = 0) -> Store:
    """A store in which jobs 1, 2 and so on have ended, in this order, at these times."""
    store = opened(new)
    for id, at in enumerate(times, 1):
        store.apply([job(id), Finish(id, "done", 0.0, at, result=bytes(size))])
    return store


def left(store: Store) -> list[int]:
    """The jobs of which something is kept, of the first ten."""
    return [id for id in range(1, 11) if store.ended(id)]


def check_what_is_old_is_dropped(new: NewStore) -> None:
    store = ends(new, 10.0, 20.0, 30.0)
    store.apply([Expire(20.0, 10**6, now=40.0)])
    assert left(store) == [2, 3]
    assert not store.overdue


def check_what_is_too_much_is_dropped_oldest_first(new: NewStore) -> None:
    store = ends(new, 10.0, 20.0, 30.0, size=1000)
    store.apply([Expire(0.0, 2500, now=40.0)])
    assert left(store) == [2, 3]


def check_results_give_way_to_new_jobs_oldest_first(new: NewStore) -> None:
    store = ends(new, 10.0, 20.0, 30.0, size=1000)
    store.apply([Expire(0.0, 10**6, now=40.0, room=1500)])
    assert left(store) == [3]
    assert store.gave_way


def check_what_can_be_run_again_gives_way_to_nothing(new: NewStore) -> None:
    """Nobody else has its payload."""
    store = opened(new)
    for id, outcome in enumerate(("failed", "done", "cancelled", "done"), 1):
        store.apply([job(id), Finish(id, outcome, 0.0, 10.0 + id)])
    store.apply([Expire(0.0, 10**6, now=40.0, room=1)])
    assert left(store) == [1, 3, 4]
    store.gave_way = False
    store.apply([Expire(0.0, 10**6, now=40.0, room=10**6)])
    assert left(store) == [1, 3]
    assert store.gave_way
    store.gave_way = False
    store.apply([Expire(0.0, 10**6, now=40.0, room=10**6)])
    assert left(store) == [1, 3]
    assert not store.gave_way, "there was nothing to drop"
    store.apply([job(5), Finish(5, "done", 0.0, 20.0), Expire(0.0, 10**6, now=40.0, room=1)])
    assert left(store) == [1, 3], "nor does what came later stay"


def check_what_is_too_old_counts_as_room(new: NewStore) -> None:
    store = ends(new, 10.0, 20.0, 30.0, size=1000)
    store.apply([Expire(15.0, 10**6, now=40.0, room=1000)])
    assert left(store) == [2, 3]


def check_an_end_of_a_wrong_clock_holds_up_nobody(new: NewStore) -> None:
    """It was set forward for a while; what ended then is kept at most twice as long as the rest."""
    store = ends(new, 10.0, 110.0, 11.0, 1000.0, 12.0, 95.0)
    store.apply([Expire(50.0, 10**6, now=100.0)])
    assert left(store) == [2, 6]


def check_it_knows_whether_it_keeps_anything(new: NewStore) -> None:
    store = opened(new)
    store.apply([job(1), job(2)])
    assert not store.keeps()
    store.apply([Finish(1, "done", 0.0, 10.0)])
    store.close()
    store = opened(new)
    assert store.keeps(), "after a restart"
    store.apply([Expire(20.0, 10**6, now=40.0)])
    assert not store.keeps()


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
