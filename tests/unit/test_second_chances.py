"""bin/lib/tests.sh: what is run at once with others, what CI runs twice, and what it does not."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import CHECKOUT

ONCE = """
import pathlib
def test_{number}():
    mark = pathlib.Path("mark-{number}")
    if not mark.exists():
        mark.touch()
        raise AssertionError
"""


NOTE = """
import os, pytest
def beside(): return "PYTEST_XDIST_WORKER" in os.environ
def test_beside(): assert beside()
@pytest.mark.alone
def test_alone(): assert not beside()
@pytest.mark.other
def test_other(): assert 0
"""


def run(directory: Path, *sources: str, ci: bool = True, how: str = "run_tests") -> subprocess.CompletedProcess[str]:
    """The shell function on these tests, in a directory of their own."""
    (directory / "pytest.ini").write_text("[pytest]\nmarkers =\n    alone\n    other\naddopts = -p xdist\n")
    (directory / "test_some.py").write_text("def test_good(): pass\n" + "\n".join(sources))
    shell = f"python={shlex.quote(sys.executable)}; . {shlex.quote(str(CHECKOUT / 'bin/lib/tests.sh'))}; "
    shell += f"tests_at_once=2; {how}"
    env = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    env |= {"CI": "true"} if ci else {}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # for these starts, a dozen, to be quick
    return subprocess.run(
        ["sh", "-c", shell], cwd=directory, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_what_passes_alone_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, ONCE.format(number=1))
    assert done.returncode == 0, done.stdout
    assert "UNSTEADY: failed once and then passed alone:\ntest_some.py::test_1\n" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_what_fails_again_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, ONCE.format(number=1), "def test_bad(): assert 0")
    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout


def test_many_are_not_noise(tmp_path: Path) -> None:
    done = run(tmp_path, *(ONCE.format(number=number) for number in range(6)))
    assert done.returncode == 1
    assert "second chance" not in done.stdout


def test_not_on_a_desk_and_not_for_other_errors(tmp_path: Path) -> None:
    assert run(tmp_path, ONCE.format(number=1), ci=False).returncode == 1
    broken = run(tmp_path, "import nothing_of_that_name")
    assert broken.returncode == 2
    assert "second chance" not in broken.stdout


def test_all_at_once_but_for_those_that_must_be_alone_and_then_the_second_chances(tmp_path: Path) -> None:
    mark = "import pytest\n@pytest.mark.alone\ndef "
    once = ONCE.format(number=1) + "    assert not beside()\n", ONCE.format(number=2).replace("def ", mark)
    done = run(tmp_path, *once, NOTE, how="run_marked 'not other'")
    assert done.returncode == 0, done.stdout
    assert re.findall("(.*) passed.* in ", done.stdout) == ["1 failed, 2", "1 failed, 1", "2"]
    assert "UNSTEADY: failed once and then passed alone:\ntest_some.py::test_1\ntest_some.py::test_2\n" in done.stdout


@pytest.mark.parametrize(
    ("beside", "alone", "status"), [(0, 5, 0), (5, 0, 0), (5, 5, 5), (1, 0, 1), (0, 1, 1), (1, 2, 2), (2, 0, 2)]
)
def test_the_status_of_both(tmp_path: Path, beside: int, alone: int, status: int) -> None:
    """A test that fails fails the whole; where there is none in one of the two, the other counts."""
    fake = f'once() {{ case "$*" in *"not alone"*) return {beside} ;; *) return {alone} ;; esac; }}; '
    assert run(tmp_path, how=fake + "run_marked slow", ci=False).returncode == status
