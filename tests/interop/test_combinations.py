"""Any client with any server and any worker: payloads arrive unchanged, and a command's end arrives as promised."""

from __future__ import annotations

import pytest

from tests.interop import ends as ends_module
from tests.interop.ends import FARM, STOCK, Server, need, submit
from tests.interop.measured import COMBINATIONS, COMMANDS, Combination, expected, rows
from tests.support import CHECKOUT

pytestmark = pytest.mark.interop

PAYLOADS = {
    "text": "Grüße, 世界\nsecond line without an end".encode(),
    "empty": b"",
    "binary": bytes(range(256)) + b"\0\0" + bytes(reversed(range(256))),
    "1 MiB": bytes(range(256)) * 4096,
}

each_combination = pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)


@each_combination
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_any_payload_comes_back_as_it_was(combination: Combination, payload: bytes, servers: dict[str, Server]) -> None:
    client, server, worker = combination
    code, out, err = submit(client, servers[server], f"echo-{worker}", payload)
    assert (code, err) == (0, b"")
    assert out == payload


@each_combination
@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_end_arrives_as_the_table_says(
    combination: Combination, name: str, servers: dict[str, Server]
) -> None:
    client, server, worker = combination
    assert submit(client, servers[server], f"shell-{worker}", COMMANDS[name]) == expected(client, worker, name)


def test_the_table_promises_an_exact_end_to_farm_with_farm() -> None:
    """The table itself could be wrong: what it must hold at least, in plain words."""
    assert expected(FARM, FARM, "both, exit 3") == (3, b"result", b"warning\n")
    assert expected(FARM, FARM, "killed") == (143, b"result", b"")
    assert expected(STOCK, STOCK, "exit 3").code == 1


def test_wire_md_has_the_table() -> None:
    """`python -m tests.interop.measured` prints what belongs there."""
    text = (CHECKOUT / "farm" / "protocol" / "WIRE.md").read_text()
    assert "\n".join(rows()) in text


def test_a_missing_program_skips_on_a_desk_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        need("sh", "no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        need("no-such-program")
    need("sh")


def test_a_process_that_nobody_has_reaped_does_not_count_as_running() -> None:
    """`is_running` is what says that a cancelled command has ended."""
    import os
    import subprocess

    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not ends_module.is_running(child.pid)
    child.wait()
    assert ends_module.is_running(os.getpid())
