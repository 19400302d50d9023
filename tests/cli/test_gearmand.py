"""`farm gearmand`: gearmand's options and signals, so that a unit file works by changing one word."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from farm.cli import gearmand, light
from farm.cli.gearmand_options import GEARMAND
from farm.cli.options import complete
from farm.protocol import packets as p
from tests.cli.rig import Rig, Running, alive, free_port
from tests.interop.ends import need
from tests.support import Wire, wait_until

HERE = ("gearmand", "-L", "127.0.0.1", "--verbose", "NOTICE")

# Option and a value: what only tunes, and what would lose jobs or service if it were ignored.
TUNES = [
    ("-t", "4"),
    ("--threads=4",),
    ("--hashtable-buckets", "1000"),
    ("--job-handle-prefix", "H:x"),
    ("--coredump",),
    ("--keepalive",),
    ("--keepalive-idle", "10"),
    ("--keepalive-interval", "10"),
    ("--keepalive-count", "3"),
    ("-q", "libsqlite3", "--libsqlite3-db", "x", "--store-queue-on-shutdown"),
]
REFUSED = [
    ("-r", "http"),
    ("--http-port", "8080"),
    ("--ssl",),
    ("--ssl-ca-file", "ca"),
    ("--ssl-certificate", "cert"),
    ("--ssl-key", "key"),
    ("-q", "Postgres"),
    ("--queue-type=nonsense",),
    ("--libsqlite3-db", "x"),
    ("--libsqlite3-table", "x"),
    ("--store-queue-on-shutdown",),
    ("--redis-server", "x"),
    ("--mysql-host", "x"),
    ("--libmemcached-servers", "x"),
]
TAKEN = [
    ("-b", "64"),
    ("--backlog=64",),
    ("-f", "256"),
    ("--file-descriptors", "256"),
    ("-j", "3"),
    ("-j", "256"),
    ("--job-retries=3",),
    ("-R",),
    ("--round-robin",),
    ("-w", "0"),
    ("--worker-wakeup", "1"),
    ("--exceptions",),
    ("-q", "builtin"),
    ("-q", "libsqlite3"),
    ("-q", "libsqlite3", "--libsqlite3-db", "x", "--libsqlite3-table", "y"),
    ("-p", "4730"),
    ("--port=4730",),
    ("-l", "stderr"),
    ("--log-file", "none"),
    ("-P", "farm.pid"),
    ("--verbose", "DEBUG"),
    ("-u", "nobody"),
    ("--syslog",),
]


def start(rig: Rig, *options: str, env: dict[str, str] | None = None) -> tuple[Running, int]:
    """A server, once it listens, and its port."""
    port = free_port()
    running = rig.start(*HERE, "-p", str(port), *options, env=env)
    wait_until(lambda: answers(port) or running.ended, what=f"it listens: {running.err()}")
    assert not running.ended, running.err()
    return running, port


def answers(port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("options", TAKEN, ids=" ".join)
def test_what_it_takes(lone_rig: Rig, options: tuple[str, ...]) -> None:
    """Without a word."""
    done = lone_rig.run("gearmand", "-L", "127.0.0.1", "--check-args", *options)
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("options", TUNES, ids=" ".join)
def test_what_only_tunes_is_taken_with_one_line(lone_rig: Rig, options: tuple[str, ...]) -> None:
    """Which names the option."""
    done = lone_rig.run("gearmand", "-L", "127.0.0.1", "--check-args", *options)
    assert done.status == 0
    (line,) = done.err.splitlines()
    assert line.startswith("farm: warning: --")
    assert "does nothing" in line


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_what_would_lose_something_is_refused_with_a_hint(lone_rig: Rig, options: tuple[str, ...]) -> None:
    """Also when it would really start."""
    done = lone_rig.run("gearmand", "-L", "127.0.0.1", *options)
    assert done.status == 64
    assert done.error
    assert "hint: " in done.err


def test_every_option_of_gearmand_is_known(lone_rig: Rig) -> None:
    """As Debian's gearmand lists them."""
    need("gearmand")
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
    told = subprocess.run(["gearmand", "--help"], capture_output=True, text=True, check=False, env=env)
    theirs = set(re.findall(r"--[a-z0-9][a-z0-9-]+", told.stdout + told.stderr))
    ours = set(re.findall(r"--[a-z0-9][a-z0-9-]+", lone_rig.run("gearmand", "--help").out.decode()))
    assert len(theirs) > 30
    assert theirs - ours == set()


