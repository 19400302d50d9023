"""Two machines, as two network namespaces of the test's own with a cable between them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.ends import Ends, Process, Result, ends_in, is_running, lack, need, run
from tests.support import CHECKOUT, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.netns]

PORT = 4730  # free: nobody else is in these namespaces
FARM_BIN = str(CHECKOUT / "bin" / "farm")


class Machines:
    """Machine `a` at 10.x.y.1 and machine `b` at 10.x.y.2. Their names and network are this process's."""

    def __init__(self) -> None:
        pid = os.getpid()
        net = f"10.{pid >> 8 & 255}.{pid & 255}"
        self.names = {"a": f"farm-{pid}-a", "b": f"farm-{pid}-b"}
        self.address = {"a": f"{net}.1", "b": f"{net}.2"}

    def set_up(self) -> None:
        """Both namespaces and what connects them."""
        for name in self.names.values():
            ip("netns", "add", name)
        a, b = self.names["a"], self.names["b"]
        ip("link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b)
        for which, name in self.names.items():
            ip("-n", name, "address", "add", f"{self.address[which]}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")

    def tear_down(self) -> None:
        """Whatever there is of it; the cable goes with its ends."""
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=10)

    def on(self, which: str, *argv: str) -> list[str]:
        """The command line that runs a program on a machine; it becomes the program, so the pid is its own."""
        return ["ip", "netns", "exec", self.names[which], *argv]


def ip(*words: str) -> None:
    """Many containers and chroots do not allow it, even to root: then there is nothing to test on that desk."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=10)
    if done.returncode:
        lack(f"cannot make network namespaces here: ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Both machines. Skipped on a desk where they cannot be made."""
    need("ip")
    if os.geteuid() != 0:
        lack("not root: cannot make network namespaces")
    machines = Machines()
    try:
        machines.set_up()
        yield machines
    finally:
        machines.tear_down()


