"""Brings the packages here: Debian's are expected to be installed, those of pip and npm go into .cache/interop.

What is made there is made once and kept; a stamp says from which lock, so that a changed lock makes it anew.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import CHECKOUT

HERE = Path(__file__).parent
CACHE = CHECKOUT / ".cache" / "interop"
_INSTALL_S = 180.0  # a registry may be slow; without one this ends long before


def lack(words: str) -> None:
    """Something that the test needs is not here: skip on a desk, fail in CI, where nothing is skipped unnoticed."""
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


def need(*programs: str) -> None:
    """The test needs these programs."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        lack("not installed: " + ", ".join(missing))


def run(*argv: str | Path, cwd: Path = CHECKOUT) -> None:
    """Run to the end; what it said matters only when it failed. Raises NotMade."""
    try:
        subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=_INSTALL_S, check=True)
    except subprocess.CalledProcessError as failed:
        words = failed.stderr.decode(errors="replace")[-2000:]
        raise NotMade(f"{argv[0]} ended with {failed.returncode}: {words}") from None
    except subprocess.TimeoutExpired:
        raise NotMade(f"{argv[0]} took longer than {_INSTALL_S:g} s") from None


class NotMade(Exception):
    """Something could not be installed or compiled."""


@functools.cache
def _once(make: Callable[..., Path], *args: object) -> Path | NotMade:
    try:
        return make(*args)
    except NotMade as failed:
        return failed


def _made(make: Callable[..., Path], *args: object) -> Path:
    """`make(*args)`, which is tried once in a session: a registry that does not answer would cost every test a minute
    or more."""
    made = _once(make, *args)
    if isinstance(made, NotMade):
        lack(str(made))
    assert isinstance(made, Path)
    return made


def _kept(name: str, *sources: Path, make: Callable[[Path], None]) -> Path:
    """The folder `name`, made from `sources` by `make`, which fills it. Two sessions at once wait for each other."""
    folder = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(b"".join(source.read_bytes() for source in sources) + sys.version.encode()).hexdigest()
    stamp = folder / "stamp"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != f"{wanted} {folder}":
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            stamp.write_text(f"{wanted} {folder}")  # a venv that was moved is none
    return folder


def venv(name: str) -> Path:
    """A venv with exactly what python/NAME.txt lists."""
    return _made(_venv, name)


def _venv(name: str) -> Path:
    lock = HERE / "python" / f"{name}.txt"

    def make(folder: Path) -> None:
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", lock)

    return _kept(name, lock, make=make)


def node_modules() -> Path:
    """The node_modules with exactly what node/package-lock.json lists."""
    return _made(_node_modules)


def _node_modules() -> Path:
    sources = [HERE / "node" / name for name in ("package.json", "package-lock.json")]

    def make(folder: Path) -> None:
        for source in sources:
            shutil.copy(source, folder)
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)

    return _kept("node", *sources, make=make) / "node_modules"


def compiled(folder: Path) -> Path:
    """The two C programs, in `folder`."""
    return _made(_compiled, folder)


def _compiled(folder: Path) -> Path:
    for end in ("client", "worker"):
        source = HERE / "c" / f"{end}.c"
        run("cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o", folder / end, source, "-lgearman")
    return folder
