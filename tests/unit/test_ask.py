"""Questions about jobs: what a server may answer, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.client.ask import JobServer, StockServer, refusal
from farm.client.job_servers import JobServers
from farm.errors import (
    FarmError,
    JobNotFound,
    NotGearman,
    NotPermitted,
    TryAgain,
    Unavailable,
    UsageError,
)
from farm.protocol import packets as p
from farm.protocol.address import Address, parse_address
from tests.cli.fake_jobs import STOCK, answer, ended, error, job, job_server, output
from tests.cli.fakes import http_server, res
from tests.support import free_port


def at(address: str) -> JobServer:
    return JobServer(parse_address(address))


def test_a_question_has_an_answer() -> None:
    with job_server({"jobs": answer("jobs", {"jobs": [], "more": None})}) as (address, asked), at(address) as server:
        assert server.ask("jobs", {"limit": 3}) == {"jobs": [], "more": None}
        assert server.ask("jobs") == {"jobs": [], "more": None}
        assert asked == [("jobs", {"limit": 3}), ("jobs", {})]


def test_output_comes_before_the_answer() -> None:
    said = output("H:1:1", "result", b"a\0b") + output("H:1:1", "log", b"!") + answer("output", {"job": {}})
    taken: list[tuple[str, bytes]] = []
    with job_server({"output": said}) as (address, _), at(address) as server:
        answered = server.ask("output", {"id": "H:1:1"}, take=lambda stream, data: taken.append((stream, data)))
    assert (answered, taken) == ({"job": {}}, [("result", b"a\0b"), ("log", b"!")])


def test_an_end_may_come_with_the_answer_and_before_another_one() -> None:
    verbs = {
        "wait": answer("wait", {"unknown": []}) + ended("H:1:1"),
        "explain": ended("H:1:2") + answer("explain", {}),
    }
    with job_server(verbs) as (address, _), at(address) as server:
        server.ask("wait", {"ids": ["H:1:1", "H:1:2"]})
        server.ask("explain", {"id": "H:1:3"})
        assert [id for id, _ in server.take_ended()] == ["H:1:1", "H:1:2"]
        assert server.take_ended() == []


def test_a_stock_server_is_told_apart() -> None:
    with job_server({}, greeting=STOCK) as (address, asked):
        with pytest.raises(StockServer, match="is a stock Gearman server") as caught:
            at(address)
        assert "gearadmin --status" in caught.value.hint
        assert caught.value.status == 69
        assert not asked


def test_what_is_no_gearman_server_is_told_apart() -> None:
    with http_server() as address, pytest.raises(NotGearman, match="does not speak Gearman"):
        at(address)


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("JOB_NOT_FOUND", JobNotFound, 66),
        ("PERMISSION_DENIED", NotPermitted, 77),
        ("INVALID_REQUEST", UsageError, 64),
        ("INVALID_COMMAND", Unavailable, 69),
        ("SHUTDOWN", Unavailable, 69),
        ("QUEUE_ERROR", TryAgain, 75),
        ("WHATEVER", NotGearman, 76),
    ],
)
def test_a_refusal_has_its_exit_code(code: str, kind: type[FarmError], status: int) -> None:
    with job_server({"job": error(code, "the words")}) as (address, _), at(address) as server:
        with pytest.raises(kind) as caught:
            server.ask("job", {"id": "H:1:1"})
        assert caught.value.status == status


def test_the_connection_is_good_after_a_refusal() -> None:
    with job_server({"functions": answer("functions", {"functions": []})}) as (address, _), at(address) as server:
        with pytest.raises(UsageError, match="no such verb"):
            server.ask("nonsense")
        assert server.ask("functions") == {"functions": []}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"null", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": 1e22}', b"\xff", b"[" * 100_000],
)
def test_an_answer_that_is_none(body: bytes) -> None:
    said = res(p.FARM_ANSWER, b"job", body)
    with job_server({"job": said}) as (address, _), at(address) as server, pytest.raises(NotGearman):
        server.ask("job")


@pytest.mark.parametrize(
    "said", [answer("other", {}), res(p.JOB_CREATED, b"H:1:1"), b"OK\n", res(p.FARM_ANSWER, b"job")]
)
def test_a_packet_that_should_not_come(said: bytes) -> None:
    with job_server({"job": said}) as (address, _), at(address) as server, pytest.raises(NotGearman):
        server.ask("job")


def test_a_server_that_goes_away() -> None:
    def leave(*_: object) -> bytes:
        raise EOFError

    with job_server({"job": leave}) as (address, _), at(address) as server, pytest.raises(Unavailable):
        server.ask("job")


@given(st.binary(max_size=20), st.binary(max_size=40))
def test_any_refusal_is_one_line(code: bytes, text: bytes) -> None:
    error = refusal([code, text], "here")
    assert "\n" not in error.message + error.hint


# -- several servers


def nobody() -> Address:
    return parse_address(f"127.0.0.1:{free_port()}")


def servers(*addresses: str) -> JobServers:
    return JobServers([*map(parse_address, addresses)])


def found(*ids: str) -> bytes:
    return answer("find", {"ids": list(ids)})


def test_a_handle_finds_its_server() -> None:
    with job_server({"find": found()}) as (one, _), job_server({"find": found("H:2:7")}) as (two, asked):
        with servers(one, two) as both:
            server, id = both.find("7")
        assert (server.address, id) == (two, "H:2:7")
        assert asked == [("find", {"text": "7"})]


def test_what_may_mean_several_is_refused_with_the_candidates() -> None:
    with (
        job_server({"find": found("H:1:7")}) as (one, _),
        job_server({"find": found("H:2:7")}) as (two, _),
        servers(one, two) as both,
        pytest.raises(UsageError, match="H:1:7, H:2:7"),
    ):
        both.find("7")


def test_a_whole_handle_means_itself() -> None:
    with job_server({"find": found("H:1:7", "H:1:70")}) as (one, _), servers(one) as all_of_them:
        assert all_of_them.find("H:1:7")[1] == "H:1:7"


def test_last_is_the_newest_of_all() -> None:
    old = {"find": found("H:1:9"), "job": answer("job", {"job": job("H:1:9", created_at=5)})}
    new = {"find": found("H:2:1"), "job": answer("job", {"job": job("H:2:1", created_at=6)})}
    with job_server(new) as (one, _), job_server(old) as (two, _), servers(one, two) as both:
        assert both.find("last")[1] == "H:2:1"


def test_one_that_does_not_answer_is_no_reason_to_fail() -> None:
    """Where the whole handle is said: anything less may mean a job of that one."""
    with job_server({"find": found("H:1:7")}) as (one, _):
        dead = str(nobody())
        with servers(dead, one) as both:
            assert both.find("H:1:7")[1] == "H:1:7"
            assert list(both.failures) == [dead]
            with pytest.raises(Unavailable, match="'7' may be a job of a server that cannot be asked"):
                both.find("7")


def test_but_it_may_have_the_job_that_nobody_else_has() -> None:
    with (
        job_server({"find": found()}) as (one, _),
        servers(str(nobody()), one) as both,
        pytest.raises(Unavailable, match="no server at"),
    ):
        both.find("7")


def test_a_job_that_nobody_has() -> None:
    with job_server({"find": found()}) as (one, _), servers(one) as all_of_them:
        with pytest.raises(JobNotFound, match="no job '7'"):
            all_of_them.find("7")
        with pytest.raises(JobNotFound, match="there are no jobs"):
            all_of_them.find("last")


def test_nobody_answers() -> None:
    with JobServers([nobody(), nobody()]) as both, pytest.raises(Unavailable):
        both.ask_each("jobs")
