"""Everyday situations, typed into a shell: each page beside this file says what is typed and what it must print.

Every command goes to a server of the page's own, on a store on disk, which is there when the page begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.rig import Rig, free_port
from tests.docs.console import Step, run, steps
from tests.support import wait_until

PAGES = sorted(Path(__file__).parent.glob("[0-9]*.md"))
PAGES_MIN = 20

pytestmark = pytest.mark.everyday


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Rig]:
    """Somebody in an empty directory."""
    rig = Rig(tmp_path)
    yield rig
    rig.end()


def type_in(person: Rig, typed: list[Step]) -> None:
    """All of a page, between the start of a server and its end, which must be in good order."""
    server, other = (f"127.0.0.1:{free_port()}" for _ in range(2))
    env = {"FARM_LISTEN": server, "FARM_SERVER": server, "FARM_OTHER": other, "FARM_STORE": f"{person.home}/store"}
    start = Step("farm server --detach --pid-file farm.pid --log-file farm.log")
    stop = Step("kill $(jobs -pr) $(cat farm.pid)")
    run(person, [start, *typed, stop], env)
    log = person.home / "farm.log"
    wait_until(lambda: not person.processes(), what=f"all has ended: {log.read_text()}")
    assert "Traceback" not in log.read_text()


def test_there_are_enough() -> None:
    assert len(PAGES) >= PAGES_MIN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_situation(person: Rig, page: Path) -> None:
    typed = steps(page.read_text())
    assert len(typed) > 2
    type_in(person, typed)
