"""Addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import UsageError
from farm.protocol.address import UNIX_PATH_MAX, Address, is_loopback, parse_address, parse_addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("host", "host", 4730),
        ("host:1", "host", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("host:0", "host", 0),
        (":4731", "127.0.0.1", 4731),
        ("", "127.0.0.1", 4730),
        ("host:", "host", 4730),
        ("::1", "::1", 4730),
        ("[::1]", "::1", 4730),
        ("[::1]:99", "::1", 99),
        ("[fe80::1%eth0]:99", "fe80::1%eth0", 99),
        ("fe80::1%eth0", "fe80::1%eth0", 4730),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", 4730),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8", 4730),
        ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", 4730),
        ("[ABCD::]:0", "ABCD::", 0),
        ("  host:1  ", "host", 1),
    ],
)
def test_tcp(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.host, address.port, address.path) == (host, port, "")


def test_unix() -> None:
    address = parse_address("unix:/tmp/a b:1.sock")
    assert address.path == "/tmp/a b:1.sock"
    assert str(address) == "unix:/tmp/a b:1.sock"


def test_a_unix_socket_has_a_short_path() -> None:
    assert parse_address("unix:" + "x" * UNIX_PATH_MAX).path
    for path, size in (("x" * (UNIX_PATH_MAX + 1), UNIX_PATH_MAX + 1), ("ü" * 60, 120)):
        with pytest.raises(UsageError, match=rf"is {size} bytes long \(at most {UNIX_PATH_MAX}\)"):
            parse_address(f"unix:{path}")


@pytest.mark.parametrize(
    "text",
    [
        "host:65536",
        "host:-1",
        "host:+1",
        "host:1.0",
        "host:x",
        "host:²",
        "host:1 2",
        "host:000001",
        "host:" + "9" * 5000,
        "[::1",
        "[::1]x",
        "[::1]4730",
        "a b:1",
        "http://host:1",
        "user@host",
        "a\0b",
        "x:y:z",
        "host:1:2",
        "127.0.0.1:4730:1",
        "a:b:c",
        "[x::1]:1",
        "1:2:3:4:5:6:7:8:9",
        "unix:",
        "unix:a\0b",
    ],
)
def test_not_an_address(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_address(text)
    assert error.value.hint


@given(st.text(max_size=30) | st.text(alphabet="[]:0123456789af.unix/ ", max_size=15))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError:
        return
    assert address.path or (address.host and 0 <= address.port <= 65535)


@pytest.mark.parametrize("text", ["host:1", "[::1]:4730", "unix:/tmp/x", "127.0.0.1:4730"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_address(text)) == text
    assert parse_address(str(parse_address(text))) == parse_address(text)
    assert repr(parse_address(text)) == f"<Address {text}>"


def test_equal_addresses_are_one_in_a_set() -> None:
    assert len({parse_address("h:4730"), parse_address("h"), parse_address("h:1")}) == 2
    assert parse_address("h") != "h:4730"


def test_lists() -> None:
    assert parse_addresses(["a:1,b:2", "c"]) == [Address("a", 1), Address("b", 2), Address("c", 4730)]
    assert parse_addresses([]) == [Address("127.0.0.1", 4730)]
    with pytest.raises(UsageError, match="an empty address was given"):
        parse_addresses([" , "])


@pytest.mark.parametrize(
    ("host", "stays"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False)],
)
def test_loopback(host: str, stays: bool) -> None:
    assert is_loopback(host) is stays
