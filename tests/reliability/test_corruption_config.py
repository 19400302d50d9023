"""R3, the configuration: a file of settings that was damaged while nobody looked. No job is missing without a word.

What a setting says it may say in another way after that, and no check can know; `farm server --check` shows what holds.
But where jobs are kept is one of them: a server that begins a store in another place, while all jobs are in the old
one, must say that it is new. Anything else is refused in one line, or is the same store.
"""

from __future__ import annotations

import os
import random
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from farm import net
from farm.cli import server
from farm.cli.main import run
from farm.errors import FarmError
from farm.store.contract import StoreError
from farm.store.sqlite import SqliteStore

pytestmark = [pytest.mark.slow, pytest.mark.power]

TRIES = 2000
STORE = "jobs"
CONFIG = f"""[server]
listen = ["127.0.0.1:4730", "unix:farm.socket"]
store = "{STORE}"
keep-results = "3d"
disk-reserve = "1M"
max-memory = "512M"
stop-grace = "20s"
log-level = "info"
""".encode()


def damage(chance: random.Random) -> bytes:
    """The file with something wrong: bits, a page of zeros (it has but one), or its end."""
    content = bytearray(CONFIG)
    kind = chance.random()
    if kind < 0.8:
        for _ in range(chance.randint(1, 8) if kind < 0.5 else 1):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind < 0.81:
        content[:4096] = bytes(len(content))
    else:
        del content[chance.randrange(len(content)) :]
    return bytes(content)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a server that has jobs, and nothing from outside that would be a setting."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FARM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(server, "default_directory", lambda: "default")
    monkeypatch.setattr(net, "resolve", lambda *address, **how: None)  # or names would be asked for in the network
    store = SqliteStore(STORE)
    store.open()
    store.close()
    return tmp_path


def try_all(place: Path, capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    """Damage, read the settings, open the store that they name, so many times; returns what became of it."""
    found: Counter[str] = Counter()
    whole = settings(CONFIG, place, capsys)
    assert not isinstance(whole, FarmError)
    for number in range(TRIES):
        now = settings(damage(random.Random(f"config {number}")), place, capsys)
        if isinstance(now, FarmError):
            assert (now.status, "\n" in now.message) == (64, False), now
            found["refused"] += 1
        elif now == whole:
            found["harmless"] += 1
        elif now.get("store") == STORE:
            found["other settings"] += 1
        else:
            found[begun(str(now.get("store", server.default_directory())))] += 1
    return found


def settings(content: bytes, place: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object] | FarmError:
    """Those in force, or why the server would not start."""
    (place / "farm.toml").write_bytes(content)
    try:
        assert run(["server", "--check", "--config", "farm.toml"]) == 0
    except FarmError as error:
        return error
    table: dict[str, object] = tomllib.loads(capsys.readouterr().out)["server"]
    return table


def begun(path: str) -> str:
    """One word for a server that keeps its jobs there."""
    if path == server.MEMORY or os.path.isabs(path) or ".." in path:
        return "elsewhere, not tried"
    is_there = os.path.exists(os.path.join(path, "jobs.db"))
    store = SqliteStore(path)
    try:
        store.open()
    except StoreError:
        return "refused"
    said = ", which is new" in store.describe()
    store.close()
    assert not (said and is_there)
    return "a new store, and it says so" if said or is_there else "a new store"


def test_no_damaged_configuration_hides_the_jobs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = try_all(place, capsys)
    with capsys.disabled():
        print(
            f"\nconfiguration: {found.total()} damaged: " + ", ".join(f"{found[name]} {name}" for name in sorted(found))
        )
    assert found["a new store"] == 0
    assert found["a new store, and it says so"] > TRIES // 100
    assert found["refused"] > TRIES // 4
    assert found["elsewhere, not tried"] < TRIES // 100


def test_a_server_that_does_not_say_it_is_noticed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteStore, "describe", lambda self: self.directory)
    assert try_all(place, capsys)["a new store"] > 0
