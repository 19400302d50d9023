"""Durable submission beats gearmand with its SQLite queue by far, on a real disk, in one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.store.check import check
from tests.bench import durable
from tests.interop.ends import need
from tests.support import CHECKOUT


@pytest.mark.slow
@pytest.mark.alone
def test_fifty_times_gearmands_rate() -> None:
    """64 clients that pipeline. Measured: about 200 times; a noisy disk is noisy for both."""
    need("gearmand")
    directory = CHECKOUT / ".cache"
    directory.mkdir(exist_ok=True)
    if durable.on_memory(directory):
        pytest.skip("this checkout is not on a disk")
    found = durable.compare(directory, rounds=1, load_s=1.0, all_clients=(64,))
    ours, theirs = (found[name, 64, durable.WINDOW].rate for name in (durable.OURS, durable.PEER))
    assert ours >= durable.TARGET * theirs, f"{ours:.0f} and {theirs:.0f} jobs/s"


def test_what_is_measured_is_durable(tmp_path: Path) -> None:
    """Each job that the load counts is on disk; and a drain ends all of them."""
    with durable.fresh(durable.OURS, tmp_path) as server:
        (place,) = tmp_path.iterdir()
        sample = durable.submit(server.port, 2, 10, 0.2)
        report = check(str(place / "store"))
        assert (report.jobs, report.ended) == (sample.jobs, 0)
        durable.drain(server.port, int(sample.jobs))
        single = durable.submit(server.port, 1, 1, 0.2)
        assert 0 < single.p50 <= single.p99
        assert check(str(place / "store")).jobs == single.jobs
