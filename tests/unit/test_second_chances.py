"""bin/lib/tests.sh: what CI runs twice, and what it does not."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support import CHECKOUT

ONCE = """
import pathlib
def test_{number}():
    mark = pathlib.Path("mark-{number}")
    if not mark.exists():
        mark.touch()
        raise AssertionError
"""


def run(directory: Path, *sources: str, ci: bool = True) -> subprocess.CompletedProcess[str]:
    """The shell function on these tests, in a directory of their own."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "test_some.py").write_text("def test_good(): pass\n" + "\n".join(sources))
    shell = f"python={shlex.quote(sys.executable)}; . {shlex.quote(str(CHECKOUT / 'bin/lib/tests.sh'))}; run_tests"
    env = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})
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
