"""The tour of the README, typed into a shell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.rig import Rig, free_port
from tests.docs.console import Step, between, run, steps
from tests.support import CHECKOUT, wait_until

README = CHECKOUT / "README.md"


def imagemagick() -> str:
    """The directory of ImageMagick itself: a wrapper script of the same name may come before it on the PATH."""
    for directory in [*os.environ["PATH"].split(":"), "/usr/bin"]:
        program = Path(directory) / "convert"
        if program.exists() and program.read_bytes()[:2] != b"#!":
            return directory
    if os.environ.get("CI"):
        pytest.fail("ImageMagick is missing: apt install imagemagick")
    pytest.skip("needs ImageMagick")


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Rig]:
    """Somebody in an empty directory with a picture."""
    rig = Rig(tmp_path)
    shutil.copy(CHECKOUT / "tests/data/harvest.jpg", tmp_path / "img.jpg")
    yield rig
    rig.end()


def test_every_command_of_the_tour_does_what_is_shown(visitor: Rig) -> None:
    typed = steps(between(README.read_text(), "tour"))
    assert len(typed) > 5
    address = f"127.0.0.1:{free_port()}"
    env = {"FARM_LISTEN": address, "FARM_SERVER": address, "FARM_STORE": f"{visitor.home}/store"}
    env |= {"PATH": f"{imagemagick()}:{visitor.env['PATH']}"}
    run(visitor, typed, env)
    wait_until(lambda: not visitor.processes(), what="the tour's last command has stopped everything")
    small, large = (visitor.home / name for name in ("small.jpg", "img.jpg"))
    assert small.read_bytes()[:3] == large.read_bytes()[:3] == b"\xff\xd8\xff"
    assert small.stat().st_size < large.stat().st_size


def test_coming_back_later_does_what_is_shown(visitor: Rig) -> None:
    typed = steps(between(README.read_text(), "later"))
    assert len(typed) > 5
    address = f"127.0.0.1:{free_port()}"
    run(visitor, typed, {"FARM_LISTEN": address, "FARM_SERVER": address})
    wait_until(lambda: not visitor.processes(), what="the last command has stopped everything")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("$ false", "exit status 1"),
        ("$ echo one\ntwo", "but the document shows"),
        ("$ echo one; echo two\none", "but the document shows"),
        ("$ echo unmentioned", "but the document shows"),
        ("$ exit 0", "did not end"),
    ],
)
def test_the_runner_notices(visitor: Rig, document: str, fault: str) -> None:
    """A runner that finds nothing wrong with anything would prove nothing."""
    with pytest.raises(AssertionError, match=fault):
        run(visitor, steps(f"```console\n{document}\n```\n"), {})


def test_the_runner_understands() -> None:
    """Commands, continuation lines, comments, wildcards."""
    found = steps("text\n```console\n# first\n$ cat <<END\n> a\n> END\na\n...\n\n$ b &\n```\n```sh\n$ not this\n```\n")
    assert found == [Step("cat <<END\na\nEND", ["a", "..."]), Step("b &")]
    assert found[0].expected() == "a\n(?:.*\n)*"
