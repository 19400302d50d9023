"""Every example of the library's page, run; what its comments say is what it prints."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import farm
from tests.live.library_rig import WorkerProcess, address, wait_working
from tests.support import CHECKOUT, ServerProcess

PAGE = (CHECKOUT / "farm/docs/library.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```\n(?:<!-- prints: (.*?) -->)?", PAGE, re.M | re.S)
WORKER = next(code for code, _ in BLOCKS if code.startswith("# worker.py\n"))
EXAMPLES = [(code, prints) for code, prints in BLOCKS if code != WORKER]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server, and the page's own worker."""
    directory = tmp_path_factory.mktemp("library")
    server = ServerProcess(directory).started()
    source = WORKER.removesuffix("worker.run()\n").replace("farm.Worker()", f"farm.Worker({address(server)!r})")
    worker = WorkerProcess(directory, address(server), source)
    try:
        wait_working(server, "parse")
        yield server
    finally:
        worker.end()
        server.end()


def promised(code: str, prints: str) -> list[str]:
    """The lines that an example says it prints: at its end, or beside each print."""
    if prints:
        return [line.strip() for line in prints.split(" | ")]
    return [match[1] for match in re.finditer(r"^ *print\(.*?\)  # (.*)$", code, re.M)]


@pytest.mark.parametrize(("code", "prints"), EXAMPLES, ids=[str(number) for number in range(len(EXAMPLES))])
def test_an_example(served: ServerProcess, monkeypatch: pytest.MonkeyPatch, code: str, prints: str) -> None:
    monkeypatch.setenv("FARM_SERVER", address(served))
    code = code.replace("127.0.0.1:4730", address(served))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "library.md", "exec"), {"__name__": "example"})
    wanted = promised(code, prints)
    assert wanted
    assert said.getvalue().splitlines() == wanted


def test_every_name_of_the_library_is_on_the_page() -> None:
    for name in dir(farm):
        if not name.startswith("_") and name[0].isupper() and name not in ("TYPE_CHECKING", "Status", "Handle", "Job"):
            assert re.search(rf"\b{name}\b", PAGE), name


@pytest.mark.parametrize("kind", [farm.Client, farm.aio.Client, farm.Job, farm.aio.Job, farm.Worker, farm.WorkerJob])
def test_everything_public_is_on_the_page_and_documented(kind: type) -> None:
    for name in dir(kind):
        if name.startswith("_") or name in ("register", "close"):
            continue
        assert re.search(rf"\b{name}\b", PAGE), f"{kind.__name__}.{name}"
        assert getattr(kind, name).__doc__, f"{kind.__name__}.{name}"


def test_the_page_stays_short() -> None:
    assert len(PAGE.splitlines()) < 300
    assert Path(CHECKOUT / "farm/docs/library.md").stat().st_size < 20_000
