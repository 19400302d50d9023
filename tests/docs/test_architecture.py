"""farm/ARCHITECTURE.md is about the code that there is."""

from __future__ import annotations

import re

from farm.broker.job import ENDED, MOVES
from tests.docs.console import between
from tests.docs.moves import picture
from tests.support import CHECKOUT

TEXT = (CHECKOUT / "farm/ARCHITECTURE.md").read_text()


def test_the_life_of_a_job_is_the_table_of_moves() -> None:
    """`python -P -m tests.docs.moves` prints what must stand there."""
    drawn = between(TEXT, "moves").strip("\n") + "\n"
    assert drawn == picture()
    assert len(re.findall("▶", drawn)) == len(MOVES)
    assert set(re.findall(r"▶ (\w+)", drawn)) >= ENDED


def test_every_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"`([\w/]+\.(?:py|md|sh))`", TEXT))
    assert len(named) > 15
    for name in named:
        assert list((CHECKOUT / "farm").rglob(name)) or (CHECKOUT / name).exists(), name


def test_every_part_of_the_package_is_in_its_table() -> None:
    for path in (CHECKOUT / "farm").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"| `{path.name}/` |" in TEXT, path.name


def test_every_directory_of_tests_is_in_it() -> None:
    for path in (CHECKOUT / "tests").iterdir():
        if path.is_dir() and list(path.glob("test_*.py")):
            assert f"`tests/{path.name}`" in TEXT, path.name
