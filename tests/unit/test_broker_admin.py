"""Admin lines byte for byte, options, echo, and requests that are none. PROTOCOL 1.1, 1.3, 1.11, 2."""

from __future__ import annotations

import pytest

from farm import __version__
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, Rig, error

NOT_EXPECTED = error(b"INVALID_COMMAND", b"Command not expected")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def ask(rig: Rig, line: bytes) -> bytes:
    return b"".join(rig.connect(line).received())


# -- lines


def test_status_counts_jobs_running_ones_and_workers(rig: Rig) -> None:
    assert ask(rig, b"status\n") == b".\n"
    client, worker = rig.client(), rig.worker(b"f", b"idle")
    for function in (b"f", b"f", b"f", b"g"):
        client.submit(function)
    worker.grab()
    assert ask(rig, b"status\n") == b"f\t3\t1\t1\nidle\t0\t0\t1\ng\t1\t0\t0\n.\n"


def test_a_worker_that_registers_twice_counts_once(rig: Rig) -> None:
    rig.worker(b"f", b"f")
    assert ask(rig, b"status\n") == b"f\t0\t0\t1\n.\n"


def test_a_function_stays_once_it_was_mentioned(rig: Rig) -> None:
    rig.worker(b"f").leave()
    assert ask(rig, b"status\n") == b"f\t0\t0\t0\n.\n"


def test_workers_lists_every_connection(rig: Rig) -> None:
    rig.connect(request(p.SET_CLIENT_ID, b"me"), request(p.CAN_DO, b"f"), request(p.CAN_DO, b"g"))
    rig.connect()
    assert ask(rig, b"workers\n") == b"11 10.0.0.1 me : g f\n12 10.0.0.2 - :\n13 10.0.0.3 - :\n.\n"


@pytest.mark.parametrize(
    ("sent", "listed"),
    [
        (b"two words", rb"two\x20words"),
        (b"forged\n9 1.2.3.4 x : f", rb"forged\x0a9\x201.2.3.4\x20x\x20:\x20f"),
        (b"tab\there", rb"tab\there"),
        (b"", b"-"),
        (b"x" * 200, b"x" * 127),
        ("größe".encode(), "größe".encode()),
    ],
)
def test_a_client_id_is_one_word(rig: Rig, sent: bytes, listed: bytes) -> None:
    rig.connect(request(p.SET_CLIENT_ID, sent))
    assert ask(rig, b"workers\n").splitlines()[0] == b"11 10.0.0.1 " + listed + b" :"


def test_a_name_with_a_tab_is_escaped_in_listings(rig: Rig) -> None:
    rig.worker(b"prefix\tname")
    assert ask(rig, b"status\n") == b"prefix\\tname\t0\t0\t1\n.\n"
    assert b": prefix\\tname\n" in ask(rig, b"workers\n")


def test_version(rig: Rig) -> None:
    assert ask(rig, b"version\n") == b"OK " + __version__.encode() + b"+farm\n"


@pytest.mark.parametrize("line", [b"STATUS\n", b"Status\r\n", b"status  extra words\n", b"status\r\n"])
def test_case_and_further_words_do_not_matter(rig: Rig, line: bytes) -> None:
    assert ask(rig, line) == b".\n"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"\n", b""),
        (b"\r\n", b""),
        (b" status\n", b""),
        (b"foo\n", b"foo"),
        (b"foo bar\r\n", b"foo"),
        (b"shutdown\n", b"shutdown"),
        (b"a\x01b\n", rb"a\x01b"),
    ],
)
def test_what_is_no_command_is_said_so(rig: Rig, line: bytes, word: bytes) -> None:
    assert ask(rig, line) == b"ERR UNKNOWN_COMMAND Unknown+server+command" + word + b"\r\n"


def test_lines_and_packets_mix_on_one_connection(rig: Rig) -> None:
    peer = rig.connect(b"status\n", request(p.ECHO_REQ, b"one"), b"status\nstatus\n", request(p.ECHO_REQ, b"two"))
    assert peer._inbox == b".\n" + response(p.ECHO_RES, b"one") + b".\n.\n" + response(p.ECHO_RES, b"two")


# -- anybody's packets


@pytest.mark.parametrize("data", [b"", b"a\0b\0", b"e" * 40_000])
def test_echo_gives_the_same_bytes_back(rig: Rig, data: bytes) -> None:
    peer = rig.connect(request(p.ECHO_REQ, data))
    assert peer.received() == [response(p.ECHO_RES, data)]


@pytest.mark.parametrize("option", [b"exceptions", b"EXCEPTIONS", b"farm-1"])
def test_a_known_option_is_echoed(rig: Rig, option: bytes) -> None:
    assert rig.connect(request(p.OPTION_REQ, option)).received() == [response(p.OPTION_RES, option)]


@pytest.mark.parametrize("option", [b"unheard-of", b"", b"farm-2", b"o" * 64, b"o" * 60_000])
def test_an_unknown_option_is_refused(rig: Rig, option: bytes) -> None:
    peer = rig.connect(request(p.OPTION_REQ, option))
    assert peer.received() == [error(b"UNKNOWN_OPTION", b"Server does not recognize given option")]
    assert not peer.closed


@pytest.mark.parametrize(
    "number", [number for number, kind in p.KINDS.items() if kind.sender == p.SERVER or number == p.ALL_YOURS]
)
def test_a_packet_that_is_no_request_is_refused(rig: Rig, number: int) -> None:
    peer = rig.connect(request(number, b"x"), GRAB)
    assert peer.received() == [NOT_EXPECTED, response(p.NO_JOB)]


def test_what_no_gearmand_does_either_is_refused_and_not_ignored(rig: Rig) -> None:
    peer = rig.connect(request(p.SUBMIT_JOB_SCHED, *(b"",) * 8))
    assert peer.received() == [NOT_EXPECTED]
    assert not peer.closed


def test_a_response_is_no_request(rig: Rig) -> None:
    peer = rig.connect(response(p.ECHO_REQ, b"x"))
    assert peer.received() == [error(b"INVALID_MAGIC", b"Request magic expected")]
    assert not peer.closed
