"""Which copy of farm the server runs, and that a stale one is not run. That it works: `bin/check compiled`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from farm import compiled
from tests.support import CHECKOUT

ASK = "from farm import compiled; compiled.use(); import farm; print(farm.__file__)"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, and a directory for the interpreter's own."""
    copy = tmp_path / "checkout" / "farm"
    shutil.copytree(CHECKOUT / "farm", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def used(package: Path, prefix: Path, env: dict[str, str] | None = None) -> str:
    """Where `farm` comes from after `use`."""
    begin = f"import sys, sysconfig; sysconfig.get_path = lambda name: {str(prefix)!r}; "
    begin += f"sys.path.insert(0, {str(package.parent)!r}); "
    argv = [sys.executable, "-P", "-c", begin + ASK]
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=env or {}).stdout.strip()


def place(package: Path, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(prefix))
    return Path(compiled.place(str(package)))


def test_the_copy_is_used_where_it_is_of_these_sources(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = place(package, tmp_path, monkeypatch)
    assert used(package, tmp_path) == str(package / "__init__.py")
    shutil.copytree(package, copy / "farm")
    assert used(package, tmp_path) == str(copy / "farm" / "__init__.py")
    assert used(package, tmp_path, {compiled.INTERPRETED: "1"}) == str(package / "__init__.py")
    (copy / "farm" / "__init__.py").rename(copy / "away")  # as good as one that belongs to somebody else
    assert used(package, tmp_path) == str(package / "__init__.py")
    (copy / "away").rename(copy / "farm" / "__init__.py")
    (package / "loop.py").write_text((package / "loop.py").read_text() + "\n")
    assert used(package, tmp_path) == str(package / "__init__.py")


def test_each_letter_and_name_counts(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {place(package, tmp_path, monkeypatch)}
    (package / "loop.py").rename(package / "loops.py")
    places.add(place(package, tmp_path, monkeypatch))
    (package / "loops.py").write_text("")
    places.add(place(package, tmp_path, monkeypatch))
    (package / "ARCHITECTURE.md").write_text("")
    places.add(place(package, tmp_path, monkeypatch))
    assert len(places) == 3


def test_the_log_says_when_what_is_there_is_of_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    if compiled.note() == "compiled":
        pytest.skip("this is the compiled copy")
    assert compiled.note() == ""
    (tmp_path / "farm-compiled").mkdir()
    assert "bin/compile" in compiled.note()
    monkeypatch.setenv(compiled.INTERPRETED, "1")
    assert compiled.note() == ""


@pytest.mark.parametrize(
    ("error", "hint"),
    [("OSError: no gcc here", "apt install gcc"), ("ModuleNotFoundError: no mypyc here", "pip install mypy")],
)
def test_what_compiling_lacks_is_one_line_and_leaves_nothing(tmp_path: Path, error: str, hint: str) -> None:
    begin = f"import sysconfig; sysconfig.get_path = lambda name: {str(tmp_path)!r}; "
    begin += "from farm import compiled; compiled._BUILD = "
    name, _, words = error.partition(": ")
    argv = [sys.executable, "-P", "-c", begin + f"'raise {name}(\"{words}\")'; compiled.main()"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 69
    assert "Traceback" not in done.stderr
    assert f"farm: error: could not compile farm: {error}\nhint: {hint}" in done.stderr
    assert not list((tmp_path / "farm-compiled").iterdir())


def test_only_the_job_path_is_compiled() -> None:
    root = str(CHECKOUT / "farm")
    names = {Path(path).relative_to(root).as_posix() for path in compiled._modules(root)}
    assert {"loop.py", "broker/broker.py", "protocol/decoder.py", "server/server.py"} <= names
    others = sorted(
        name for name in names if name.startswith(("cli", "client", "store", "worker")) or "__init__" in name
    )
    assert others == ["store/memory_journal.py", "store/rows.py", "store/tables.py"]
