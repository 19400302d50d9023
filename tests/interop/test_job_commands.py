"""The commands about jobs at a stock gearmand: it keeps nothing to ask about, and they say so."""

from __future__ import annotations

import pytest

from tests.interop.ends import FARM, STOCK, Ends, run, submit

pytestmark = pytest.mark.interop

COMMANDS = (
    "jobs",
    "jobs --json",
    "show last",
    "logs -f last",
    "result last",
    "wait last",
    "explain last",
    "cancel last",
    "retry last",
    "purge --state dead",
    "pause f",
    "resume f",
    "function list",
    "function show f",
    "function set f --retries 3",
)


def test_each_says_what_is_missing(ends: Ends) -> None:
    server = ends.server(STOCK)
    submit(FARM, server, "f", b"", "-b")
    for command in COMMANDS:
        code, out, err = run(["bin/farm", *command.split(), "-s", server.address])
        assert (code, out) == (69, b""), command
        assert err.decode().splitlines()[0] == (
            f"farm: error: the server at {server.address} is a stock Gearman server; this needs farm's own"
        )
        assert b"gearadmin --status" in err
    server.wait_status("f", 1, 0, 0)
