"""Each package's client with its own worker, and farm's server between them."""

from __future__ import annotations

import pytest

from tests.interop.languages.desk import Desk, Result, prefix
from tests.interop.languages.packages import NAMES, able
from tests.interop.languages.test_clients import noise

pytestmark = [pytest.mark.interop, pytest.mark.languages]


@pytest.mark.parametrize("name", NAMES)
def test_a_job(desk: Desk, name: str) -> None:
    desk.worker(name)
    result = desk.client(name, "run", f"{prefix(name)}-echo", noise(100_000)).result()
    assert result == Result(0, noise(100_000), b"")


@pytest.mark.parametrize("name", NAMES)
def test_twenty_jobs(desk: Desk, name: str) -> None:
    desk.worker(name)
    lines = [b"%d\n" % number for number in range(20)]
    code, out, err = desk.client(name, "parallel", f"{prefix(name)}-echo", b"".join(lines)).result()
    assert (code, sorted(out.splitlines(keepends=True)), err) == (0, sorted(lines), b"")


@pytest.mark.parametrize("name", [name for name in able("client", "exceptions") if name in able("worker", "raise")])
def test_an_exception(desk: Desk, name: str) -> None:
    desk.worker(name)
    result = desk.client(name, "exceptions", f"{prefix(name)}-raise", b"in").result()
    assert (result.code, result.out) == (1, b"")
    assert b"it broke" in result.err
