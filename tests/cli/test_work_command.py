"""`farm work` with a command that cannot be run: said at once where that is known, and else as the job's failure."""

from __future__ import annotations

import os

import pytest

from tests.cli.rig import Rig


def test_a_command_that_is_not_there(rig: Rig) -> None:
    done = rig.run("work", "f", "--", "no-such-command", "arg")
    assert done.status == 127
    assert done.error == "command not found: no-such-command"
    assert "--cmd" in done.hint


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_command_that_is_not_executable(rig: Rig, kind: str) -> None:
    path = rig.write("script", "#!/bin/sh\n") if kind == "file" else str(rig.home)
    done = rig.run("work", "f", "--", path)
    assert done.status == 126
    assert done.error == f"not executable: {path}"


def test_a_file_in_this_directory_is_no_command(rig: Rig) -> None:
    """`mytool` means one on the PATH, and chmod would not help."""
    rig.write("mytool", "#!/bin/sh\n", 0o755)
    done = rig.run("work", "f", "--", "mytool")
    assert done.status == 127
    assert done.error == "command not found: mytool"
    assert "./mytool" in done.hint


@pytest.mark.parametrize(
    ("content", "mode", "status", "words"),
    [
        (None, 0, 127, "command not found"),
        ("#!/bin/sh\n", 0o644, 126, "permission denied"),
        ("#!/no/such/interpreter\n", 0o755, 127, "command not found"),
        ("no interpreter line\n", 0o755, 126, "exec format error"),
    ],
)
def test_a_command_that_changed_meanwhile(
    rig: Rig, function: str, content: str | None, mode: int, status: int, words: str
) -> None:
    """The failure is farm's, not the command's; the worker goes on and runs it once it is well again."""
    path = rig.write("tool", "#!/bin/sh\necho well\n", 0o755)
    rig.worker(function, "--", path)
    if content is None:
        os.unlink(path)
    else:
        rig.write("tool", content, mode)
    done = rig.shell(f"FARM_EXIT_ORIGIN_FD=7 farm submit -n {function} 7>&1")
    assert (done.status, done.out) == (status, b"farm\n")
    assert done.error == f"{path}: {words}"
    rig.write("tool", "#!/bin/sh\necho well again\n", 0o755)
    assert rig.submit(function).out == b"well again\n"


def test_a_command_line_that_sh_does_not_understand(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "if then")
    done = rig.submit(function)
    assert done.status == 2
    assert "yntax error" in done.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no command was given"),
        (["--"], "no command was given"),
        (["--", ""], "no command was given"),
        (["--cmd", ""], "no command was given"),
        (["--cmd", "cat", "--", "cat"], "both --cmd and a command were given"),
        (["grep", "-v", "x"], "'-v' stands behind the beginning of the command"),
        (["-j", "0", "--", "cat"], "-j"),
        (["-j", "4.5", "--", "cat"], "whole number above 0: '4.5'"),
        (["-j", "9999", "--", "cat"], "too many"),
        (["-j", "9" * 5000, "--", "cat"], "whole number"),
    ],
)
def test_wrong_usage(rig: Rig, argv: list[str], words: str) -> None:
    done = rig.run("work", "f", *argv)
    assert done.status == 64
    if words != "-j":
        assert words in done.error
    assert len(done.err) < 6000
