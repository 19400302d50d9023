"""One server for all of these tests, with the workers of all packages as they are needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.languages.desk import Desk, random_name
from tests.support import Wire


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The server and all around it."""
    desk = Desk(tmp_path_factory.mktemp("languages"))
    yield desk
    desk.close()


@pytest.fixture
def function() -> str:
    """A function that nobody else uses."""
    return random_name()


@pytest.fixture
def wire(desk: Desk) -> Iterator[Wire]:
    """A raw connection."""
    with desk.connect() as wire:
        yield wire