@pytest.mark.parametrize("options", [("-p", "65536"), ("-p", "x"), ("-j", "x"), ("--verbose", "LOUD"), ("--nonsense",)])
def test_what_is_wrong(lone_rig: Rig, options: tuple[str, ...]) -> None:
    """A usage error."""
    assert lone_rig.run("gearmand", "-L", "127.0.0.1", "--check-args", *options).status == 64


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_its_version(lone_rig: Rig, option: str) -> None:
    """And what it replaces."""
    done = lone_rig.run("gearmand", option)
    assert done.status == 0
    assert b"in place of gearmand 1.1.20" in done.out


def test_other_addresses_work_with_a_warning(lone_rig: Rig) -> None:
    """As gearmand does without -L."""
    for options in ((), ("-L", "0.0.0.0")):
        done = lone_rig.run("gearmand", "--check-args", *options)
        assert done.status == 0
        assert "warning: listening on 0.0.0.0" in done.err


@pytest.mark.parametrize(("options", "allowed"), [((), False), (("--remote-admin",), True)])
def test_changes_come_from_this_machine(lone_rig: Rig, options: tuple[str, ...], allowed: bool) -> None:
    """Unlike in gearmand, unless it is said; loopback's other names are this machine too."""
    values = complete(GEARMAND, light.parse(["gearmand", "-L", "127.0.0.1", *options])[1], {})
    assert gearmand._config(values).remote_admin == allowed
    _, port = start(lone_rig, *options)
    with Wire(("127.0.0.1", port)) as wire:
        wire.raw(b"create function f\n")
        assert wire.line() == b"OK\r\n"


def test_the_port_of_the_environment(lone_rig: Rig) -> None:
    """GEARMAND_PORT, below -p."""
    port = str(free_port())
    running = lone_rig.start(*HERE, env={"GEARMAND_PORT": port})
    wait_until(lambda: answers(int(port)) or running.ended)
    assert running.terminate().status == 0


def test_detached_with_a_pid_file_and_a_log(lone_rig: Rig) -> None:
    """-d -P -l; HUP reopens the log; TERM removes the pid file."""
    port = free_port()
    pid_file, log = lone_rig.home / "pid", lone_rig.home / "log"
    done = lone_rig.run(*HERE, "-p", str(port), "-d", "-P", str(pid_file), "-l", str(log))
    assert done.status == 0, done.err
    assert answers(port)
    pid = int(pid_file.read_text())
    log.rename(lone_rig.home / "old")
    os.kill(pid, signal.SIGHUP)
    with Wire(("127.0.0.1", port)) as wire:
        wire.raw(b"version\n")
        assert wire.line().startswith(b"OK ")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), what="it ends")
    assert not pid_file.exists()
    assert "stopped" in log.read_text()
    assert "stopped" not in (lone_rig.home / "old").read_text()


