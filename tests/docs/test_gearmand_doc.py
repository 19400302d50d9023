"""farm/docs/gearmand.md and the tests that it names agree: every loss and bug has a test, and each is where it says."""

from __future__ import annotations

import re

from tests.support import CHECKOUT

PAGE = CHECKOUT / "farm/docs/gearmand.md"
NUMBERS = [*"ABCDEFGHIJKLMN", *map(str, range(1, 26))]


def test_every_one_has_a_row_and_tests() -> None:
    """In order; a row names every test of its number in the files that the page points to, and no other."""
    text = PAGE.read_text()
    rows = re.findall(r"^\| (\w+) \|.*\| ([^|]*) \|$", text, re.M)
    assert [number for number, _ in rows] == NUMBERS
    files = dict(re.findall(r"^\[(\w+)\]: \.\./\.\./(\S+)$", text, re.M))
    tests = {word: re.findall(r"^def (test_\w+)", (CHECKOUT / file).read_text(), re.M) for word, file in files.items()}
    assert len(tests) == 3
    for number, cell in rows:
        mark = f"_loss_{number}_" if number.isalpha() else f"_bug_{number}_"
        there = {(word, name) for word, names in tests.items() for name in names if mark in name}
        named = {
            (word, name)
            for word, names in re.findall(r"\[(\w+)\]: ([^;]+)", cell)
            for name in re.findall(r"`(\w+)`", names)
        }
        assert there == named != set(), number


def test_no_test_is_there_twice() -> None:
    """One name is one test, whatever file it is in."""
    text = PAGE.read_text()
    names = [
        name
        for file in re.findall(r"^\[\w+\]: \.\./\.\./(\S+)$", text, re.M)
        for name in re.findall(r"^def (test_\w+)", (CHECKOUT / file).read_text(), re.M)
    ]
    assert len(names) == len(set(names)) > 30
