"""Help and completion: made by typer from the table of options, so every option of the table is in them."""

from __future__ import annotations

import re

import pytest
import typer

from farm.cli import app
from farm.cli.options import COMMON, GROUPS, Command, commands
from farm.client.status import ServerStatus
from tests.cli.rig import Rig

COMMANDS = {command.name: command for command in commands()}


def words(text: bytes) -> str:
    """On one line, however the help was broken into lines."""
    return " ".join(text.decode().split())


@pytest.mark.parametrize("argv", [["--help"], ["-h"], []])
def test_the_help_of_farm(lone_rig: Rig, argv: list[str]) -> None:
    done = lone_rig.run(*argv)
    assert (done.status, done.err) == (0, "")
    text = words(done.out)
    single = {name: command.help for name, command in COMMANDS.items() if " " not in name}
    for name, help in {**single, **GROUPS}.items():
        assert re.search(rf" {name} {re.escape(help[:20])}", text)
    for option in COMMON:
        assert all(flag in text for flag in option.flags)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_the_help_of_a_command_shows_all_of_the_table(lone_rig: Rig, command: Command, flag: str) -> None:
    done = lone_rig.run(*command.name.split(), flag, env={"COLUMNS": "200"})
    assert (done.status, done.err) == (0, "")
    text = words(done.out)
    assert command.help in text
    for argument in command.arguments:
        assert argument.metavar in text
        assert argument.help in text
    for option in command.options:
        shown = re.search(rf"(^| ){re.escape(', '.join(sorted(option.flags, key=len)))}[ ,]", text)
        assert shown, option.flags
        assert option.help in text
        assert option.metavar in text
        assert f"default: {option.default}" in text if option.default else True
        assert f"env: {option.env}" in text if option.env else True
    for line in command.examples.splitlines():
        assert line in text


def test_help_is_asked_for_even_where_something_is_missing(lone_rig: Rig) -> None:
    assert lone_rig.run("submit", "-p", "high", "--help").status == 0
    assert b"Usage: farm work" in lone_rig.run("work", "f", "--help").out


def test_the_usage_lines_show_what_may_be_left_out(lone_rig: Rig) -> None:
    """COMMAND may: --cmd is the other way. No brackets that mean something else to a reader of man pages."""
    assert b"Usage: farm submit [OPTIONS] FUNCTION\n" in lone_rig.run("submit", "--help").out
    assert b"Usage: farm work [OPTIONS] FUNCTION [COMMAND...]\n" in lone_rig.run("work", "--help").out


def test_help_for_the_command_is_the_commands(rig: Rig, function: str) -> None:
    """After `--` nothing is farm's."""
    rig.worker(function, "--", "printf", "%s", "--help")
    assert rig.submit(function).out == b"--help"


def test_the_version(lone_rig: Rig) -> None:
    from farm import __version__

    done = lone_rig.run("--version")
    assert (done.status, done.out.decode(), done.err) == (0, f"farm {__version__}\n", "")


def complete(rig: Rig, line: str, **env: str) -> list[str]:
    """What Tab offers in bash at the end of the line."""
    typed = line.split(" ")
    done = rig.run(
        env={"_FARM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(typed) - 1), **env}
    )
    assert (done.status, done.err) == (0, "")
    return done.out.decode().split()


def test_verbs_are_completed(lone_rig: Rig) -> None:
    assert sorted(complete(lone_rig, "farm ")) == sorted({name.partition(" ")[0] for name in COMMANDS})
    assert complete(lone_rig, "farm store ba") == ["backup"]
    assert complete(lone_rig, "farm sta") == ["status"]


def test_options_are_completed(lone_rig: Rig) -> None:
    assert complete(lone_rig, "farm submit --no") == ["--no-input", "--no-wait"]
    assert complete(lone_rig, "farm work f --c") == ["--cmd", "--collect"]
    for command in COMMANDS.values():
        offered = complete(lone_rig, f"farm {command.name} -")
        assert {flag for option in command.options for flag in option.flags} <= set(offered)


@pytest.mark.parametrize("command", ["submit", "work"])
def test_function_names_are_completed(lone_rig: Rig, command: str) -> None:
    server = lone_rig.server()
    lone_rig.env["FARM_SERVER"] = server.address
    for name in ("resize", "report", "other"):
        lone_rig.worker(name, "--", "cat")
    assert complete(lone_rig, f"farm {command} re") == ["report", "resize"]
    for line in (f"farm {command} -s {server.address} re", f"farm -s {server.address} {command} re"):
        assert complete(lone_rig, line, FARM_SERVER="127.0.0.1:1") == ["report", "resize"]


@pytest.mark.parametrize(("said", "insecure"), [("0", False), ("1", True), ("", False), ("perhaps", None)])
def test_completion_reads_the_environment_as_the_commands_do(
    monkeypatch: pytest.MonkeyPatch, said: str, insecure: bool | None
) -> None:
    """None: nobody is asked."""
    asked: list[bool] = []
    monkeypatch.setattr(
        "farm.client.status.fetch_all", lambda addresses, insecure: asked.append(insecure) or [ServerStatus("x")]
    )
    monkeypatch.setenv("FARM_INSECURE", said)
    root = typer.main.get_command(app.build())
    with root.make_context("farm", ["submit"], resilient_parsing=True) as parent:
        context = root.commands["submit"].make_context("submit", [], parent, resilient_parsing=True)  # type: ignore[attr-defined]
        assert app._function_names(context, "") == []
    assert asked == ([] if insecure is None else [insecure])


def test_completion_without_a_server_is_silent(lone_rig: Rig) -> None:
    for server in ("127.0.0.1:1", "no address:", "192.0.2.1"):
        assert complete(lone_rig, "farm submit re", FARM_SERVER=server) == []


def test_completion_in_a_real_bash(lone_rig: Rig) -> None:
    """The script that farm prints makes Tab work."""
    lone_rig.write(".inputrc", "set bell-style none\n")
    screen = lone_rig.terminal_of(["bash", "--norc", "--noprofile", "-i"], env={"PS1": "> "})
    screen.sendline('eval "$(_FARM_COMPLETE=source_bash farm)"; echo rea""dy')
    screen.expect("ready")
    screen.send("farm sub\t")
    screen.expect("farm submit ")
    screen.send("--prio\t")
    screen.expect("--priority ")
