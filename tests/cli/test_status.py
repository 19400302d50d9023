"""`farm status`: for pipes, for programs, and for people."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator

import pexpect
import pytest

from farm.protocol import packets as p
from tests.cli.fakes import Caller, fake_server, http_server
from tests.cli.rig import Rig, ServerRunning, free_port
from tests.support import wait_until


@pytest.fixture
def busy(lone_rig: Rig) -> Iterator[ServerRunning]:
    """A server with a known state: `a` has 2 queued, 1 running, 1 worker; `b` has 1 queued and nobody; `c` is idle."""
    server = lone_rig.server()
    lone_rig.env["FARM_SERVER"] = server.address
    with server.connect() as worker, server.connect() as client:
        worker.send(p.CAN_DO, b"a")
        worker.send(p.CAN_DO, b"c")
        for name in (b"a", b"a", b"a", b"b"):
            client.submit(name, number=p.SUBMIT_JOB_BG)
        assert worker.grab()
        yield server


def test_plain(lone_rig: Rig, busy: ServerRunning) -> None:
    done = lone_rig.run("status")
    assert (done.status, done.err) == (0, "")
    assert done.out == b"FUNCTION\tQUEUED\tRUNNING\tWORKERS\na\t2\t1\t1\nb\t1\t0\t0\nc\t0\t0\t1\n"


# Every limit of a farm server, with its default. Those of a stock server are not known.
LIMITS = {
    "backlog": 1024,
    "packet_without_payload_bytes_max": 65536,
    "job_bytes_max": 2**30,
    "background_job_bytes_max": 10**9 - 65536,
    "result_kept_bytes_max": 2**20,
    "results_kept_s": 7 * 86400,
    "results_kept_bytes_max": 2**28,
    "payload_memory_bytes_max": 0,  # the memory store has nowhere else to keep them
    "memory_bytes_max": 2**31,
    "text_line_bytes_max": 4096,
    "function_name_bytes_max": 512,
    "unique_bytes_max": 64,
    "functions_max": 100_000,
    "jobs_max": 10_000_000,
    "worker_losses_max": 6,
    "listings_at_once_bytes_max": 4 * 2**20,
    "turn_s": 0.02,
    "output_high_bytes": 2**20,
    "output_low_bytes": 2**18,
    "output_stall_s": 10,
    "output_bytes_max": 2**25,
    "first_packet_s": 0,
    "mute_s": 10,
    "stall_s": 30,
    "linger_s": 2,
    "stop_grace_s": 10,
    "heartbeat_s": 4,
    "heartbeats_missed_max": 3,
    "keepalive_idle_s": 30,
    "keepalive_interval_s": 10,
    "keepalive_count": 3,
    "wake_patience_s": 0.5,
}


def shown_limits(rig: Rig, server: str) -> dict[str, float]:
    """What `farm status --json` says."""
    limits: dict[str, float] = json.loads(rig.run("status", "--json", "-s", server).out)["servers"][0]["limits"]
    return limits


def test_json_has_every_limit(lone_rig: Rig) -> None:
    """Golden, but for the two that depend on the machine: these follow from each other."""
    limits = shown_limits(lone_rig, lone_rig.server().address)
    descriptors = limits.pop("descriptors_max")
    assert limits.pop("connections_max") == max(8, int((descriptors - 64) * 0.8))
    assert limits == LIMITS


SET = {
    "max-connections": ("connections_max", "77", 77),
    "backlog": ("backlog", "5", 5),
    "max-job-size": ("job_bytes_max", "2M", 2**21),
    "keep-results": ("results_kept_s", "1h", 3600),
    "keep-results-size": ("results_kept_bytes_max", "3M", 3 * 2**20),
    "result-max": ("result_kept_bytes_max", "3K", 3072),
    "max-line": ("text_line_bytes_max", "100", 100),
    "max-functions": ("functions_max", "3", 3),
    "max-jobs": ("jobs_max", "4", 4),
    "max-memory": ("memory_bytes_max", "3G", 3 * 2**30),
    "output-high": ("output_high_bytes", "2M", 2**21),
    "output-low": ("output_low_bytes", "1K", 1024),
    "output-stall": ("output_stall_s", "1m", 60),
    "output-max": ("output_bytes_max", "2M", 2**21),
    "first-packet": ("first_packet_s", "10s", 10),
    "stall": ("stall_s", "1500ms", 1.5),
    "linger": ("linger_s", "250ms", 0.25),
    "stop-grace": ("stop_grace_s", "2m", 120),
    "heartbeat": ("heartbeat_s", "0", 0),
    "keepalive": ("keepalive_idle_s", "9s", 9),
}


@pytest.mark.parametrize("way", ["flags", "environment", "file"])
def test_every_limit_can_be_set_and_is_shown(lone_rig: Rig, way: str) -> None:
    options: list[str] = []
    env: dict[str, str] = {}
    if way == "flags":
        options = [word for name, (_, text, _) in SET.items() for word in (f"--{name}", text)]
    elif way == "environment":
        env = {"FARM_" + name.replace("-", "_").upper(): text for name, (_, text, _) in SET.items()}
    else:
        lines = [f'{name} = "{text}"\n' for name, (_, text, _) in SET.items()]
        options = ["-c", lone_rig.write("farm.toml", "[server]\n" + "".join(lines))]
    limits = shown_limits(lone_rig, lone_rig.server(*options, env=env).address)
    assert {name: limits[name] for name, _, _ in SET.values()} == {name: value for name, _, value in SET.values()}


def test_a_stock_server_has_no_limits_to_show(lone_rig: Rig) -> None:
    """It is not asked either: gearmand would answer with an error, which is no listing."""

    def talk(caller: Caller) -> None:
        caller.until(b"version\n")
        caller.say(b"OK 1.1.20\n")
        caller.until(b"status\n")
        caller.say(b"f\t1\t0\t0\n.\n")
        caller.until_closed()

    with fake_server(talk) as (address, callers):
        server = json.loads(lone_rig.run("status", "--json", "-s", address).out)["servers"][0]
    assert server["limits"] is None
    assert b"limits" not in callers[0].got
    assert len(server["functions"]) == 1


@pytest.mark.parametrize("row", [b"name", b"name\tx", b"name\tinf", b"name\t"])
def test_a_strange_limit(lone_rig: Rig, row: bytes) -> None:
    def talk(caller: Caller) -> None:
        caller.until(b"version\n")
        caller.say(b"OK 9+farm\n")
        caller.until(b"status\n")
        caller.say(b".\n")
        caller.until(b"limits\n")
        caller.say(row + b"\n.\n")

    with fake_server(talk) as (address, _):
        done = lone_rig.run("status", "-s", address)
    assert done.status == 76
    assert "sent a strange limit" in done.error


def test_an_empty_server(lone_rig: Rig) -> None:
    server = lone_rig.server()
    done = lone_rig.run("status", "-s", server.address)
    assert (done.status, done.out, done.err) == (0, b"FUNCTION\tQUEUED\tRUNNING\tWORKERS\n", "")
    assert json.loads(lone_rig.run("status", "--json", "-s", server.address).out)["servers"][0]["functions"] == []


def test_one_dead_server_of_two(lone_rig: Rig, busy: ServerRunning) -> None:
    """What can be shown is shown, with the server in front; the dead one is an error on stderr."""
    dead = f"127.0.0.1:{free_port()}"
    done = lone_rig.run("status", "-s", dead, "-s", busy.address)
    assert done.status == 0
    assert done.error == f"no server at {dead}: connection refused"
    rows = [row.split("\t") for row in done.out.decode().splitlines()]
    assert rows[0] == ["SERVER", "FUNCTION", "QUEUED", "RUNNING", "WORKERS"]
    assert rows[1:] == [
        [busy.address, *row] for row in (["a", "2", "1", "1"], ["b", "1", "0", "0"], ["c", "0", "0", "1"])
    ]
    shown = json.loads(lone_rig.run("status", "--json", "-s", f"{dead},{busy.address}").out)["servers"]
    assert shown[0] == {
        "server": dead,
        "error": {"message": f"no server at {dead}: connection refused", "hint": shown[0]["error"]["hint"]},
    }
    assert len(shown[1]["functions"]) == 3


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_server_at_all(lone_rig: Rig, options: list[str]) -> None:
    dead = f"127.0.0.1:{free_port()}"
    done = lone_rig.run("status", "-s", dead, *options)
    assert (done.status, done.out) == (69, b"")
    assert done.error == f"no server at {dead}: connection refused"
    assert "farm server" in done.hint


def test_another_program(lone_rig: Rig) -> None:
    with http_server() as address:
        done = lone_rig.run("status", "-s", address)
    assert (done.status, done.out) == (76, b"")
    assert done.error.startswith(f"the server at {address} does not speak Gearman; it said ")
    assert "another program" in done.hint


@pytest.mark.parametrize("row", [b"f\t1\t1", b"f\tx\t1\t1", b"no tabs", b"f\t" + b"1" * 5000 + b"\t1\t1"])
def test_a_strange_status_line(lone_rig: Rig, row: bytes) -> None:
    def talk(caller: Caller) -> None:
        caller.until(b"version\n")
        caller.say(b"OK 1.1\n")
        caller.until(b"status\n")
        caller.say(row + b"\n.\n")

    with fake_server(talk) as (address, _):
        done = lone_rig.run("status", "-s", address)
    assert done.status == 76
    assert "sent a strange status line" in done.error


def test_names_cannot_break_the_table(lone_rig: Rig) -> None:
    """Some clients join a prefix to the function with a tab; and a stock server lists whatever it was told."""
    server = lone_rig.server()
    with server.connect() as wire:
        wire.submit(b"prefix\tname", number=p.SUBMIT_JOB_BG)
        wire.submit("größe".encode(), number=p.SUBMIT_JOB_BG)
        wire.submit(b"\xff\x9b31m", number=p.SUBMIT_JOB_BG)
    rows = lone_rig.run("status", "-s", server.address).out.decode().splitlines()[1:]
    assert [len(row.split("\t")) for row in rows] == [4, 4, 4]
    assert rows[0].startswith("größe\t")
    assert rows[1].startswith("prefix\\t")
    assert "\x9b" not in rows[2]


def test_an_old_encoding_is_no_obstacle(lone_rig: Rig) -> None:
    server = lone_rig.server()
    with server.connect() as wire:
        wire.submit("größe-变换".encode(), number=p.SUBMIT_JOB_BG)
    for options in ([], ["--json"]):
        done = lone_rig.run("status", "-s", server.address, *options, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
        assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("target", ["> /dev/full", ">&-"])
@pytest.mark.parametrize("command", ["status", "status --json", "--help", "--version"])
def test_a_listing_that_cannot_be_written_is_an_error(rig: Rig, command: str, target: str) -> None:
    done = rig.shell(f"farm {command} {target}")
    assert done.status == 73
    assert done.error.startswith("cannot write ")


def test_a_listing_whose_reader_leaves(rig: Rig) -> None:
    for command in ("status", "--help", "submit --help"):
        done = rig.shell(f"farm {command} | true; echo ${{PIPESTATUS[0]}}")
        assert done.err == ""
        assert done.out in (b"0\n", b"141\n")


def plain(text: str) -> str:
    """Without a terminal's control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_at_a_terminal_it_is_a_table(lone_rig: Rig, busy: ServerRunning) -> None:
    screen = lone_rig.terminal("status")
    screen.expect(pexpect.EOF)
    text = plain(screen.before)
    assert f"farm {busy.address}" in text
    assert "queued 3   running 1   workers 2" in text
    assert re.search(r"a +▲ waiting +2 +1 +1\r\n", text)
    assert re.search(r"b +✖ no worker +1 +0 +0\r\n", text)
    assert re.search(r"c +· idle +0 +0 +1\r\n", text)
    assert "! b: 1 queued and no worker: farm work b -- COMMAND" in text


