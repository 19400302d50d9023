"""What the fuzzer runs, run without it: so that `bin/test` notices when it would find nothing but itself."""

from __future__ import annotations

import random
from types import ModuleType

import pytest

from tests.fuzz import broker, decoder
from tests.fuzz.mutants import HUNTS
from tests.sim.mutants import Mutant

ROUNDS = 300


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """A few bytes of it replaced, and its end cut off."""
    data = bytearray(seed)
    for _ in range(chance.randrange(20)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randint(1, len(data))])


@pytest.mark.parametrize("target", [decoder, broker], ids=lambda target: target.__name__)
def test_nothing_is_wrong_with_the_seeds_and_their_neighbours(target: ModuleType) -> None:
    chance = random.Random(1)
    for seed in target.SEEDS:
        target.one_input(seed)
    for _ in range(ROUNDS):
        target.one_input(mutated(chance.choice(target.SEEDS), chance))


@pytest.mark.parametrize(
    ("target", "mutant", "data"),
    [
        (decoder, "no length check", b"\2\0\0\0\0REQ\0\0\0\7\xff\xff\xff\xff"),
        (broker, "a short packet is let through", bytes([0, 0, 10, broker.NUMBERS.index(7), 1, 0, 0])),
    ],
)
def test_a_mutant_breaks_its_target(target: ModuleType, mutant: str, data: bytes) -> None:
    broken: Mutant = next(hunt.mutant for hunt in HUNTS if hunt.mutant.name == mutant)
    target.one_input(data)
    with broken.applied(), pytest.raises((AssertionError, ValueError)):
        target.one_input(data)
