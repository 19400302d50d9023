"""bin/check: a proof whose packages cannot be installed is skipped on a desk, and fails in CI."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.interop.languages import installed
from tests.support import CHECKOUT


def check_languages(directory: Path, ci: bool) -> subprocess.CompletedProcess[str]:
    """bin/check languages, of somebody who is not root, where no package is installed."""
    for name, body in (("id", "echo 1000"), ("dpkg-query", "exit 1")):
        (directory / name).write_text(f"#!/bin/sh\n{body}\n")
        (directory / name).chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})
    env["PATH"] = f"{directory}:{env['PATH']}"
    argv = [CHECKOUT / "bin" / "check", "languages"]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_languages_are_skipped_on_a_desk_without_the_packages(tmp_path: Path) -> None:
    done = check_languages(tmp_path, ci=False)
    assert (done.returncode, done.stdout) == (0, "== languages\n")
    missing, skipped = done.stderr.splitlines()[-2:]
    assert missing.startswith("farm: not installed here: apt install gcc ")
    assert skipped == "farm: languages skipped"


def test_languages_fail_in_ci_without_the_packages(tmp_path: Path) -> None:
    done = check_languages(tmp_path, ci=True)
    assert (done.returncode, done.stdout) == (1, "== languages\n")
    assert done.stderr.endswith("farm: error: bin/check stopped at: languages\n")


def test_what_cannot_be_installed_is_tried_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A registry that does not answer would cost each of a hundred tests a minute or more."""
    monkeypatch.delenv("CI", raising=False)
    tried = tmp_path / "tried"

    def make(folder: Path) -> Path:
        installed.run("sh", "-c", f"echo once >> {tried}; echo no registry >&2; exit 3", cwd=folder)
        return folder

    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="sh ended with 3: no registry"):
            installed._made(make, tmp_path)
    assert tried.read_text() == "once\n"
