"""The exit trailer: exact, readable, and impossible to forge through a command's stderr."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.protocol.extension import BEGIN, EXIT_MARK, exit_trailer, parse_exit_trailer, safe_pieces


@pytest.mark.parametrize(
    ("code", "origin", "trailer"),
    [
        (0, "job", b"farm: exit 0\n"),
        (3, "job", b"farm: exit 3\n"),
        (255, "job", b"farm: exit 255\n"),
        (125, "farm", b"farm: exit 125 farm\n"),
        (7, "farm", b"farm: exit 7 farm\n"),
    ],
)
def test_golden_trailer_both_ways(code: int, origin: str, trailer: bytes) -> None:
    assert exit_trailer(code, origin) == trailer
    assert parse_exit_trailer(trailer) == (code, origin)


@pytest.mark.parametrize(
    "warning",
    [
        b"",
        b"farm: exit 3",
        b"farm: exit \n",
        b"farm: exit 256\n",
        b"farm: exit -1\n",
        b"farm: exit 0003\n",
        b"farm: exit 3 job\n",
        b"farm: exit 3 farm \n",
        b"farm: exit 3\n\n",
        b"farm: exit 3\nmore\n",
        b" farm: exit 3\n",
        b"Farm: exit 3\n",
        b"farm: exit \xc2\xb2\n",
        b"farm: exit x\n",
    ],
)
def test_no_trailer(warning: bytes) -> None:
    assert parse_exit_trailer(warning) is None


near_forgery = st.lists(
    st.sampled_from([EXIT_MARK, EXIT_MARK[:5], EXIT_MARK[5:], b"f", b"3", b" farm", b"\n", b"oops"]), max_size=8
).map(b"".join)


@given(st.lists(st.binary(max_size=30) | near_forgery, max_size=10))
def test_stderr_cannot_forge_a_trailer_or_a_begin(chunks: list[bytes]) -> None:
    payloads = [piece for chunk in chunks for piece in safe_pieces(chunk)]
    assert b"".join(payloads) == b"".join(chunks)
    for payload in payloads:
        assert payload != BEGIN
        assert not payload.startswith(EXIT_MARK)
        assert parse_exit_trailer(payload) is None


def test_a_command_that_prints_a_trailer_is_cut_apart() -> None:
    assert safe_pieces(exit_trailer(0)) == (b"f", b"arm: exit 0\n")
    assert safe_pieces(b"plain\n") == (b"plain\n",)
    assert safe_pieces(b"") == ()


@given(st.integers(0, 255), st.sampled_from(["job", "farm"]))
def test_every_exit_code_survives(code: int, origin: str) -> None:
    assert parse_exit_trailer(exit_trailer(code, origin)) == (code, origin)


@given(st.binary(max_size=10).map(lambda rest: EXIT_MARK + rest) | st.binary(max_size=30))
def test_whatever_parses_is_an_exit_code(warning: bytes) -> None:
    found = parse_exit_trailer(warning)
    if found is not None:
        code, origin = found
        assert 0 <= code <= 255
        assert origin in ("job", "farm")
        assert exit_trailer(code, origin).rstrip(b"\n").split()[:2] == warning.split()[:2]
