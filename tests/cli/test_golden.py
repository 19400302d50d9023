"""The JSON of the commands about jobs, through real processes, against files: what is in them is a promise
(`farm/docs/jobs.md`). `UPDATE_GOLDEN=1 bin/test tests/cli/test_golden.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.rig import Rig
from tests.support import CHECKOUT

GOLDEN = Path(__file__).parent / "golden"
MEASURED = {"run_s", "cpu_s", "peak_bytes", "worker"}  # there or not, and what it is, is the machine's


def normal(value: Any, handles: dict[str, str]) -> Any:
    """Without what differs from run to run: handles, times, addresses, process ids, what was measured."""
    if isinstance(value, dict):
        return {name: "*" if name in MEASURED else normal(each, handles) for name, each in value.items()}
    if isinstance(value, list):
        return [normal(each, handles) for each in value]
    if not isinstance(value, str):
        return value
    value = re.sub(r"H:[0-9a-f]+:[0-9]+", lambda found: handles.setdefault(found[0], f"H:{len(handles) + 1}"), value)
    value = re.sub(r"127\.0\.0\.1:[0-9]+", "SERVER", value)
    return re.sub(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z$", "TIME", value)


@pytest.fixture
def same(rig: Rig) -> Callable[..., None]:
    """Runs a command, whose JSON must be that of the file `NAME.json`."""

    def same(name: str, *argv: str, status: int = 0) -> None:
        done = rig.run(*argv, "--json")
        assert (done.status, done.err) == (status, "")
        handles: dict[str, str] = {}
        found = [normal(value, handles) for value in _values(done.out.decode())]
        path = GOLDEN / f"{name}.json"
        if os.environ.get("UPDATE_GOLDEN"):
            path.write_text(json.dumps(found if len(found) > 1 else found[0], indent=2) + "\n")
        wanted = json.loads(path.read_text())
        assert found == (wanted if isinstance(wanted, list) else [wanted])

    return same


def _values(text: str) -> list[Any]:
    """All of them: one object, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def test_every_schema(rig: Rig, same: Callable[..., None]) -> None:
    rig.worker("upper", "--", "tr", "a-z", "A-Z")
    rig.worker("fail", "--cmd", "echo oops >&2; echo half; exit 3")
    ids = [
        rig.submit("-b", name, "-u", f"key-{name}", stdin=b"hi\n").out.decode().strip() for name in ("upper", "fail")
    ]
    assert rig.run("wait", *ids).status == 3
    queued = rig.submit("-b", "-p", "high", "nobody", stdin=b"hi\n").out.decode().strip()
    same("jobs", "jobs")
    same("job", "show", ids[1])
    same("explain", "explain", queued)
    same("wait", "wait", ids[1], status=3)
    same("functions", "function", "list")
    same("function", "function", "set", "nobody", "--retries", "5", "--retry-on", "1-5,signal", "--timeout", "1m")
    same("cancel", "cancel", queued, "--reason", "not wanted")
    same("retry", "retry", queued)
    same("purge", "purge", ids[0])
    rig.run("cancel", "last")


def test_every_schema_has_a_file_and_is_in_the_documentation() -> None:
    mentioned = set()
    for path in (CHECKOUT / "farm/cli/job_options.py", CHECKOUT / "farm/docs/jobs.md"):
        mentioned.add(frozenset(re.findall(r"farm\.([a-z]+)/1", path.read_text())) - {"status"})
    assert len(mentioned) == 1
    assert mentioned == {frozenset(path.stem for path in GOLDEN.glob("*.json"))}
