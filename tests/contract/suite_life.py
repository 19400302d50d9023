"""What every store must do about a job's life besides saving and ending it: attempts, progress, another run, and what
is asked about the past. Like tests/contract/suite.py, of which this is a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from farm.broker.effects import (
    Attempt,
    Change,
    CronGone,
    CronRow,
    Expire,
    Finish,
    Forget,
    Known,
    Progress,
    Purge,
    Revive,
    Save,
    Setting,
    UniqueUntil,
    Usage,
)
from farm.store.contract import Store

NewStore = Callable[[], Store]

TERMS = b"retries=3 backoff=0.5"
SIZE_MAX = 10**9


def job(id: int, function: bytes = b"f", **more: object) -> Save:
    """A job with terms."""
    return Save(id, function, b"key", 1, b"payload", terms=TERMS, **more)  # type: ignore[arg-type]


def failed(id: int, at: float = 10.0, **more: object) -> Finish:
    """Its end, after two attempts."""
    return Finish(id, "failed", 1.0, at, b"w", 3, reason=b"exit 3", number=2, failures=2, **more)  # type: ignore[arg-type]


def opened(new: NewStore, *batches: Sequence[Change]) -> Store:
    """A store that owns the journal, with these in it."""
    store = new()
    store.open()
    for batch in batches:
        store.apply(batch)
    return store


def again(new: NewStore, *batches: Sequence[Change]) -> Store:
    """The same after a restart."""
    opened(new, *batches).close()
    return opened(new)


def known(new: NewStore, *batches: Sequence[Change]) -> list[Known]:
    """What it knows then."""
    return list(again(new, *batches).known())


def check_terms_are_kept_with_a_job_and_its_end(new: NewStore) -> None:
    end = failed(2, losses=1, cpu_s=0.25, peak=1 << 40, keep_s=7.1)
    store = again(new, [job(1), job(2), Save(3, b"f", b"", 1, b"")], [end])
    assert list(store.load()) == [job(1), Save(3, b"f", b"", 1, b"")]
    assert store.ended(2) == end
    about = store.about(2)
    assert about
    assert about.terms == TERMS


# -- progress


def check_progress_is_known_again(new: NewStore) -> None:
    rows = [Progress(2, 3, 1, 2, 99.5, True, b"ok:H:1:1", 98.25, b"w\xff"), Progress(3, 1, running=True, started=9.5)]
    assert known(new, [job(1), job(2), job(3)], rows) == rows


def check_the_newest_progress_counts(new: NewStore) -> None:
    batches = [job(1), Progress(1, 1), job(2), Progress(1, 2)], [Progress(2, 1), Progress(1, 3), Progress(1, 4)]
    assert known(new, *batches) == [Progress(1, 4), Progress(2, 1)]


def check_progress_of_an_unknown_job_changes_nothing(new: NewStore) -> None:
    assert known(new, [Progress(1, 1)], [job(1), job(2), Forget(2), Progress(2, 1)]) == []


def check_an_end_ends_progress(new: NewStore) -> None:
    jobs = [job(n) for n in range(1, 5)]
    assert known(new, [*jobs, *(Progress(n, 1) for n in range(1, 5))], [Forget(1), failed(2)]) == [
        Progress(3, 1),
        Progress(4, 1),
    ]
    assert known(new, [Progress(3, 2), failed(3), Progress(4, 2), Forget(4)]) == []


def check_progress_after_a_job_is_run_again(new: NewStore) -> None:
    assert known(new, [job(1), Progress(1, 1), failed(1), Revive(1), Progress(1, 2)]) == [Progress(1, 2)]


# -- attempts


def check_attempts_are_kept_with_the_job_and_its_end(new: NewStore) -> None:
    first = Attempt(1, 1, 1.0, 2.0, "failed", b"exit 3", b"w\xff", 3, 0.5, 1 << 40, b"log\xff")
    second = Attempt(1, 2, 3.0, 4.0, "lost")
    store = again(new, [job(1), second, first, first._replace(outcome="timeout")])
    assert store.attempts(1) == [first, second]
    store.apply([failed(1)])
    assert store.attempts(1) == [first, second]
    assert store.attempts(2) == []


def check_attempts_go_with_what_they_are_of(new: NewStore) -> None:
    ids = range(1, 6)
    store = opened(new, [*map(job, ids), *(Attempt(id, 1, 1.0, 2.0, "failed") for id in ids)])
    store.apply([Forget(1), failed(2), failed(3, at=90.0), failed(4, at=91.0)])
    store.apply([Forget(4), Expire(50.0, SIZE_MAX, now=100.0), Purge(3), Purge(5)])
    assert [id for id in ids if store.attempts(id)] == [4, 5]


def check_an_attempt_of_an_unknown_job_changes_nothing(new: NewStore) -> None:
    store = opened(new, [Attempt(1, 1, 1.0, 2.0, "lost"), job(1), Forget(1), Attempt(1, 2, 1.0, 2.0, "lost")])
    assert store.attempts(1) == []


def check_attempts_count_in_what_is_kept(new: NewStore) -> None:
    log = bytes(1000)
    store = opened(new, [job(1), Attempt(1, 1, 1.0, 2.0, "failed", log=log), failed(1), job(2), failed(2)])
    store.apply([Attempt(2, 1, 1.0, 2.0, "failed", log=log), Expire(0.0, 3000, now=20.0)])
    assert store.ended_ids(1, 2, 9) == [2, 1]
    store.apply([Expire(0.0, 2000, now=20.0)])
    assert store.ended_ids(1, 2, 9) == [2]


def check_what_an_attempt_used_may_be_known_after_its_end(new: NewStore) -> None:
    """It goes to the row that describes the attempt, and changes nothing else."""
    first = Attempt(1, 1, 1.0, 2.0, "timeout", log=b"log\xff")
    end = failed(1, result=b"\xff", log=b"log")
    store = opened(new, [job(1), first, job(2)], [Usage(1, 1, 0.25, 1 << 40), Usage(1, 2, 9.0, 9), Usage(2, 1, 9.0, 9)])
    assert store.attempts(1) == [first._replace(cpu_s=0.25, peak=1 << 40)]
    store.apply([end, Usage(1, 2, 0.5, 7), Usage(1, 1, 0.75, 8), Usage(1, 3, 9.0, 9), Usage(3, 1, 9.0, 9)])
    store.close()
    store = opened(new)
    assert store.ended(1) == end._replace(cpu_s=0.5, peak=7)
    assert store.attempts(1) == [first._replace(cpu_s=0.75, peak=8)]
    about = store.about(1)
    assert about
    assert (about.cpu_s, about.peak) == (0.5, 7)
    assert store.attempts(2) == []


# -- again, or gone


def check_an_ended_job_can_be_run_again(new: NewStore) -> None:
    before = job(1, reducer=b"r", due=5.0, created=2.5)
    attempts = [Attempt(1, 1, 1.0, 2.0, "failed"), Attempt(1, 2, 1.0, 2.0, "failed")]
    store = again(new, [before, attempts[0], failed(1)], [Revive(1), attempts[1]])
    assert list(store.load()) == [before._replace(due=0.0)]
    assert store.payload(1) == before.payload
    assert store.ended(1) is None
    assert store.about(1) is None
    assert store.attempts(1) == attempts
    assert not store.keeps()
    store.apply([failed(1, at=99.0)])
    assert store.ended(1) == failed(1, at=99.0)


def check_attempts_are_told_of_one_that_ended_before_the_next(new: NewStore) -> None:
    """Of all ends, in lists too; and only where the end itself does not say."""
    attempts = [Attempt(id, number, 1.0, 2.0, "failed") for id in (1, 2, 3) for number in (1, 2, 11)]
    waited = [Finish(id, "expired", 0.0, 20.0, number=0) for id in (1, 4)]
    ran = Finish(2, "failed", 3.0, 20.0, number=12, failures=1)
    store = again(new, [*map(job, (1, 2, 3, 4)), *attempts], [*waited, ran, failed(3)])
    for found in (store.past(9), store.past(9, outcomes=("expired", "failed")), store.past(9, function=b"f")):
        assert {past.id: past.tried for past in found} == {1: 11, 2: 0, 3: 0, 4: 0}
    assert [about and about.tried for about in map(store.about, (1, 2, 4))] == [11, 0, 0]
    store.apply([Revive(1), Finish(1, "cancelled", 0.0, 21.0, number=0)])
    (one,) = store.past(1)
    assert (one.id, one.tried) == (1, 11)


def check_what_cannot_be_run_again_stays(new: NewStore) -> None:
    done = Finish(1, "done", 1.0, 2.0)
    store = again(new, [job(1), job(2), done], [Revive(1), Revive(2), Revive(3)])
    assert list(store.load()) == [job(2)]
    assert store.ended(1) == done


def check_an_end_can_be_purged(new: NewStore) -> None:
    store = again(new, [job(1), job(2), job(3), failed(1), failed(2)], [Purge(1), Purge(3), Purge(4)])
    assert store.ended_ids(1, 9, 9) == [2]
    assert list(store.load()) == [job(3)]
    store.apply([Purge(2)])
    assert not store.keeps()


def check_the_order_of_ends_and_other_runs_in_a_batch(new: NewStore) -> None:
    store = again(new, [job(1), failed(1), Revive(1), failed(1, at=20.0), job(2), failed(2), Purge(2), Revive(2)])
    assert list(store.load()) == []
    assert store.ended_ids(1, 9, 9) == [1]
    assert store.ended(1) == failed(1, at=20.0)


# -- settings, keys, cron


def check_settings_are_known_again(new: NewStore) -> None:
    batches = [Setting(b"f", b"a"), Setting(b"g\xff", b"paused=1")], [Setting(b"f", b""), Setting(b"h", b"b")]
    assert known(new, *batches, [Setting(b"h", b"c")]) == [Setting(b"g\xff", b"paused=1"), Setting(b"h", b"c")]


def check_keys_are_known_until_their_time(new: NewStore) -> None:
    keys = [UniqueUntil(b"f", b"a", 1, 50.0), UniqueUntil(b"f", b"b", 2, 150.0), UniqueUntil(b"g", b"a", 3, 50.0)]
    newer = UniqueUntil(b"f", b"a", 4, 100.5)
    store = again(new, keys, [newer])
    assert list(store.known()) == [newer, *keys[1:]]
    assert store.keeps(), "or nobody would drop them"
    store.apply([Expire(0.0, SIZE_MAX, now=100.0)])
    store.close()
    assert known(new) == [newer, keys[1]]


def check_cron_entries_are_known_again(new: NewStore) -> None:
    entries = [CronRow(b"a", b"{1}", b"\0\xff"), CronRow(b"b", b"{2}", b""), CronRow(b"c", b"{}", b"gone")]
    later = [CronRow(b"a", b"{3}", None), CronGone(b"c"), CronGone(b"d"), CronRow(b"e", b"{}", None)]
    assert known(new, entries, later) == [CronRow(b"a", b"{3}", b"\0\xff"), CronRow(b"b", b"{2}", b"")]


# -- how long


def check_who_said_how_long_is_kept_for_so_long(new: NewStore) -> None:
    store = opened(new, [*map(job, range(1, 6))])
    store.apply([failed(1, 10.0, keep_s=200.0), failed(2, 11.0), failed(3, 12.0, keep_s=20.0)])
    store.apply([failed(4, 95.0, keep_s=0.0), failed(5, 96.0)])
    store.apply([Expire(50.0, SIZE_MAX, now=100.0)])
    assert store.ended_ids(1, 9, 9) == [5, 1]
    store.apply([Expire(50.0, 200, now=100.0)])
    assert store.ended_ids(1, 9, 9) == [5], "too much is too much"


# -- the past


def many(new: NewStore) -> Store:
    """20 ended jobs, in order of their ends; the odd ones are of g, every fifth is not done."""
    store = opened(new)
    for id in range(1, 21):
        name = b"g" if id % 2 else b"f"
        outcome = ("cancelled" if id == 10 else "failed") if id % 5 == 0 else "done"
        end = Finish(id, outcome, 1.0, 100.0 + id, b"w", 0, b"r" * id, b"l", id == 3, reason=b"so", cpu_s=0.5)
        store.apply([job(id, name, created=float(id), reducer=b"sum"), end])
    return store


def check_the_past_is_told_newest_first(new: NewStore) -> None:
    store = many(new)
    found = store.past(100)
    assert [past.id for past in found] == list(range(20, 0, -1))
    assert sorted((past.n for past in found), reverse=True) == [past.n for past in found]
    assert found[0][1:] == (
        *(20, b"f", b"key", 1, 20.0, TERMS, "failed", 1.0, 120.0, b"w", 0, False, b"so", 1, 0, 0, 0.5, -1, 20, 1, 7),
        *(b"sum", 0),
    )
    assert found[17].cut is True
    assert found[1].payload_size == -1
    assert [store.about(past.id) for past in found] == found
    assert store.about(21) is None


def check_the_past_is_told_in_pieces(new: NewStore) -> None:
    store = many(new)
    first = store.past(3)
    second = store.past(3, before=first[-1].n)
    assert [past.id for past in first + second] == [20, 19, 18, 17, 16, 15]
    assert store.past(3, before=store.past(100)[-1].n) == []


def check_the_past_of_a_function_and_of_outcomes(new: NewStore) -> None:
    store = many(new)

    def ids(limit: int = 100, **which: object) -> list[int]:
        return [past.id for past in store.past(limit, **which)]  # type: ignore[arg-type]

    assert ids(function=b"g") == list(range(19, 0, -2))
    assert ids(outcomes=("failed",)) == [20, 15, 5]
    assert ids(outcomes=("failed", "cancelled")) == [20, 15, 10, 5]
    assert ids(outcomes=("done", "failed"), limit=4) == [20, 19, 18, 17]
    assert ids(function=b"f", outcomes=("failed", "cancelled")) == [20, 10]
    assert ids(function=b"f", outcomes=("done",), limit=2) == [18, 16]
    assert ids(function=b"h") == ids(outcomes=("expired",)) == []


def check_the_past_since_a_time(new: NewStore) -> None:
    store = many(new)
    assert [past.id for past in store.past(100, since=18.0)] == [20, 19, 18]
    assert [past.id for past in store.past(100, since=10.5, outcomes=("failed",))] == [20, 15]


def check_ids_of_ended_jobs(new: NewStore) -> None:
    store = opened(new, [job(n) for n in (3, 1, 9, 5)], [failed(3), failed(9), failed(1)])
    assert store.ended_ids(1, 9, 10) == [9, 3, 1]
    assert store.ended_ids(2, 8, 10) == [3]
    assert store.ended_ids(1, 9, 2) == [9, 3]


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
