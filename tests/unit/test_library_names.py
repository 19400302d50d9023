"""The names that `import farm` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import farm
from tests.support import CHECKOUT

# What would double the start-up time of `farm submit`.
HEAVY = ("asyncio", "contextlib", "dataclasses", "logging", "re", "selectors", "socket", "typing")


def imported(program: str) -> set[str]:
    """The modules that a program has imported in the end."""
    program += "\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-P", "-S", "-c", f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{program}"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_every_name_is_there() -> None:
    for name in ("Client", "Handle", "Job", "JobLost", "Status", "TaskFailed", "Timeout", "Worker", "WorkerJob"):
        assert name in dir(farm)
        assert getattr(farm, name).__name__ == name
    assert farm.aio.Client is not farm.Client
    assert "aio" in dir(farm)
    with pytest.raises(AttributeError, match="nonsense"):
        farm.nonsense  # type: ignore[attr-defined] # noqa: B018


def test_import_farm_costs_nothing() -> None:
    found = imported("import farm\nassert farm.__version__")
    assert not found & set(HEAVY)
    assert {name for name in found if name.startswith("farm.")} == set()


def test_farm_submit_still_starts_light() -> None:
    found = imported("import farm.cli.submit, farm.client.servers")
    assert not found & set(HEAVY)


def test_the_blocking_client_does_not_import_asyncio() -> None:
    assert "asyncio" not in imported("import farm\nfarm.Client('127.0.0.1')")
    assert "asyncio" not in imported("import farm\nfarm.Worker('127.0.0.1')")


def test_farm_aio_can_be_imported_by_its_name() -> None:
    assert "farm.client.aio" in imported("from farm.aio import Client, Job")
    assert "farm.client.aio" in imported("import farm\nfarm.aio.Client")
