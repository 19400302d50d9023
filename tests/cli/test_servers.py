"""Which server is spoken to: `--server` before or after the command, several of them, FARM_SERVER."""

from __future__ import annotations

import pytest

from tests.cli.rig import Rig, ServerRunning, free_port


@pytest.fixture
def two(lone_rig: Rig) -> tuple[str, str]:
    """The addresses of two servers."""
    servers = lone_rig.server(), lone_rig.server()
    return servers[0].address, servers[1].address


def holder(rig: Rig, servers: tuple[str, str]) -> int:
    """Which of the servers has the one job of f: 0 or 1."""
    jobs = [rig.counts("f", server)[0] for server in servers]
    assert sum(jobs) == 1
    return jobs.index(1)


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ("-s {0} submit -b -n f", 0),
        ("--server {0} submit -b -n f", 0),
        ("--server={0} submit -b -n f", 0),
        ("submit -b -n f -s {0}", 0),
        ("submit -s{0} -b -n f", 0),
        ("submit -b -n -s {0} -s {1} f", 0),
        ("submit -b -n f --server {0},{1}", 0),
        ("submit -b -n f --server ,{0},", 0),
        ("submit -b -n f", 1),
        ("-s {1} submit -b -n f -s {0}", 0),
        ("-s {1} submit -bns {0} f", 0),
    ],
)
def test_what_is_said_last_and_nearest_counts(lone_rig: Rig, two: tuple[str, str], argv: str, wanted: int) -> None:
    """The first of several; after the command rather than before it; the environment last: it is the second server."""
    done = lone_rig.run(*argv.format(*two).split(), env={"FARM_SERVER": two[1]})
    assert (done.status, done.err) == (0, "")
    assert holder(lone_rig, two) == wanted


@pytest.mark.parametrize("form", ["options", "commas", "environment"])
def test_the_next_one_is_used_when_the_first_is_down(
    lone_rig: Rig, server: ServerRunning, form: str, function: str
) -> None:
    dead = [f"127.0.0.1:{free_port()}", f"unix:{lone_rig.home}/nobody"]
    every = [*dead, server.address]
    options = {
        "options": [word for address in every for word in ("-s", address)],
        "commas": ["-s", ",".join(every)],
        "environment": [],
    }[form]
    done = lone_rig.submit("-b", "-n", function, *options, env={"FARM_SERVER": ",".join(every)})
    assert (done.status, done.err) == (0, "")
    assert lone_rig.counts(function, server.address)[0] == 1


def test_when_all_are_down_each_is_named(lone_rig: Rig) -> None:
    dead = [f"127.0.0.1:{free_port()}", f"unix:{lone_rig.home}/nobody"]
    done = lone_rig.submit("-n", "f", "-s", ",".join(dead))
    assert done.status == 69
    assert done.error == (
        f"no server answers: no server at {dead[0]}: connection refused; "
        f"no server at {dead[1]}: no such file or directory"
    )
    assert "--server or FARM_SERVER" in done.hint


def test_names_and_ipv6(lone_rig: Rig) -> None:
    """localhost may be ::1 first; the server listens on 127.0.0.1 only."""
    server = lone_rig.server("--listen", "127.0.0.1:0,[::1]:0")
    port, address6 = server.address.rpartition(":")[2], server.addresses[1]
    assert address6.startswith("[::1]:")
    for where in (f"localhost:{port}", address6):
        assert lone_rig.submit("-b", "-n", "f", "-s", where).status == 0


@pytest.mark.parametrize("command", ["submit -n f", "work f -- cat", "status"])
@pytest.mark.parametrize(
    ("server", "status", "words"),
    [
        ("192.0.2.1:4730", 77, "192.0.2.1 is not a loopback address, and farm does not encrypt yet"),
        ("host:port", 64, "not an address: 'host:port'"),
        ("127.0.0.1:65536", 64, "not an address: '127.0.0.1:65536'"),
        ("127.0.0.1:" + "9" * 5000, 64, "not an address: '127.0.0.1:999"),
        ("http://127.0.0.1/", 64, "not an address: 'http://127.0.0.1/'"),
        ("[::1", 64, "not an address: '[::1'"),
        ("unix:", 64, "not an address: 'unix:'"),
        ("two words:1", 64, "not an address: 'two words:1'"),
    ],
)
def test_wrong_addresses(lone_rig: Rig, command: str, server: str, status: int, words: str) -> None:
    done = lone_rig.run("-s", server, *command.split())
    assert done.status == status
    assert words in done.error


def test_an_address_that_cannot_exist(lone_rig: Rig) -> None:
    """.invalid never has an address (RFC 6761); a label of 64 letters cannot."""
    for host in ("no-such-host.invalid", "x" * 64 + ".invalid"):
        done = lone_rig.submit("-n", "f", "-s", host)
        assert done.status == 69
        assert host in done.error


def test_insecure_in_the_environment(lone_rig: Rig) -> None:
    """An address that is not loopback, but this machine: 0.0.0.0 connects to it."""
    server = lone_rig.server()
    where = server.address.replace("127.0.0.1", "0.0.0.0")
    assert lone_rig.submit("-b", "-n", "f", "-s", where).status == 77
    assert lone_rig.submit("-b", "-n", "f", "-s", where, env={"FARM_INSECURE": "yes"}).status == 0
    assert lone_rig.run("--insecure", "submit", "-b", "-n", "f", "-s", where).status == 0
    done = lone_rig.submit("-b", "-n", "f", "-s", where, env={"FARM_INSECURE": "maybe"})
    assert done.status == 64
    assert done.error == "FARM_INSECURE is neither yes nor no: 'maybe'"
