"""The table of packets against PROTOCOL 1.2, and every packet as literal bytes, both ways.

Nothing here is computed by the code under test: a wrong number, count or length in the table must show.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import PacketRefused
from farm.protocol import packets
from farm.protocol.decoder import Decoder
from farm.protocol.limits import JOIN_MAX
from farm.protocol.packets import KINDS, REQUEST, RESPONSE, header, request, response, split, with_data

# (number, name, count of arguments, has data), as in the PROTOCOL document with libgearman's four-argument REDUCE.
TABLE = [
    (1, "CAN_DO", 1, False),
    (2, "CANT_DO", 1, False),
    (3, "RESET_ABILITIES", 0, False),
    (4, "PRE_SLEEP", 0, False),
    (5, "UNUSED", 0, False),
    (6, "NOOP", 0, False),
    (7, "SUBMIT_JOB", 2, True),
    (8, "JOB_CREATED", 1, False),
    (9, "GRAB_JOB", 0, False),
    (10, "NO_JOB", 0, False),
    (11, "JOB_ASSIGN", 2, True),
    (12, "WORK_STATUS", 3, False),
    (13, "WORK_COMPLETE", 1, True),
    (14, "WORK_FAIL", 1, False),
    (15, "GET_STATUS", 1, False),
    (16, "ECHO_REQ", 0, True),
    (17, "ECHO_RES", 0, True),
    (18, "SUBMIT_JOB_BG", 2, True),
    (19, "ERROR", 2, False),
    (20, "STATUS_RES", 5, False),
    (21, "SUBMIT_JOB_HIGH", 2, True),
    (22, "SET_CLIENT_ID", 1, False),
    (23, "CAN_DO_TIMEOUT", 2, False),
    (24, "ALL_YOURS", 0, False),
    (25, "WORK_EXCEPTION", 1, True),
    (26, "OPTION_REQ", 1, False),
    (27, "OPTION_RES", 1, False),
    (28, "WORK_DATA", 1, True),
    (29, "WORK_WARNING", 1, True),
    (30, "GRAB_JOB_UNIQ", 0, False),
    (31, "JOB_ASSIGN_UNIQ", 3, True),
    (32, "SUBMIT_JOB_HIGH_BG", 2, True),
    (33, "SUBMIT_JOB_LOW", 2, True),
    (34, "SUBMIT_JOB_LOW_BG", 2, True),
    (35, "SUBMIT_JOB_SCHED", 7, True),
    (36, "SUBMIT_JOB_EPOCH", 3, True),
    (37, "SUBMIT_REDUCE_JOB", 4, True),
    (38, "SUBMIT_REDUCE_JOB_BACKGROUND", 4, True),
    (39, "GRAB_JOB_ALL", 0, False),
    (40, "JOB_ASSIGN_ALL", 4, True),
    (41, "GET_STATUS_UNIQUE", 1, False),
    (42, "STATUS_RES_UNIQUE", 6, False),
    (1001, "FARM_CANCEL", 1, False),
    (1002, "FARM_CANCEL_RES", 2, False),
    (1003, "FARM_JOB_CANCEL", 1, False),
    (1004, "FARM_JOB_JOINED", 1, False),
    (1005, "FARM_JOB_RESTARTED", 2, False),
    (1006, "FARM_HEARTBEAT", 1, False),
    (1007, "FARM_ALIVE", 0, False),
    (1008, "FARM_SUBMIT", 3, True),
    (1009, "FARM_EXISTS", 2, False),
    (1010, "FARM_ASK", 2, True),
    (1011, "FARM_ANSWER", 1, True),
    (1012, "FARM_OUTPUT", 2, True),
    (1013, "FARM_ENDED", 1, True),
    (1014, "FARM_TERMS", 2, False),
    (1015, "FARM_USAGE", 3, False),
]

# (whole packet, its arguments and then its data). Those that travel both ways are here twice.
GOLDEN = [
    (b"\0REQ\0\0\0\x01\0\0\0\x07reverse", [b"reverse"]),
    (b"\0REQ\0\0\0\x02\0\0\0\x07reverse", [b"reverse"]),
    (b"\0REQ\0\0\0\x03\0\0\0\x00", []),
    (b"\0REQ\0\0\0\x04\0\0\0\x00", []),
    (b"\0RES\0\0\0\x05\0\0\0\x00", []),
    (b"\0RES\0\0\0\x06\0\0\0\x00", []),
    (b"\0REQ\0\0\0\x07\0\0\0\x0ef\0u\0a\0b\xff\n\0data", [b"f", b"u", b"a\0b\xff\n\0data"]),
    (b"\0REQ\0\0\0\x07\0\0\0\x03f\0\0", [b"f", b"", b""]),
    (b"\0RES\0\0\0\x08\0\0\0\x05H:a:1", [b"H:a:1"]),
    (b"\0REQ\0\0\0\x09\0\0\0\x00", []),
    (b"\0RES\0\0\0\x0a\0\0\0\x00", []),
    (b"\0RES\0\0\0\x0b\0\0\0\x0aH:a:1\0f\0in", [b"H:a:1", b"f", b"in"]),
    (b"\0REQ\0\0\0\x0c\0\0\0\x0bH:a:1\0" + b"2\0" + b"100", [b"H:a:1", b"2", b"100"]),
    (b"\0RES\0\0\0\x0c\0\0\0\x0bH:a:1\0" + b"2\0" + b"100", [b"H:a:1", b"2", b"100"]),
    (b"\0REQ\0\0\0\x0d\0\0\0\x09H:a:1\0out", [b"H:a:1", b"out"]),
    (b"\0RES\0\0\0\x0d\0\0\0\x06H:a:1\0", [b"H:a:1", b""]),
    (b"\0REQ\0\0\0\x0e\0\0\0\x05H:a:1", [b"H:a:1"]),
    (b"\0RES\0\0\0\x0e\0\0\0\x05H:a:1", [b"H:a:1"]),
    (b"\0REQ\0\0\0\x0f\0\0\0\x05H:a:1", [b"H:a:1"]),
    (b"\0REQ\0\0\0\x10\0\0\0\x04a\0b\n", [b"a\0b\n"]),
    (b"\0RES\0\0\0\x11\0\0\0\x04a\0b\n", [b"a\0b\n"]),
    (b"\0REQ\0\0\0\x12\0\0\0\x06f\0u\0in", [b"f", b"u", b"in"]),
    (b"\0RES\0\0\0\x13\0\0\0\x09CODE\0text", [b"CODE", b"text"]),
    (b"\0RES\0\0\0\x14\0\0\0\x0fH:a:1\0" + b"1\0" + b"0\0" + b"22\0" + b"33", [b"H:a:1", b"1", b"0", b"22", b"33"]),
    (b"\0REQ\0\0\0\x15\0\0\0\x06f\0u\0in", [b"f", b"u", b"in"]),
    (b"\0REQ\0\0\0\x16\0\0\0\x02me", [b"me"]),
    (b"\0REQ\0\0\0\x17\0\0\0\x06f\0" + b"1500", [b"f", b"1500"]),
    (b"\0REQ\0\0\0\x18\0\0\0\x00", []),
    (b"\0REQ\0\0\0\x19\0\0\0\x0aH:a:1\0oops", [b"H:a:1", b"oops"]),
    (b"\0RES\0\0\0\x19\0\0\0\x0aH:a:1\0oops", [b"H:a:1", b"oops"]),
    (b"\0REQ\0\0\0\x1a\0\0\0\x0aexceptions", [b"exceptions"]),
    (b"\0RES\0\0\0\x1b\0\0\0\x0aexceptions", [b"exceptions"]),
    (b"\0REQ\0\0\0\x1c\0\0\0\x08H:a:1\0\0\xff", [b"H:a:1", b"\0\xff"]),
    (b"\0RES\0\0\0\x1c\0\0\0\x08H:a:1\0\0\xff", [b"H:a:1", b"\0\xff"]),
    (b"\0REQ\0\0\0\x1d\0\0\0\x09H:a:1\0bad", [b"H:a:1", b"bad"]),
    (b"\0RES\0\0\0\x1d\0\0\0\x09H:a:1\0bad", [b"H:a:1", b"bad"]),
    (b"\0REQ\0\0\0\x1e\0\0\0\x00", []),
    (b"\0RES\0\0\0\x1f\0\0\0\x0cH:a:1\0f\0u\0in", [b"H:a:1", b"f", b"u", b"in"]),
    (b"\0REQ\0\0\0\x20\0\0\0\x06f\0u\0in", [b"f", b"u", b"in"]),
    (b"\0REQ\0\0\0\x21\0\0\0\x06f\0u\0in", [b"f", b"u", b"in"]),
    (b"\0REQ\0\0\0\x22\0\0\0\x06f\0u\0in", [b"f", b"u", b"in"]),
    (
        b"\0REQ\0\0\0\x23\0\0\0\x0ef\0u\0" + b"5\0" + b"4\0" + b"\0\0" + b"1\0" + b"in",
        [b"f", b"u", b"5", b"4", b"", b"", b"1", b"in"],
    ),
    (b"\0REQ\0\0\0\x24\0\0\0\x11f\0u\0" + b"1800000000\0in", [b"f", b"u", b"1800000000", b"in"]),
    (b"\0REQ\0\0\0\x25\0\0\0\x09f\0u\0r\0\0in", [b"f", b"u", b"r", b"", b"in"]),
    (b"\0REQ\0\0\0\x26\0\0\0\x09f\0u\0r\0\0in", [b"f", b"u", b"r", b"", b"in"]),
    (b"\0REQ\0\0\0\x27\0\0\0\x00", []),
    (b"\0RES\0\0\0\x28\0\0\0\x0eH:a:1\0f\0u\0r\0in", [b"H:a:1", b"f", b"u", b"r", b"in"]),
    (b"\0REQ\0\0\0\x29\0\0\0\x01u", [b"u"]),
    (b"\0RES\0\0\0\x2a\0\0\0\x0bu\0" + b"1\0" + b"1\0" + b"2\0" + b"3\0" + b"4", [b"u", b"1", b"1", b"2", b"3", b"4"]),
    (b"\0REQ\0\0\x03\xe9\0\0\0\x05H:a:1", [b"H:a:1"]),
    (b"\0RES\0\0\x03\xea\0\0\0\x0dH:a:1\0dropped", [b"H:a:1", b"dropped"]),
    (b"\0RES\0\0\x03\xeb\0\0\0\x05H:a:1", [b"H:a:1"]),
    (b"\0RES\0\0\x03\xec\0\0\0\x05H:a:1", [b"H:a:1"]),
    (b"\0RES\0\0\x03\xed\0\0\0\x0aH:a:1\0lost", [b"H:a:1", b"lost"]),
    (b"\0RES\0\0\x03\xee\0\0\0\x044000", [b"4000"]),
    (b"\0REQ\0\0\x03\xef\0\0\0\x00", []),
    (b"\0REQ\0\0\x03\xf0\0\0\0\x0ff\0k\0retries=2\0p", [b"f", b"k", b"retries=2", b"p"]),
    (b"\0RES\0\0\x03\xf1\0\0\0\x0aH:a:1\0done", [b"H:a:1", b"done"]),
    (b"\0REQ\0\0\x03\xf2\0\0\0\x09jobs\0{}\0p", [b"jobs", b"{}", b"p"]),
    (b"\0RES\0\0\x03\xf3\0\0\0\x07jobs\0{}", [b"jobs", b"{}"]),
    (b"\0RES\0\0\x03\xf4\0\0\0\x0dH:a:1\0log\0err", [b"H:a:1", b"log", b"err"]),
    (b"\0RES\0\0\x03\xf5\0\0\0\x08H:a:1\0{}", [b"H:a:1", b"{}"]),
    (b"\0REQ\0\0\x03\xf6\0\0\0\x0bf\0retries=1", [b"f", b"retries=1"]),
    (b"\0REQ\0\0\x03\xf7\0\0\0\x0eH:a:1\x000.25\x00512", [b"H:a:1", b"0.25", b"512"]),
]

BOTH_WAYS = {"WORK_STATUS", "WORK_COMPLETE", "WORK_FAIL", "WORK_EXCEPTION", "WORK_DATA", "WORK_WARNING"}


def number_of(packet: bytes) -> int:
    return int.from_bytes(packet[4:8], "big")


def test_table_is_the_documented_one() -> None:
    assert [(kind.number, kind.name, len(kind.args), kind.data) for kind in KINDS.values()] == TABLE


@pytest.mark.parametrize(("number", "name"), [row[:2] for row in TABLE if row[1] != "UNUSED"])
def test_constants_are_the_documented_numbers(number: int, name: str) -> None:
    assert getattr(packets, name) == number


def test_every_packet_has_golden_bytes_in_each_direction_it_travels() -> None:
    directions = {(number_of(packet), packet[:4]) for packet, _ in GOLDEN}
    assert {number for number, _ in directions} == set(KINDS)
    for kind in KINDS.values():
        magics = {magic for number, magic in directions if number == kind.number}
        expected = (
            {b"\0REQ", b"\0RES"} if kind.name in BOTH_WAYS else {b"\0RES" if kind.sender == "server" else b"\0REQ"}
        )
        assert magics == expected, kind.name


@pytest.mark.parametrize(("packet", "parts"), GOLDEN)
def test_encoding(packet: bytes, parts: list[bytes]) -> None:
    encode = request if packet.startswith(b"\0REQ") else response
    assert encode(number_of(packet), *parts) == packet


@pytest.mark.parametrize(("packet", "parts"), GOLDEN)
def test_decoding(packet: bytes, parts: list[bytes]) -> None:
    ((number, body),) = Decoder(packet[:4]).feed(packet)
    assert number == number_of(packet)
    assert split(KINDS[number], body) == parts


@pytest.mark.parametrize(("packet", "parts"), [row for row in GOLDEN if KINDS[number_of(row[0])].data])
def test_encoding_with_data(packet: bytes, parts: list[bytes]) -> None:
    assert with_data(packet[:4], number_of(packet), tuple(parts[:-1]), parts[-1]) == (packet,)


def test_large_data_is_not_copied_behind_its_header() -> None:
    data = b"x" * (JOIN_MAX + 1)
    head, rest = with_data(RESPONSE, 11, (b"H:a:1", b"f"), data)
    assert head == b"\0RES\0\0\0\x0b" + (8 + len(data)).to_bytes(4, "big") + b"H:a:1\0f\0"
    assert rest is data


def test_header() -> None:
    assert header(REQUEST, 7, 0x01020304) == b"\0REQ\0\0\0\x07\x01\x02\x03\x04"


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if len(kind.args) + kind.data > 1], ids=lambda k: k.name
)
def test_missing_arguments_are_refused_by_name(kind: packets.Kind) -> None:
    wanted = len(kind.args) + kind.data
    for given_parts in range(1, wanted):
        with pytest.raises(PacketRefused) as refused:
            split(kind, b"\0".join([b"x"] * given_parts))
        assert refused.value.code == b"INVALID_PACKET"
        assert refused.value.close
        first_missing = kind.args[given_parts - kind.data]
        assert f"{kind.name} lacks arguments: {first_missing}" in refused.value.text.decode()


def test_a_body_that_should_not_be_there_is_ignored() -> None:
    assert split(KINDS[packets.GRAB_JOB], b"extra\0bytes") == []


def test_nul_in_the_last_argument_belongs_to_it() -> None:
    assert split(KINDS[packets.CAN_DO], b"a\0b") == [b"a\0b"]
    assert split(KINDS[packets.WORK_STATUS], b"H\x001\x002\x003") == [b"H", b"1", b"2\x003"]


@given(st.sampled_from(list(KINDS.values())), st.binary())
def test_any_body_splits_or_is_refused(kind: packets.Kind, body: bytes) -> None:
    wanted = len(kind.args) + kind.data
    try:
        parts = split(kind, body)
    except PacketRefused:
        assert body.count(b"\0") < wanted - 1
        return
    assert len(parts) == wanted
    assert not wanted or b"\0".join(parts) == body


@pytest.mark.parametrize("number", sorted(packets.BULKY))
def test_bulky_packets_are_those_of_a_job(number: int) -> None:
    assert KINDS[number].data
    assert number not in (packets.ECHO_REQ, packets.ECHO_RES)


def test_every_payload_carrier_is_bulky() -> None:
    carriers = {row[0] for row in TABLE if row[3]} - {packets.ECHO_REQ, packets.ECHO_RES}
    assert carriers == packets.BULKY
