"""The README's first command, bin/demo, from beginning to end, and what bin/ says where something is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.rig import BIN, Rig
from tests.interop.ends import lack
from tests.support import CHECKOUT, wait_until


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Rig]:
    """Somebody in an empty directory."""
    rig = Rig(tmp_path)
    rig.env["TMPDIR"] = str(tmp_path)
    del rig.env["FARM_STORE"]
    yield rig
    rig.end()


@pytest.fixture
def ordinary(visitor: Rig) -> Rig:
    """One who may not install anything, on a machine where nothing is installed."""
    for name, script in (("id", "echo 1000"), ("dpkg-query", "exit 1"), ("apt-get", "echo run >> apt-get-was-run")):
        program(visitor, name, script)
    return visitor


def program(rig: Rig, name: str, script: str) -> None:
    """A program that comes before the real one on the rig's PATH."""
    path = rig.home / "path"
    path.mkdir(exist_ok=True)
    rig.write(f"path/{name}", f"#!/bin/sh\n{script}\n", 0o755)
    rig.env["PATH"] = f"{path}:{rig.env['PATH'].removeprefix(f'{path}:')}"


@pytest.mark.interop
def test_the_demo(visitor: Rig) -> None:
    if visitor.shell(f". {CHECKOUT}/recipes/lib/imagemagick.sh; find_imagemagick").status:
        lack("needs ImageMagick")
    done = visitor.execute([str(BIN / "demo")], b"", None)
    said = done.out.decode()
    assert done.status == 0, (said, done.err)
    assert "error" not in done.err  # a slow machine may be told that it waits for the worker
    for words in (
        "before: JPEG, 1620 by 1080 pixels",
        "after:  JPEG, 810 by 540 pixels",
        "\n  H:",
        "oops",
        "exit status 3",
        "resize",
        "Done.",
    ):
        assert words in said
    wait_until(lambda: not visitor.processes(), what="everything it started has ended")
    assert os.listdir(visitor.home) == [], "something is left"


def test_the_demo_says_in_one_line_what_to_install(ordinary: Rig) -> None:
    program(ordinary, "grep", "exit 1")  # so no `convert` seems to be ImageMagick
    done = ordinary.execute([str(BIN / "demo")], b"", None)
    assert (done.status, done.out) == (69, b"")
    assert done.err == "farm: not installed here: apt install imagemagick (or your system's packages for these)\n"
    assert not (ordinary.home / "apt-get-was-run").exists()


@pytest.mark.parametrize(
    ("python", "error", "package"),
    [
        ("exit 127", "no Python 3.11 or newer found", "apt install python3 python3-venv"),
        ("echo", "no Python 3.11 or newer found", "apt install python3 python3-venv"),  # an older one
        (
            'case "$2" in *ensurepip*) exit 1 ;; esac; echo "$0"',
            "this Python cannot make a venv: ensurepip is missing",
            "apt install python3-venv",
        ),
    ],
)
def test_setting_up_says_what_to_install(ordinary: Rig, python: str, error: str, package: str) -> None:
    """In a checkout of its own, and without the Python that this machine has at a fixed place."""
    checkout = ordinary.home / "checkout"
    (checkout / "bin").mkdir(parents=True)
    setup = (BIN / "setup").read_text()
    assert " /usr/bin/python3; do" in setup
    ordinary.write("checkout/bin/setup", setup.replace(" /usr/bin/python3; do", "; do"), 0o755)
    shutil.copy(CHECKOUT / "requirements.lock", checkout)
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        program(ordinary, name, python)
    done = ordinary.execute([str(checkout / "bin/setup")], b"", None)
    assert (done.status, done.out) == (69, b"")
    assert (done.error, done.hint) == (error, package)
    assert sorted(path.name for path in checkout.iterdir()) == ["bin", "requirements.lock"]
