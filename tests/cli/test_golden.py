"""The JSON of every command, through real processes, against files: what is in them is a promise (`farm/docs`).
`UPDATE_GOLDEN=1 bin/test tests/cli/test_golden.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.cli.options import commands
from tests.cli.rig import Rig
from tests.support import CHECKOUT

GOLDEN = Path(__file__).parent / "golden"
# There or not, and what it is, is the machine's, or farm's own.
MEASURED = {"run_s", "cpu_s", "peak", "peak_bytes", "worker", "bytes", "version", "connections_max", "descriptors_max"}

Same = Callable[..., None]


@pytest.fixture
def farm(lone_rig: Rig) -> Iterator[Rig]:
    """A rig with a server of its own: what it lists is this test's."""
    server = lone_rig.server()
    lone_rig.env["FARM_SERVER"] = server.address
    yield lone_rig
    assert server.terminate().status == 0


def normal(value: Any, handles: dict[str, str]) -> Any:
    """Without what differs from run to run: handles, times, addresses, process ids, what was measured."""
    if isinstance(value, dict):
        return {name: "*" if name in MEASURED else normal(each, handles) for name, each in value.items()}
    if isinstance(value, list):
        return [normal(each, handles) for each in value]
    if isinstance(value, float) and value > 1e9:
        return "SECONDS"
    if not isinstance(value, str):
        return value
    value = re.sub(r"H:[0-9a-f]+:[0-9]+", lambda found: handles.setdefault(found[0], f"H:{len(handles) + 1}"), value)
    value = re.sub(r"127\.0\.0\.1:[0-9]+", "SERVER", value)
    value = re.sub(r"^/.*/", "DIRECTORY/", value)
    value = re.sub(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z$", "TIME", value)
    return re.sub(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[+-][0-9:]{5}$", "LOCAL TIME", value)


@pytest.fixture
def same(lone_rig: Rig) -> Same:
    """Runs a command, whose JSON must be that of the file that is called after it, or `name`."""

    def same(command: str, *argv: str, name: str = "", status: int = 0, stdin: bytes = b"", json: bool = True) -> None:
        done = lone_rig.run(*command.split(), *argv, *(["--json"] if json else []), stdin=stdin)
        assert (done.status, done.err) == (status, "")
        _compare(name or command.replace(" ", "-"), done.out.decode())

    return same


def _compare(name: str, out: str) -> None:
    handles: dict[str, str] = {}
    found = [normal(value, handles) for value in _values(out)]
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(json.dumps(found if len(found) > 1 else found[0], indent=2) + "\n")
    wanted = json.loads(path.read_text())
    assert found == (wanted if isinstance(wanted, list) else [wanted])


def _values(text: str) -> list[Any]:
    """All of them: one object, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def test_jobs(farm: Rig, same: Same) -> None:
    farm.worker("upper", "--", "tr", "a-z", "A-Z")
    farm.worker("fail", "--cmd", "echo oops >&2; echo half; exit 3")
    ids = []
    for name, status in (("upper", 0), ("fail", 3)):  # one after the other: they are listed as they end
        ids.append(farm.submit("-b", name, "-u", f"key-{name}", stdin=b"hi\n").out.decode().strip())
        assert farm.run("wait", ids[-1]).status == status
    queued = farm.submit("-b", "-p", "high", "nobody", stdin=b"hi\n").out.decode().strip()
    same("status")
    same("jobs")
    same("result", ids[0])
    same("logs", ids[1])
    same("logs", "-f", ids[1], name="logs-follow", status=3)
    same("show", ids[1])
    same("explain", queued)
    same("wait", ids[1], status=3)
    same("function list")
    same("cancel", queued, "--reason", "not wanted")
    same("retry", "--state", "dead", "--dry-run", name="retry-dry-run")
    same("retry", queued)
    same("purge", "--state", "done", "--dry-run", name="purge-dry-run")
    same("purge", ids[0])
    same("submit", "-b", "-u", "key", "nobody", "-n")


def test_functions(farm: Rig, same: Same) -> None:
    farm.submit("-b", "nobody", stdin=b"hi\n")
    same("function set", "nobody", "--retries", "5", "--retry-on", "1-5,signal", "--timeout", "1m")
    same("pause", "nobody")
    same("function show", "nobody")
    same("resume", "nobody")


def test_cron(farm: Rig, same: Same) -> None:
    said = ("--zone", "Europe/Berlin", "--overlap", "queue", "--catch-up", "last", "--unique", "key", "--retries", "3")
    same("cron add", "30 2 * * *", "report", *said, stdin=b"payload")
    same("cron run", "report")
    same("cron list")
    same("cron show", "report")
    same("cron pause", "report")
    same("cron resume", "report")
    same("cron next", "report", "-n", "2")
    same("cron next", "--line", "@daily", "--zone", "UTC", "-n", "1", name="cron-next-line")
    crontab = farm.write("crontab", "CRON_TZ=Europe/Berlin\n@daily rm -r old\n*/5 * * * * poll\n")
    same("cron import", crontab, "-q", "--dry-run", name="cron-import-dry-run")
    same("cron import", crontab, "-q")
    same("cron remove", "report")


def test_stores(lone_rig: Rig, same: Same) -> None:
    server = lone_rig.server("--store", "store")
    lone_rig.env["FARM_SERVER"] = server.address
    lone_rig.worker("upper", "--", "tr", "a-z", "A-Z")
    done, _ = (lone_rig.submit("-b", name, stdin=b"hi\n").out.decode().strip() for name in ("upper", "nobody"))
    lone_rig.run("wait", done)
    server.terminate()
    same("store check", "store")
    same("store check", "store", "--repair", name="store-check-repair")
    same("store backup", "copy", "store")
    same("store export", "store", "--ended", json=False)
    job = b'{"schema": "farm.store/1", "function": "f", "payload": "hi"}\n'
    same("store import", "other", stdin=job)


def test_every_command_has_a_file() -> None:
    wanted = {"cron-next-line", "logs-follow", "store-check-repair", "store-export"}
    for command in commands():
        options = {option.name for option in command.options}
        name = command.name.replace(" ", "-")
        wanted |= {name} if "json" in options else set()
        wanted |= {f"{name}-dry-run"} if {"json", "dry_run"} <= options else set()
    assert {path.stem for path in GOLDEN.glob("*.json")} == wanted


def test_every_schema_is_in_the_documentation() -> None:
    schema = re.compile(r"\bfarm\.[a-z.]+/1\b")
    pages = [path for path in (CHECKOUT / "farm/docs").glob("*.md") if path.name != "commands.md"]
    described = {found for path in pages for found in schema.findall(path.read_text())}
    used = {found for path in GOLDEN.glob("*.json") for found in schema.findall(path.read_text())}
    helped = set(schema.findall((CHECKOUT / "farm/docs/commands.md").read_text()))
    assert used == helped == described
