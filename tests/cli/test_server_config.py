"""The settings of `farm server`: from flags, environment and a TOML file; and what each of them does."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from farm.protocol import packets as p
from tests.cli.rig import FARM, Rig, ServerRunning, connect
from tests.support import wait_until


def checked(rig: Rig, *options: str, env: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """What --check prints: for each setting its value and where it came from."""
    done = rig.run("server", "--check", *options, env=env)
    assert done.status == 0, done.err
    head, *lines = done.out.decode().splitlines()
    assert head == "[server]"
    rows = [line.removeprefix("# ").rpartition("#") for line in lines]
    halves = [(left.partition(" =")[0], left.partition(" =")[2].strip(), source.strip()) for left, _, source in rows]
    return {name: (value, source) for name, value, source in halves}


def test_flag_over_environment_over_file_over_default(lone_rig: Rig) -> None:
    """And --check says which it was."""
    path = lone_rig.write("farm.toml", '[server]\nlog-level = "error"\nstall = "7s"\n')
    env = {"FARM_LOG_LEVEL": "debug"}
    values = [
        checked(lone_rig)["log-level"],
        checked(lone_rig, "-c", path)["log-level"],
        checked(lone_rig, "-c", path, env=env)["log-level"],
        checked(lone_rig, "-c", path, "--log-level", "info", env=env)["log-level"],
    ]
    assert [value for value, _ in values] == ['"notice"', '"error"', '"debug"', '"info"']
    assert len({source for _, source in values}) == 4
    assert checked(lone_rig, env={"FARM_CONFIG": path})["stall"][0] == "7"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[server]\nlog-levle = "info"', "did you mean log-level?"),
        ("[server]\nzzz = 1", "farm server --help"),
        ("[sever]\nstall = 1", "[server]"),
        ("[server]\nexceptions = 1", "neither true nor false"),
        ("[server]\nstall = true", "wrong kind"),
        ("[server]\nstall = [1, 2]", "wrong kind"),
        ('[server]\norder = "nonsense"', "order"),
        ("server = 1", "not a table"),
        ("this is no TOML", "not TOML"),
        ("[server]\ncheck = true", "unknown setting"),
    ],
)
def test_what_is_wrong_in_a_file(lone_rig: Rig, text: str, words: str) -> None:
    """Said in one line with the file's name, and a hint."""
    done = lone_rig.run("server", "--check", "-c", lone_rig.write("farm.toml", text))
    assert done.status == 64
    assert done.error
    assert words in done.err


def test_a_file_that_cannot_be_read(lone_rig: Rig) -> None:
    """Neither missing nor a directory."""
    for path in ("missing.toml", str(lone_rig.home)):
        done = lone_rig.run("server", "--check", "-c", path)
        assert done.status not in (0, 64)
        assert "cannot read" in done.error


def test_a_file_is_what_the_server_runs_by(lone_rig: Rig) -> None:
    """A listen list, and a flag."""
    path = lone_rig.write("farm.toml", '[server]\nlisten = ["127.0.0.1:0", "unix:s"]\nexceptions = true\n')
    server = lone_rig._start(ServerRunning, [FARM, "server", "-c", path]).started()
    assert any(address.startswith("unix:") for address in server.addresses)


def test_check_prints_what_can_be_read_again(lone_rig: Rig) -> None:
    """Golden: all settings, and the output is a valid file."""
    done = lone_rig.run("server", "--check", "--listen", "127.0.0.1:5000", "--order", "registration", "--stall", "5s")
    rows = checked(lone_rig, "--listen", "127.0.0.1:5000", "--order", "registration", "--stall", "5s")
    assert rows["listen"][0] == '["127.0.0.1:5000"]'
    assert rows["order"][0] == '"registration"'
    assert rows["wakeup"] == ('"needed"', "default")
    assert rows["stall"][0] == "5"
    assert rows["exceptions"] == ("false", "default")
    assert {"store", "remote-admin", "log-format", "max-job-size", "stop-grace", "max-connections"} <= set(rows)
    assert done.err == ""


STRANGE = ['with "quotes"', "back\\slash", "line\nend\ttab", "bell\x07 delete\x7f", "größe #1", "$HOME'"]


@pytest.mark.parametrize("path", STRANGE)
def test_what_check_prints_is_a_file_for_the_server(lone_rig: Rig, path: str) -> None:
    """That says the same again: unset values are not in it, and strings are escaped."""
    options = [
        "--log-file",
        path,
        "--listen",
        f"unix:{path}",
        "--stall",
        "1234567s",
        "--keep-results",
        "0",
        "--exceptions",
    ]
    options += ["--max-memory", "3G", "--output-max", "123456789"]
    first = lone_rig.run("server", "--check", *options)
    assert first.status == 0, first.err
    table = tomllib.loads(first.out.decode())["server"]
    assert (table["log-file"], table["listen"], table["stall"]) == (path, [f"unix:{path}"], 1234567)
    assert not {"max-connections", "pid-file"} & set(table)
    (lone_rig.home / "again.toml").write_bytes(first.out)
    second = lone_rig.run("server", "--check", "--config", "again.toml")
    assert second.status == 0, second.err
    assert tomllib.loads(second.out.decode())["server"] == table


