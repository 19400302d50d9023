"""What tests of a job's life begin with."""

from __future__ import annotations

import pytest

from tests.unit.bench_life import Asker, Life


@pytest.fixture
def life() -> Life:
    """A server's rules and store; nobody is connected."""
    return Life()


@pytest.fixture
def client(life: Life) -> Asker:
    """Connected to it, and speaking farm's extension."""
    return life.farm_client()