def test_without_colour(lone_rig: Rig, busy: ServerRunning) -> None:
    """NO_COLOR and a dumb terminal; the state is in words anyway."""
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        screen = lone_rig.terminal("status", env=env)
        screen.expect(pexpect.EOF)
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", screen.before), screen.before
        assert "no worker" in screen.before


def shell_terminal(rig: Rig, command: str) -> pexpect.spawn:
    """A command at a terminal; afterwards, whether the terminal is as it was."""
    script = f"stty -a > before; {command}; echo status $?; stty -a > after; cmp before after && echo restored"
    return rig.terminal_of(["bash", "-c", script])


@pytest.mark.parametrize("key", ["q", "Q", "xyq", "\x03"])
def test_live_until_a_key(lone_rig: Rig, busy: ServerRunning, key: str) -> None:
    screen = shell_terminal(lone_rig, "farm status -w --every 50ms")
    screen.expect("q quits")
    assert "queued 3" in plain(screen.before)
    screen.send(key)
    screen.expect("status 0")
    assert "\x1b[?25h" in screen.before  # the cursor is back
    screen.expect("restored")


def test_live_it_follows_what_happens(lone_rig: Rig, busy: ServerRunning) -> None:
    screen = lone_rig.terminal("status", "--watch", "--every", "50ms")
    screen.expect("queued 3")
    assert lone_rig.submit("-b", "-n", "new-function").status == 0
    screen.expect("queued 4")
    screen.expect("new-function")
    busy.kill()
    screen.expect("✖.*no server at")
    address = busy.address
    lone_rig.server("--listen", address)
    screen.expect("no functions yet")
    screen.send("q")
    screen.expect(pexpect.EOF)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_live_a_signal_restores_the_terminal(lone_rig: Rig, busy: ServerRunning, number: signal.Signals) -> None:
    """A killed screen must not leave its shell without echo and cursor."""
    screen = shell_terminal(lone_rig, "sh -c 'echo $$ > pid; exec farm status -w'")
    screen.expect("q quits")
    os.kill(int(lone_rig.wait_file("pid")), number)
    screen.expect(f"status {128 + number}")
    screen.expect("restored")


def test_live_on_a_small_screen(lone_rig: Rig) -> None:
    """More functions than lines: those in trouble are shown, and how many are not."""
    server = lone_rig.server()
    with server.connect() as worker:
        for number in range(50):
            worker.send(p.CAN_DO, b"idle-%02d" % number)
        worker.submit(b"stuck", number=p.SUBMIT_JOB_BG)
        screen = lone_rig.terminal("status", "-w", "-s", server.address)
        screen.expect("q quits")
        text = plain(screen.before)
    assert re.search(r"stuck +✖ no worker", text)
    assert re.search(r"and \d+ more functions", text)
    assert text.count("\n") < 24
    screen.send("q")
    wait_until(lambda: not screen.isalive(), what="it quits")


@pytest.mark.parametrize("every", ["100000000d", "30d", "1ms"])
def test_live_at_any_pace(lone_rig: Rig, busy: ServerRunning, every: str) -> None:
    screen = shell_terminal(lone_rig, f"farm status -w --every {every}")
    screen.expect("q quits")
    screen.send("q")
    screen.expect("status 0")
