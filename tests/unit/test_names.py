"""Function names: what the server refuses, what a person is told, and how any name is shown on one line."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farm.errors import PacketRefused
from farm.protocol.names import function_name_fault, one_word, refuse_bad_function, shown


def refused(name: bytes) -> bool:
    try:
        refuse_bad_function(name)
    except PacketRefused as error:
        return (error.code, error.close) == (b"INVALID_FUNCTION_NAME", True)
    return False


@pytest.mark.parametrize(
    "name",
    [b"", b"a b", b" ", b"a\0b", b"\0", b"a\n", b"a\rb", b"a\x7f", b"a\x1b[2J", b"x" * 513, b"\x0b"],
)
def test_the_server_refuses(name: bytes) -> None:
    assert refused(name)


@pytest.mark.parametrize("name", [b"reverse", b"a::b/c-d_e.f", b"prefix\tf", "größe".encode(), b"\xff\xfe", b"x" * 512])
def test_the_server_accepts(name: bytes) -> None:
    assert not refused(name)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("a b", "blank"),
        ("a\tb", "blank"),
        ("a\n", "blank"),
        ("a\0b", "control"),
        ("a\x7f", "control"),
        ("a\u2028b", "blank"),
        ("a\u00a0b", "blank"),
        ("x" * 513, "513 bytes"),
        ("ü" * 257, "514 bytes"),
    ],
)
def test_a_person_is_told(name: str, fault: str) -> None:
    assert fault in function_name_fault(name)


@given(st.text(max_size=20))
def test_what_a_person_may_use_the_server_takes(name: str) -> None:
    if not function_name_fault(name):
        assert not refused(name.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain", "plain"),
        (b"a b", "a\\x20b"),
        (b"a\tb", "a\\tb"),
        (b"a\nb\0", "a\\x0ab\\x00"),
        (b"\x1b[2J\x7f", "\\x1b[2J\\x7f"),
        ("größe".encode(), "größe"),
    ],
)
def test_shown(name: bytes, text: str) -> None:
    assert shown(name) == text


@given(st.binary(max_size=20) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example("a\u0085b".encode())  # Unicode knows more ends of lines, blanks and control characters than ASCII
@example("\u009b2J".encode())
@example("a\u2028b".encode())
def test_shown_is_one_word_without_control_characters(name: bytes) -> None:
    text = shown(name)
    assert not name or text.split() == [text]
    assert not [letter for letter in text if letter < " " or "\x7f" <= letter < "\xa0"]


@given(st.binary(max_size=20))
def test_one_word_is_a_word_of_an_admin_line(name: bytes) -> None:
    word = one_word(name)
    assert not name or word.split() == [word]
    assert b"\0" not in word
    assert word == name or any(byte <= 0x20 or byte == 0x7F for byte in name)


def test_one_word_escapes_nothing_else() -> None:
    """Two functions whose names are no UTF-8 do not share a line because both have a TAB, too."""
    assert one_word(b"\xff\t") == b"\xff\\t"
    assert one_word(b"\xfe\t") == b"\xfe\\t"
    assert one_word("gr\u00f6\u00dfe\t\u0085".encode()) == "gr\u00f6\u00dfe\\t\u0085".encode()
    assert one_word(b"a\x7f\x00 b") == b"a\\x7f\\x00\\x20b"