@pytest.fixture(scope="module")
def server(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on machine a, for which a worker on machine b works."""
    address = f"{machines.address['a']}:{PORT}"
    with ends_in(tmp_path_factory.mktemp("machines")) as ends:
        serve(ends, machines, address).says(f"listening on {address}".encode())
        worker = [FARM_BIN, "work", "--insecure", "-s", address, "where", "--", "sh"]
        ends.start("worker", machines.on("b", *worker)).says(b"working on 'where'")
        yield address


def serve(ends: Ends, machines: Machines, address: str, *options: str) -> Process:
    """A server on machine a."""
    return ends.start("server", machines.on("a", FARM_BIN, "server", "--insecure", "--listen", address, *options))


SCRIPT = b"ip -o -4 address show dev cable; echo warning >&2; exit 42"


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_job_from_either_machine_runs_on_the_worker_s(machines: Machines, server: str, which: str) -> None:
    code, out, err = run(machines.on(which, FARM_BIN, "submit", "--insecure", "-s", server, "where"), SCRIPT)
    assert (code, err) == (42, b"warning\n")
    assert machines.address["b"].encode() in out
    assert machines.address["a"].encode() not in out


def test_a_large_payload_crosses_the_cable(machines: Machines, server: str) -> None:
    payload = os.urandom(1 << 20).hex().encode()
    submit = machines.on("a", FARM_BIN, "submit", "--insecure", "-s", server, "where")
    assert run(submit, b"printf " + payload) == Result(0, payload, b"")


def test_the_environment_may_say_it_too(machines: Machines, server: str) -> None:
    more = {"FARM_SERVER": server, "FARM_INSECURE": "1"}
    assert run(machines.on("a", FARM_BIN, "submit", "where"), b"exit 5", more=more).code == 5


def test_the_server_sees_where_the_worker_is(machines: Machines, server: str) -> None:
    code, out, _ = run(machines.on("b", FARM_BIN, "status", "--insecure", "-s", server))
    assert code == 0
    assert b"where" in out


def commands(server: str) -> dict[str, list[str]]:
    """Every end, told to leave the machine."""
    return {
        "server": ["server", "--listen", server],
        "worker": ["work", "-s", server, "job", "--", "cat"],
        "client": ["submit", "-s", server, "job"],
        "status": ["status", "-s", server],
    }


@pytest.mark.parametrize("end", ["server", "worker", "client", "status"])
@pytest.mark.parametrize("which", ["a", "b"])
def test_without_insecure_each_end_refuses(machines: Machines, server: str, which: str, end: str) -> None:
    """On the server's own machine as well: others can reach it there."""
    code, out, err = run(machines.on(which, FARM_BIN, *commands(server)[end]))
    assert (code, out) == (77, b"")
    host = machines.address["a"]
    error, hint = err.decode().splitlines()
    assert error == f"farm: error: {host} is not a loopback address, and farm does not encrypt yet"
    assert hint.startswith("hint: ")
    assert "--insecure" in hint


def test_all_addresses_at_once_are_refused_too(machines: Machines) -> None:
    for address in ("0.0.0.0:4731", "[::]:4731"):
        code, _, err = run(machines.on("a", FARM_BIN, "server", "--listen", address))
        assert code == 77, err
        assert b"is not a loopback address" in err


def test_a_worker_finds_a_server_that_comes_back(machines: Machines, tmp_path: Path) -> None:
    address = f"{machines.address['a']}:{PORT + 1}"
    with ends_in(tmp_path) as ends:
        first = serve(ends, machines, address)
        first.says(b"listening on")
        worker = ends.start(
            "worker", machines.on("b", FARM_BIN, "work", "--insecure", "-s", address, "job", "--", "sh")
        )
        worker.says(b"farm: working on 'job'")
        first.kill()
        serve(ends, machines, address).says(b"listening on")
        wait_until(lambda: b"again working on 'job'" in worker.err, what="the worker is back")
        submit = machines.on("b", FARM_BIN, "submit", "--insecure", "-s", address, "job")
        assert run(submit, b"exit 6").code == 6


def test_a_worker_whose_cable_is_cut_and_mended(machines: Machines, server: str) -> None:
    """A cut shorter than TCP's patience costs time and nothing else."""
    name = machines.names["a"]
    ip("-n", name, "link", "set", "cable", "down")
    ip("-n", name, "link", "set", "cable", "up")
    code, out, _ = run(machines.on("b", FARM_BIN, "submit", "--insecure", "-s", server, "where"), b"echo mended")
    assert (code, out) == (0, b"mended\n")


NOTICED_S = 20.0  # RELIABILITY's bound for a lost worker; without heartbeats TCP's keepalive takes a minute


def test_a_machine_that_vanishes_is_noticed_at_both_ends(machines: Machines, tmp_path: Path) -> None:
    """No FIN, no reset: the cable is cut while a job runs. Another worker has the job within 20 s, and the command at
    the first one is ended; with the default settings."""
    address = f"{machines.address['a']}:{PORT + 2}"
    first, pid = tmp_path / "first", tmp_path / "pid"
    script = f"[ -e {first} ] && exec echo again; touch {first}; echo $$ > {pid}; exec sleep 1000"
    work = [FARM_BIN, "work", "--insecure", "-s", address, "job", "--", "sh"]
    submit = [FARM_BIN, "submit", "--insecure", "-s", address, "job"]
    with ends_in(tmp_path) as ends:
        serve(ends, machines, address).says(b"listening on")
        far = ends.start("far", machines.on("b", *work))
        far.says(b"working on 'job'")
        client = ends.start("client", machines.on("a", *submit), stdin=script.encode())
        wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the job runs")
        ip("-n", machines.names["a"], "link", "set", "cable", "down")
        cut_at = time.monotonic()
        try:
            ends.start("near", machines.on("a", *work)).says(b"working on 'job'")
            assert client.result(2 * NOTICED_S) == Result(0, b"again\n", b"")
            assert time.monotonic() - cut_at < NOTICED_S
            wait_until(lambda: b"no sign of life" in far.err, 2 * NOTICED_S, what="the worker has noticed too")
            assert time.monotonic() - cut_at < NOTICED_S
            wait_until(lambda: not is_running(int(pid.read_text())), what="its command has ended")
        finally:
            ip("-n", machines.names["a"], "link", "set", "cable", "up")
        wait_until(lambda: b"again working on 'job'" in far.err, 2 * NOTICED_S, what="the worker is back")


ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as sock:
    for line in sys.stdin.buffer.read().splitlines(keepends=True):
        sock.sendall(line)
        answer = sock.makefile("rb", buffering=0)
        while (row := answer.readline()):
            sys.stdout.buffer.write(row)
            if line != b"status\\n" or row == b".\\n":
                break
"""
DENIED = b"ERR PERMISSION_DENIED This+command+is+taken+from+this+machine+only\r\n"
CHANGES = [b"create function f\n", b"maxqueue f 1\n", b"cancel job H:none\n", b"drop function f\n"]
DONE = b"OK\r\nOK\r\nERR UNKNOWN_JOB\r\nOK\r\n"
NO_SUCH_COMMAND = b"ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r\n"


def ask(machines: Machines, which: str, host: str, port: int, lines: list[bytes]) -> bytes:
    """What a server answers to these admin commands."""
    done = run(machines.on(which, sys.executable, "-I", "-c", ASK, host, str(port)), b"".join(lines))
    assert (done.code, done.err) == (0, b"")
    return done.out


@pytest.mark.parametrize("allowed", [False, True])
def test_admin_commands_that_change_something_come_from_this_machine(
    machines: Machines, tmp_path: Path, allowed: bool
) -> None:
    """Unless --remote-admin is said. Whoever can reach the port may look, and nobody can end the server through it."""
    host, port = machines.address["a"], PORT + 2 + allowed
    with ends_in(tmp_path) as ends:
        options = ["--listen", f"127.0.0.1:{port}", *(["--remote-admin"] if allowed else [])]
        serve(ends, machines, f"{host}:{port}", *options).says(b"store: ")
        for which in ("b", "a"):  # the server's own machine too, where it comes by the cable's address
            got = ask(machines, which, host, port, [*CHANGES, b"status\n", b"shutdown\n"])
            assert got == (DONE if allowed else DENIED * 4) + b".\n" + NO_SUCH_COMMAND
            assert ask(machines, which, host, port, [b"create function g\n", b"status\n"]) == (
                b"OK\r\ng\t0\t0\t0\n.\n" if allowed else DENIED + b".\n"
            )
            got = ask(machines, "a", "127.0.0.1", port, [b"create function g\n", *CHANGES, b"drop function g\n"])
            assert got == b"OK\r\n" + DONE + b"OK\r\n"


SSHD = """
Port 2222
ListenAddress {address}
HostKey {home}/host
AuthorizedKeysFile {home}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


def key(path: Path) -> None:
    """A pair of keys of the test's own."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(argv, check=True, timeout=20)


def test_through_an_ssh_tunnel_nobody_needs_insecure(machines: Machines, tmp_path: Path) -> None:
    """The README's way to a second machine: the server listens on loopback only, and so does the tunnel's near end."""
    need("sshd", "ssh", "ssh-keygen")
    for name in ("host", "user"):
        key(tmp_path / name)
    os.makedirs("/run/sshd", exist_ok=True)  # where sshd wants to be shut in; its package makes it at every boot
    (tmp_path / "sshd_config").write_text(SSHD.format(address=machines.address["a"], home=tmp_path))
    daemon = ["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "sshd_config")]
    known = f"UserKnownHostsFile={tmp_path}/known"
    tunnel = [
        "ssh",
        "-F",
        "none",
        "-v",
        "-N",
        "-p",
        "2222",
        "-i",
        str(tmp_path / "user"),
        "-L",
        f"{PORT}:127.0.0.1:{PORT}",
    ]
    for option in ("BatchMode=yes", "ExitOnForwardFailure=yes", "StrictHostKeyChecking=accept-new", known):
        tunnel += ["-o", option]
    local = f"127.0.0.1:{PORT}"
    with ends_in(tmp_path) as ends:
        ends.start("server", machines.on("a", FARM_BIN, "server", "--listen", local)).says(b"listening on")
        ends.start("sshd", machines.on("a", *daemon)).says(b"Server listening on")
        ends.start("ssh", machines.on("b", *tunnel, f"root@{machines.address['a']}")).says(
            b"Local forwarding listening"
        )
        work = [FARM_BIN, "work", "-s", local, "where", "--", "sh"]
        ends.start("worker", machines.on("b", *work)).says(b"working on 'where'")
        for which in ("a", "b"):
            code, out, err = run(machines.on(which, FARM_BIN, "submit", "-s", local, "where"), SCRIPT)
            assert (code, err) == (42, b"warning\n")
            assert machines.address["b"].encode() in out


@pytest.mark.parametrize("allowed", [False, True])
def test_the_same_holds_behind_gearmand_s_command_line(machines: Machines, tmp_path: Path, allowed: bool) -> None:
    """Which listens everywhere by default."""
    host, port = machines.address["a"], PORT + 4 + allowed
    argv = [FARM_BIN, "gearmand", "-p", str(port), "--verbose", "NOTICE", *(["--remote-admin"] if allowed else [])]
    with ends_in(tmp_path) as ends:
        ends.start("server", machines.on("a", *argv)).says(b"store: ")
        wanted = DONE if allowed else DENIED * 4
        assert ask(machines, "b", host, port, [*CHANGES, b"status\n"]) == wanted + b".\n"
        assert ask(machines, "a", "127.0.0.1", port, CHANGES) == DONE
