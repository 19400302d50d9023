"""Hundreds of fates must end well, every rule broken on purpose must be noticed, and a seed must mean one story."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from multiprocessing import Pool

import pytest

from tests.sim.model import SOMETIMES
from tests.sim.mutants import MUTANTS, Mutant, hunt
from tests.sim.world import Result, tell

SEEDS = 300
SEEDS_SOMETIMES = 300  # some meetings are rare: with a seed or two more, none depends on one alone


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [tell(seed) for seed in range(SEEDS)]


def test_every_fate_ends_well(results: list[Result]) -> None:
    failed = [f"bin/sim -v {result.seed}: {result.message}" for result in results if result.caught_by]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
def test_thousands_of_fates_end_well() -> None:
    with Pool() as pool:
        failed = [result.seed for result in pool.imap_unordered(tell, range(10_000, 13_000), 16) if result.caught_by]
    assert not failed


def test_every_path_is_taken_sometimes(results: list[Result]) -> None:
    seen = sum((result.seen for result in results[:SEEDS_SOMETIMES]), Counter[str]())
    assert not [name for name in SOMETIMES if not seen[name]]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_broken_rule_is_noticed_without_the_brokers_own_check(mutant: Mutant) -> None:
    """By the oracle; `bin/sim --mutants`, in bin/check, hunts each with that check as well, which is the easier way."""
    assert hunt(mutant, check=False).by == "oracle"


def test_the_mutants_leave_nothing_broken_behind(results: list[Result]) -> None:
    before = tell(3).hash
    for mutant in MUTANTS:
        with mutant.applied():
            pass
    assert tell(3).hash == before == results[3].hash


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_is_one_story_in_every_process(results: list[Result], hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    told = subprocess.run(
        [sys.executable, "-m", "tests.sim", "8"], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout == f"seed 8: good, {results[8].events} events, trace {results[8].hash}\n"
