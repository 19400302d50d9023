"""gearmand and farm get the same scripts and must answer alike, but for the table of differences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.interop.differential.author import Author
from tests.interop.differential.differences import AGREED, ANY, DIFFERENCES, FARM, GEARMAND, UNSPECIFIED, Difference
from tests.interop.differential.normal import normal
from tests.interop.differential.play import NUMBERS, Player, play
from tests.interop.differential.render import rendered
from tests.interop.differential.servers import pair
from tests.support import CHECKOUT, PATIENCE_S

pytestmark = pytest.mark.interop

QUICK, SLOW = range(20), range(20, 300)
STEPS = 150
COMMANDS = """
    status prioritystatus workers show cancel create drop maxqueue getpid verbose version shutdown
""".split()  # noqa: SIM905
# gearmand closes these at the connection's next event or the one after: not compared.
CLOSES_LATE = (
    "status-long-handle",
    "status-long-unique",
    "status-long-denominator",
    "epoch-overflow",
    "timeout-long",
    "unique-64",
)

Records = tuple[list[list[str]], list[list[str]]]


def made(seed: int, directory: Path) -> tuple[list[str], Records]:
    """A random script, and what gearmand and farm answered."""
    with pair(directory, seed) as ports:
        with Player(ports.gearmand) as player:
            script = Author(seed, player).write(STEPS)
            gearmand = normal(player)
        return script, (gearmand, normal(play(ports.farm, script)))


def played(script: list[str], directory: Path, patience_s: float = PATIENCE_S) -> Records:
    """What gearmand and farm answer to a script."""
    with pair(directory) as ports:
        gearmand = normal(play(ports.gearmand, script, patience_s))
        return gearmand, normal(play(ports.farm, script, patience_s))


def differing(script: list[str], records: Records) -> dict[int, tuple[list[str], list[str]]]:
    """The steps, from 1, that were answered differently."""
    assert len(script) == len(records[0]) == len(records[1])
    return {number: both for number, both in enumerate(zip(*records, strict=True), 1) if both[0] != both[1]}


def _compare(script: list[str], records: Records) -> None:
    """Every step alike; where not, the script up to there is the way to see it again."""
    for number, (gearmand, farm) in differing(script, records).items():
        before = "\n".join(script[:number])
        pytest.fail(f"step {number}:\n  gearmand {gearmand}\n  farm     {farm}\nafter\n{before}", pytrace=False)


# -- random scripts


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, tuple[list[str], Records]]]:
    """The quick seeds, each made once."""
    directory = tmp_path_factory.mktemp("scripts")
    with ThreadPoolExecutor(2) as pool:
        futures = {seed: pool.submit(made, seed, directory) for seed in QUICK}
        yield {seed: future.result() for seed, future in futures.items()}


@pytest.mark.parametrize("seed", QUICK)
def test_a_random_script(scripts: dict[int, tuple[list[str], Records]], seed: int) -> None:
    """What programs send, and some mistakes."""
    _compare(*scripts[seed])


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_another_random_script(tmp_path: Path, seed: int) -> None:
    """More of them."""
    _compare(*made(seed, tmp_path))


def test_every_packet_and_every_command_occurs(scripts: dict[int, tuple[list[str], Records]]) -> None:
    """Of the quick seeds together: sent, or received from both servers."""
    steps = [step for script, _ in scripts.values() for step in script]
    sent = {step.split()[1] for step in steps if len(step.split()) > 1}
    got = [
        {line.split()[1] for _, records in scripts.values() for got in records[who] for line in got} for who in (0, 1)
    ]
    assert set(NUMBERS) - {"UNUSED"} <= sent | (got[0] & got[1])
    requests = {"JOB_ASSIGN", "JOB_ASSIGN_UNIQ", "JOB_ASSIGN_ALL", "NO_JOB", "NOOP", "STATUS_RES", "STATUS_RES_UNIQUE"}
    assert requests | {"JOB_CREATED", "OPTION_RES", "ERROR"} <= got[0] & got[1]
    lines = {step.split()[1].lower() for step in steps if re.match(r"\w+: \S", step)}
    assert set(COMMANDS) <= lines


def test_a_script_is_made_again_from_its_seed(scripts: dict[int, tuple[list[str], Records]], tmp_path: Path) -> None:
    """Or a seed would be of no use."""
    assert made(3, tmp_path)[0] == scripts[3][0]


def test_a_difference_is_noticed(scripts: dict[int, tuple[list[str], Records]]) -> None:
    """A line more, a line less, another byte."""
    script, (gearmand, farm) = scripts[0]
    for other in (
        [*farm[:-1], []],
        [*farm[:-1], [*farm[-1], "a NOOP"]],
        [*farm[:-1], [farm[-1][0] + "x", *farm[-1][1:]]],
    ):
        with pytest.raises(pytest.fail.Exception):
            _compare(script, (gearmand, other))


# -- the table


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Records]]]:
    """All scripts of the table, some at a time: most of their time is starting servers."""
    with ThreadPoolExecutor(3) as pool:
        yield {
            name: pool.submit(played, script, tmp_path_factory.mktemp(name), 1.0 if silent else PATIENCE_S)
            for name, script, silent in (
                *((row.name, row.script, "silent" in str(row.differs)) for row in DIFFERENCES),
                *((name, script, False) for name, script in AGREED.items()),
            )
        }


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.name)
def test_a_difference_is_as_the_table_says(row: Difference, corners: dict[str, Future[Records]]) -> None:
    """Exactly these steps, exactly so: a row that no longer occurs has to go."""
    gearmand, farm = corners[row.name].result()
    if row.name in CLOSES_LATE:
        gearmand = [[line for line in got if not line.endswith(" closed")] for got in gearmand]
    found = differing(row.script, (gearmand, farm))
    for number, (_, wanted) in row.differs.items():
        if wanted == ANY and number in found:
            found[number] = (found[number][0], ANY)
    assert found == row.differs


@pytest.mark.parametrize("name", AGREED)
def test_a_corner_where_the_two_agree(name: str, corners: dict[str, Future[Records]]) -> None:
    """Step by step."""
    _compare(AGREED[name], corners[name].result())


def test_the_table_is_well_formed() -> None:
    """Names are unique, and every row says who is right and why."""
    names = [row.name for row in DIFFERENCES] + list(AGREED)
    assert len(names) == len(set(names))
    for row in DIFFERENCES:
        assert row.verdict in (FARM, GEARMAND, UNSPECIFIED)
        assert row.gearmand and row.farm and row.reason and row.differs


def test_the_page_is_up_to_date() -> None:
    """`python -P -m tests.interop.differential > farm/docs/differences.md` mends it."""
    assert (CHECKOUT / "farm/docs/differences.md").read_text() == rendered()
