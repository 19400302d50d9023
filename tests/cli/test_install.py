"""The built wheel alone, in an environment of its own: what `pip install .` gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.rig import Rig
from tests.support import CHECKOUT, wait_until


@pytest.mark.slow
def test_the_wheel_alone_does_a_job(tmp_path: Path, lone_rig: Rig) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("farm", "pyproject.toml", "README.md", "LICENSE"):
        place = CHECKOUT / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, source / name)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=source, check=True, timeout=120)
    (wheel,) = (source / "dist").glob("gearfarm-*.whl")
    python = tmp_path / "clean/bin/python"
    subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True, timeout=120)
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True, timeout=300)
    farm = str(python.parent / "farm")
    server = lone_rig.background([farm, "server", "--listen", "127.0.0.1:0"])
    server.wait_for("listening on ")
    lone_rig.env["FARM_SERVER"] = server.err().split("listening on ")[1].split()[0]
    lone_rig.background([farm, "work", "upper", "--", "tr", "a-z", "A-Z"])
    wait_until(lambda: lone_rig.counts("upper")[2] == 1)
    assert lone_rig.execute([farm, "submit", "upper"], b"payload", None).out == b"PAYLOAD"
    assert lone_rig.execute([farm, "status", "--help"], b"", None).status == 0
