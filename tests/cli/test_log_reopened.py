"""SIGHUP: the log file is begun anew, and nothing that is wrong with a log ends the server."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from farm.protocol import packets as p
from tests.cli.rig import Rig, ServerRunning, connect, free_port
from tests.support import wait_until


def started(rig: Rig, log: str) -> tuple[ServerRunning, str]:
    """A server with its log in this file, and its address."""
    address = f"127.0.0.1:{free_port()}"
    options = ("--listen", address, "--log-file", log, "--log-level", "info")
    server: ServerRunning = rig.start("server", *options)  # type: ignore[assignment]
    wait_until(lambda: "store: " in text(rig.home / log), what="it has started")
    return server, address


def text(path: Path) -> str:
    """What is in a file, which need not be there."""
    return path.read_text() if path.exists() else ""


def run_job(address: str) -> str:
    """One job from its start to its end; its handle, which the log then has."""
    with connect(address) as wire:
        wire.send(p.CAN_DO, b"f")
        handle = wire.submit(b"f", b"1")
        assert wire.grab()
        wire.send(p.WORK_COMPLETE, handle, b"")
        wire.expect(p.WORK_COMPLETE, handle, b"")
    return handle.decode()


def test_a_moved_log_is_begun_anew_at_once(lone_rig: Rig) -> None:
    """Not with the next line: a program that looks for the file finds it."""
    server, address = started(lone_rig, "log")
    log = lone_rig.home / "log"
    old = log.rename(lone_rig.home / "old")
    server.signal(signal.SIGHUP)
    wait_until(log.exists, what="there is a new one")
    handle = run_job(address)
    wait_until(lambda: handle in text(log), what="it goes on in the new one")
    assert handle not in text(old)


def test_a_log_whose_directory_has_gone(lone_rig: Rig) -> None:
    """The old file goes on, though nobody sees it, and so does the server; the next SIGHUP finds a directory again."""
    (lone_rig.home / "d").mkdir()
    log = lone_rig.home / "d/log"
    server, address = started(lone_rig, "d/log")
    kept = lone_rig.home / "kept"
    os.link(log, kept)
    shutil.rmtree(lone_rig.home / "d")
    server.signal(signal.SIGHUP)
    wait_until(lambda: "cannot reopen the log" in text(kept), what="it says so where it can")
    handle = run_job(address)
    wait_until(lambda: handle in text(kept), what="the old one goes on")
    log.parent.mkdir()
    server.signal(signal.SIGHUP)
    wait_until(log.exists, what="there is a new one")
    handle = run_job(address)
    wait_until(lambda: handle in text(log), what="it goes on in the new one")
    assert server.terminate().status == 0


def test_a_log_on_a_full_disk_is_reopened(lone_rig: Rig) -> None:
    """What could not be written is still held, and closing fails."""
    log = lone_rig.home / "log"
    log.symlink_to("/dev/full")
    address = f"127.0.0.1:{free_port()}"
    server = lone_rig.start("server", "--listen", address, "--log-file", "log", "--log-level", "info")
    lone_rig.env["FARM_SERVER"] = address
    wait_until(lambda: server.ended or answers(address), what="it listens")
    run_job(address)
    log.unlink()
    server.signal(signal.SIGHUP)
    wait_until(log.exists, what="there is a new one")
    handle = run_job(address)
    wait_until(lambda: handle in text(log), what="it goes on in the new one")
    assert server.terminate().status == 0


@pytest.mark.parametrize("options", [(), ("--syslog",)])
def test_what_is_no_file_is_left_alone(lone_rig: Rig, options: tuple[str, ...]) -> None:
    """stderr, and the system's log where there is one."""
    if options and not Path("/dev/log").exists():
        pytest.skip("there is no syslog here")
    server = lone_rig.server(*options)
    server.signal(signal.SIGHUP)
    run_job(server.address)
    assert server.terminate().status == 0


def answers(address: str) -> bool:
    """Whether anybody listens there."""
    try:
        connect(address).close()
    except OSError:
        return False
    return True
