"""The table in the manual says what the tests try, and the locks have the versions that it names."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.interop.languages import installed
from tests.interop.languages.desk import Desk
from tests.interop.languages.packages import CLIENT_FEATURES, NODE, PACKAGES, WORKER_FEATURES, Package
from tests.support import CHECKOUT

pytestmark = [pytest.mark.interop, pytest.mark.languages]

MANUAL = CHECKOUT / "farm" / "docs" / "compatibility.md"


def row(package: Package, end: str, features: dict[str, str]) -> str:
    """The package's line in the table of clients or workers."""
    cells = ["yes" if package.can(end, feature) else "–" for feature in features]
    return "| " + " | ".join([package.name, package.version, *cells]) + " |"


@pytest.mark.parametrize("end", ["client", "worker"])
def test_the_manual_has_the_table(end: str) -> None:
    features = CLIENT_FEATURES if end == "client" else WORKER_FEATURES
    header = f"| as a {end} | version | " + " | ".join(features.values()) + " |"
    lines = MANUAL.read_text().splitlines()
    begin = lines.index(header) + 2
    assert lines[begin : begin + len(PACKAGES)] == [row(package, end, features) for package in PACKAGES]


def test_every_feature_has_a_column() -> None:
    """But for what the remarks tell in words."""
    for package in PACKAGES:
        assert set(package.client.split()) <= {*CLIENT_FEATURES, "own-status", "cancel"}
        assert set(package.worker.split()) <= {*WORKER_FEATURES}


def test_the_locks_have_these_versions() -> None:
    pinned = json.loads((installed.HERE / "node" / "package.json").read_text())["dependencies"]
    locked = json.loads((installed.HERE / "node" / "package-lock.json").read_text())["packages"]
    for package in PACKAGES:
        if package.language == NODE:
            assert pinned[package.name] == locked[f"node_modules/{package.name}"]["version"] == package.version
        elif "{venv}" in package.command[0]:
            lock = (installed.HERE / "python" / f"{package.name}.txt").read_text()
            assert f"{package.name}=={package.version} --hash=" in lock


def test_no_lock_names_a_registry() -> None:
    """Whoever installs says where from."""
    for lock in [*(installed.HERE / "python").glob("*.txt"), *(installed.HERE / "node").glob("*.json")]:
        assert "://" not in lock.read_text()


@pytest.mark.interop
def test_debians_versions(desk: Desk) -> None:
    installed.need("perl", "php")
    said = [
        desk.client("libgearman", "version", "-").result().out.decode().strip(),
        output("perl", "-MGearman::Client", "-e", "print $Gearman::Client::VERSION"),
        output("php", "-r", "echo phpversion('gearman');"),
    ]
    assert [words.split("+")[0] for words in said] == [package.version for package in PACKAGES[:3]]


def output(*argv: str) -> str:
    """What it prints."""
    return subprocess.run(argv, capture_output=True, check=True, timeout=10, text=True).stdout
