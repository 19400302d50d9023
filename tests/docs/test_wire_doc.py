"""farm/protocol/WIRE.md and JOBS.md have every packet of the extension, every verb and every term, as the code has."""

from __future__ import annotations

import re

import pytest

from farm.broker import asks, terms
from farm.broker.job import PRIORITY_NAMES
from farm.broker.terms import parse, parse_submission
from farm.errors import PacketRefused
from farm.protocol.packets import CLIENT, KINDS, SERVER, WORKER, Kind
from tests.support import CHECKOUT

WIRE, JOBS = ((CHECKOUT / "farm/protocol" / name).read_text() for name in ("WIRE.md", "JOBS.md"))
OURS = [kind for kind in KINDS.values() if kind.name.startswith("FARM_")]
SENDERS = {CLIENT: "client to server", WORKER: "worker to server", SERVER: "server to "}


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading, without its header."""
    table = re.search(r"^\|.*?(?=^[^|]|\Z)", text.partition(f"## {heading}\n")[2], re.M | re.S)
    assert table, heading
    return [[cell.strip() for cell in line.split(" | ")] for line in table[0].replace("|\n", " |\n").splitlines()[2:]]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)
def test_every_packet(kind: Kind) -> None:
    """Number, direction, and how many arguments."""
    (line,) = re.findall(rf"^\| {kind.number} \| {kind.name} \|.*$", WIRE + JOBS, re.M)
    _, _, _, direction, arguments, *_ = (cell.strip() for cell in line.split("|"))
    assert direction.startswith(SENDERS[kind.sender])
    words = re.sub(r"\(.*?\)", "", arguments)
    assert len([word for word in words.split(",") if word.strip()]) == len(kind.args)


def test_no_packet_that_there_is_not() -> None:
    named = {int(number) for number in re.findall(r"^\| (\d{4}) \| FARM_", WIRE + JOBS, re.M)}
    assert named == {kind.number for kind in OURS}


def test_every_verb_and_whether_it_changes_anything() -> None:
    said = {}
    for row in rows(JOBS, "Verbs"):
        for verb in re.findall("`(.*?)`", row[0]):
            said[verb] = row[-1].strip(" |") == "yes"
    assert set(said) == {*asks._QUESTIONS, *asks._COMMANDS}
    assert {verb for verb, changes in said.items() if changes} == set(asks._COMMANDS)


def test_every_term() -> None:
    """That of a submission, too: what is not in the table is refused."""
    named = {re.findall("`(.*?)`", row[0])[0] for row in rows(JOBS, "Terms")}
    assert {name.decode() for name in terms._FIELDS} < named
    for name in named - {name.decode() for name in terms._FIELDS} - {"after"}:
        with pytest.raises(PacketRefused, match=f"Bad value of {name}"):
            parse_submission(f"{name}=?".encode(), 0.0)
        with pytest.raises(PacketRefused, match=f"Unknown term: {name}"):
            parse(f"{name}=1".encode())
    assert parse(b"after=ok:H:1:1").after


@pytest.mark.parametrize(
    "word",
    [*PRIORITY_NAMES, *(word.decode() for word in (terms.ATTACH, terms.SKIP, terms.REFUSE, terms.REPLACE))],
)
def test_every_value(word: str) -> None:
    assert f"`{word}`" in JOBS.partition("## Terms")[2].partition("## Verbs")[0]


def test_every_error_code_of_asks() -> None:
    found = set()
    for path in (CHECKOUT / "farm/broker").glob("*.py"):
        found |= set(re.findall(r'PacketRefused\(b"(\w+)"', path.read_text()))
    assert len(found) > 8
    for code in found:
        assert code in WIRE + JOBS, code