def test_a_path_that_toml_cannot_say_is_a_comment(lone_rig: Rig) -> None:
    """Its bytes are no text."""
    done = lone_rig.run("server", "--check", "--log-file", "caf\udce9")
    assert done.status == 0, done.err
    assert b'# log-file = "caf\\udce9"' in done.out
    tomllib.loads(done.out.decode())


def test_check_says_what_does_not_hold(lone_rig: Rig) -> None:
    """More connections than there are descriptors, and limits of a store that there is not."""
    script = "ulimit -n 128; exec farm server --check --max-connections 100000"
    lines = {line.partition(" =")[0]: line for line in lone_rig.shell(script).out.decode().splitlines()}
    assert "only 64, for 128 files may be open" in lines["max-connections"]
    assert "not with the store memory" in lines["payload-memory"]
    done = lone_rig.run("server", "--check", "--store", "here", "--max-connections", "8")
    assert b"only" not in done.out
    assert b"not with" not in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output-low", "2M"), "--output-low is not below --output-high"),
        (("--output-max", "1023K"), "--output-max is below --output-high"),
        (("--keepalive", "500ms"), "--keepalive is not between 1s and 32767s"),
        (("--keepalive", "10h"), "--keepalive is not between 1s and 32767s"),
        (("--max-line", "0"), "--max-line is not a size above 0: '0'"),
    ],
)
def test_limits_that_cannot_be(lone_rig: Rig, options: tuple[str, ...], words: str) -> None:
    for more in ((), ("--check",)):
        done = lone_rig.run("server", *options, *more)
        assert done.status == 64
        assert done.error == words


def test_the_log_as_json(lone_rig: Rig, function: str) -> None:
    """Every line an object; those of a job with its fields; never a payload."""
    server = lone_rig.start("server", "-l", "127.0.0.1:0", "--log-format", "json", "--log-level", "info")
    server.wait_for("store: ")
    first = json.loads(server.err().splitlines()[0])
    with connect(first["message"].rpartition(" ")[2]) as wire:
        wire.send(p.CAN_DO, function.encode())
        handle = wire.submit(function.encode(), b"a-secret")
        assert wire.grab()
        wire.send(p.WORK_COMPLETE, handle, b"a-secret")
        wire.expect(p.WORK_COMPLETE, handle, b"a-secret")
    lines = [json.loads(line) for line in server.terminate().err.splitlines()]
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    events = [line["event"] for line in lines if line.get("job") == handle.decode()]
    assert len(events) >= 2
    assert "a-secret" not in server.err()


@pytest.mark.skipif(Path("/dev/log").exists(), reason="there is a syslog here")
def test_syslog_that_is_not_there(lone_rig: Rig) -> None:
    """An error, not silence."""
    server = lone_rig.start("server", "-l", "127.0.0.1:0", "--syslog")
    wait_until(lambda: server.ended, 2)
    done = server.wait()
    assert done.status != 0
    assert "/dev/log" in done.error


@pytest.mark.parametrize(("order", "first"), [("priority", b"a-high"), ("registration", b"b-low")])
def test_order(lone_rig: Rig, order: str, first: bytes) -> None:
    """Priority over all functions, or the function that was registered last."""
    server = lone_rig.server("--order", order)
    with server.connect() as wire:
        wire.send(p.CAN_DO, b"a")
        wire.send(p.CAN_DO, b"b")
        wire.submit(b"a", b"a-high", number=p.SUBMIT_JOB_HIGH)
        wire.submit(b"b", b"b-low", number=p.SUBMIT_JOB_LOW)
        assert wire.grab().split(b"\0")[2] == first


def test_shutdown_on_the_unix_socket_only(lone_rig: Rig) -> None:
    """Elsewhere it is no command."""
    argv = [FARM, "server", "--listen", "127.0.0.1:0", "--listen", "unix:s"]
    server = lone_rig._start(ServerRunning, argv).started()
    tcp = next(address for address in server.addresses if not address.startswith("unix:"))
    with connect(tcp) as wire:
        wire.raw(b"shutdown\n")
        assert wire.line() == b"ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r\n"
    assert not server.ended
    with connect("unix:" + str(lone_rig.home / "s")) as wire:
        wire.raw(b"shutdown\n")
        assert wire.line() == b"OK\r\n"
    assert server.wait().status == 0