def test_detached_where_the_usual_log_cannot_be_written(lone_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on without one, and says so."""
    said: list[str] = []
    monkeypatch.setattr(gearmand, "say", lambda *words: said.append(words[0]))
    monkeypatch.setattr(gearmand, "DEFAULT_LOG", str(lone_rig.home / "no/such/directory/log"))
    assert gearmand._default_log() == "stderr"
    assert "warning: no log" in said[0]
    monkeypatch.setattr(gearmand, "DEFAULT_LOG", str(lone_rig.home / "log"))
    assert gearmand._default_log() == str(lone_rig.home / "log")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_and_int_end_it(lone_rig: Rig, number: signal.Signals) -> None:
    """With 0."""
    running, _ = start(lone_rig)
    running.signal(number)
    assert running.wait().status == 0


def test_usr1_drains(lone_rig: Rig) -> None:
    """Nobody new; who is there goes on, and may still submit; it ends when no job is left."""
    running, port = start(lone_rig)
    with Wire(("127.0.0.1", port)) as worker, Wire(("127.0.0.1", port)) as client:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        first = client.submit(b"f", b"1")
        running.signal(signal.SIGUSR1)
        wait_until(lambda: not answers(port), what="it listens no more")
        second = client.submit(b"f", b"2")
        for handle, data in ((first, b"1"), (second, b"2")):
            assert worker.grab() == b"\0".join((handle, b"f", data))
            assert not running.ended
            worker.send(p.WORK_COMPLETE, handle, b"done")
            client.expect(p.WORK_COMPLETE, handle, b"done")
        assert running.wait().status == 0


def test_usr1_waits_for_no_job_of_later(lone_rig: Rig) -> None:
    """It may be due in a year. The log says that it is lost."""
    running, port = start(lone_rig)
    with Wire(("127.0.0.1", port)) as client:
        client.send(p.SUBMIT_JOB_EPOCH, b"f", b"", b"%d" % (time.time() + 1000), b"x")
        assert client.packet()[0] == p.JOB_CREATED
        running.signal(signal.SIGUSR1)
        assert running.wait().status == 0
    assert "1 jobs had not ended" in running.err()


def test_usr1_without_jobs_ends_it(lone_rig: Rig) -> None:
    """At once."""
    running, _ = start(lone_rig)
    running.signal(signal.SIGUSR1)
    assert running.wait().status == 0


def test_job_retries(lone_rig: Rig) -> None:
    """After two lost workers the client hears of the failure."""
    _, port = start(lone_rig, "-j", "2")
    with Wire(("127.0.0.1", port)) as client:
        handle = client.submit(b"f", b"1")
        for _ in range(2):
            with Wire(("127.0.0.1", port)) as worker:
                worker.send(p.CAN_DO, b"f")
                wait_until(worker.grab)
        client.expect(p.WORK_FAIL, handle)


def test_exceptions(lone_rig: Rig) -> None:
    """For clients that did not ask."""
    _, port = start(lone_rig, "--exceptions")
    with Wire(("127.0.0.1", port)) as client, Wire(("127.0.0.1", port)) as worker:
        worker.send(p.CAN_DO, b"f")
        handle = client.submit(b"f", b"1")
        assert worker.grab()
        worker.send(p.WORK_EXCEPTION, handle, b"why")
        client.expect(p.WORK_EXCEPTION, handle, b"why")


@pytest.mark.parametrize(("options", "first"), [((), b"b-low"), (("-R",), b"a-high")])
def test_round_robin(lone_rig: Rig, options: tuple[str, ...], first: bytes) -> None:
    """Without it, what was registered last is first, whatever its priority; with it priority is."""
    _, port = start(lone_rig, *options)
    with Wire(("127.0.0.1", port)) as client, Wire(("127.0.0.1", port)) as worker:
        worker.send(p.CAN_DO, b"a")
        worker.send(p.CAN_DO, b"b")
        worker.expect_nothing()
        client.submit(b"a", b"a-high", number=p.SUBMIT_JOB_HIGH)
        client.submit(b"b", b"b-low", number=p.SUBMIT_JOB_LOW)
        assert worker.grab().split(b"\0")[2] == first


@pytest.mark.parametrize(("number", "woken"), [("0", 2), ("1", 1)])
def test_worker_wakeup(lone_rig: Rig, number: str, woken: int) -> None:
    """0: all that sleep."""
    _, port = start(lone_rig, "-w", number)
    workers = [Wire(("127.0.0.1", port)) for _ in range(2)]
    with Wire(("127.0.0.1", port)) as client, workers[0], workers[1]:
        for worker in workers:
            worker.send(p.CAN_DO, b"f")
            worker.send(p.PRE_SLEEP)
            worker.expect_nothing()
        client.submit(b"f", b"1")
        got = 0
        for worker in workers:
            worker.send(p.ECHO_REQ, b"mark")
            if worker.packet()[0] == p.NOOP:
                got += 1
                worker.expect(p.ECHO_RES, b"mark")
        assert got == woken


def test_a_config_file(lone_rig: Rig) -> None:
    """Its options count below the command line's; a missing one is an error."""
    port = free_port()
    path = lone_rig.write("gearmand.conf", f"# ours\n--listen 127.0.0.1\n--port {port} --threads 4\n")
    running = lone_rig.start("gearmand", "--config-file", path)
    wait_until(lambda: answers(port) or running.ended)
    assert running.terminate().status == 0
    assert "--threads is accepted" in running.err()
    assert lone_rig.run("gearmand", "--config-file", "missing", "--check-args").status != 0
    bad = lone_rig.write("bad.conf", "--ssl")
    assert lone_rig.run("gearmand", "--config-file", bad, "--check-args").status == 64


def test_what_is_said_on_the_command_line_counts_though_it_is_the_default(lone_rig: Rig) -> None:
    """-w 1, --verbose ERROR, -j 0 and the port, above a file that says otherwise; and the environment's port."""
    port, other = free_port(), free_port()
    words = f"--port {other} -w 0 -j 7 --verbose DEBUG"
    path = lone_rig.write("gearmand.conf", words)
    given = complete(
        GEARMAND, light.parse(["gearmand", "-p", "4730", "-w", "1", "-j", "0", "--verbose", "ERROR"])[1], {}
    )
    values = gearmand._with_config_file(given | {"config_file": path})
    names = ("port", "worker_wakeup", "job_retries", "verbose")
    assert [values[name] for name in names] == ["4730", "1", "0", "ERROR"]
    values = gearmand._with_config_file(complete(GEARMAND, {"config_file": path}, {}))
    assert [values[name] for name in names] == [str(other), "0", "7", "DEBUG"]
    running = lone_rig.start("gearmand", "-L", "127.0.0.1", "--config-file", path, env={"GEARMAND_PORT": str(port)})
    wait_until(lambda: answers(port) or running.ended)
    assert running.terminate().status == 0


def test_a_user_that_is_not_there(lone_rig: Rig) -> None:
    """An error that names it."""
    done = lone_rig.run(*HERE, "-p", str(free_port()), "-u", "no-such-user", "-l", str(lone_rig.home / "log"))
    assert done.status == 64
    assert "no-such-user" in done.error


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody")
def test_it_becomes_a_user(lone_rig: Rig) -> None:
    """Once it listens."""
    running, _ = start(lone_rig, "-u", "nobody")
    status = Path(f"/proc/{running.pid}/status")
    wait_until(lambda: "Uid:\t65534\t65534" in status.read_text(), what="it is nobody")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody")
def test_the_log_of_a_user_is_reopened(lone_rig: Rig) -> None:
    """It is that user's, for logrotate keeps the owner; where the user may not begin a new one the old one goes on."""
    log = lone_rig.home / "log"
    lone_rig.home.chmod(0o755)  # as /var/log is: the file may be written, and no other be made
    running, port = start(lone_rig, "-u", "nobody", "-l", str(log))
    wait_until(lambda: "store: " in log.read_text(), what="it logs")
    wait_until(lambda: log.stat().st_uid == 65534, what="it is nobody's")
    old = log.rename(lone_rig.home / "old")
    running.signal(signal.SIGHUP)
    wait_until(lambda: "cannot reopen the log" in old.read_text(), what="it says so in the old one")
    assert answers(port)
    assert running.terminate().status == 0
    assert "stopped" in old.read_text()
    assert not log.exists()


def test_no_log_is_not_given_away(lone_rig: Rig) -> None:
    """/dev/null stays root's."""
    owner = Path("/dev/null").stat().st_uid
    options = ("-u", "nobody") if os.geteuid() == 0 else ()
    start(lone_rig, *options, "-l", "none")
    assert Path("/dev/null").stat().st_uid == owner
