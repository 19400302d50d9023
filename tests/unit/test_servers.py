"""The failover list: which server is next. Time and chance are the test's."""

from __future__ import annotations

import itertools

import pytest

from farm.client.servers import ORDERED, RANDOM, RETRY_MAX_S, RETRY_MIN_S, ServerList
from farm.protocol.address import Address

A, B, C = (Address("127.0.0.1", port) for port in (1, 2, 3))


def least() -> float:
    """The chance that makes every rest the shortest, half of what it may be."""
    return 0.0


def most() -> float:
    """The chance that makes every rest the longest."""
    return 0.999999


def test_an_ordered_list_keeps_its_order() -> None:
    servers = ServerList([A, B, C])
    assert servers.candidates(0, most) == [A, B, C]
    assert list(servers) == [A, B, C]
    assert len(servers) == 3


def test_a_server_named_twice_is_one() -> None:
    assert ServerList([A, B, A]).candidates(0, least) == [A, B]


def test_a_random_list_spreads_the_load() -> None:
    servers = ServerList([A, B, C], RANDOM)
    chances = itertools.cycle([0.05, 0.35, 0.65, 0.95, 0.5])
    orders = {tuple(servers.candidates(0, lambda: next(chances))) for _ in range(50)}
    assert {order[0] for order in orders} == {A, B, C}
    assert all(sorted(order, key=str) == [A, B, C] for order in orders)


def test_every_order_is_equally_likely() -> None:
    servers = ServerList([A, B, C], RANDOM)
    grid = [(first / 6 + 0.01, second / 6 + 0.01) for first in range(6) for second in range(6)]
    counts: dict[tuple[Address, ...], int] = {}
    for pair in grid:
        draws = iter(pair)
        order = tuple(servers.candidates(0, lambda draws=draws: next(draws)))  # type: ignore[misc]
        counts[order] = counts.get(order, 0) + 1
    assert sorted(counts.values()) == [6] * 6


def test_a_failed_server_rests_and_then_has_its_place_again() -> None:
    servers = ServerList([A, B, C])
    servers.failed(A, 100, most)
    assert servers.candidates(100, most) == [B, C, A]
    assert servers.candidates(100 + RETRY_MIN_S * 0.99, most) == [B, C, A]
    assert servers.candidates(100 + RETRY_MIN_S, most) == [A, B, C]


def test_chance_halves_a_rest_at_most() -> None:
    servers = ServerList([A, B])
    servers.failed(A, 100, least)
    assert servers.candidates(100 + RETRY_MIN_S / 2, least)[0] == A
    assert servers.candidates(100 + RETRY_MIN_S / 2 - 0.01, least)[0] == B


def test_rests_grow_up_to_a_limit() -> None:
    servers = ServerList([A])
    rests = []
    for _ in range(2000):  # doubling for ever would overflow
        servers.failed(A, 0, most)
        rests.append(servers.next_try(0))
    assert rests == sorted(rests)
    assert rests[0] == pytest.approx(RETRY_MIN_S, rel=1e-3)
    assert rests[1] == pytest.approx(RETRY_MIN_S * 2, rel=1e-3)
    assert rests[-1] == pytest.approx(RETRY_MAX_S, rel=1e-3)
    assert max(rests) <= RETRY_MAX_S


def test_when_all_rest_all_are_tried_the_first_to_be_ready_first() -> None:
    servers = ServerList([A, B, C])
    servers.failed(A, 0, most)
    servers.failed(A, 0, most)
    servers.failed(B, 0, most)
    servers.failed(C, 0, least)
    assert servers.candidates(0, most) == [C, B, A]
    assert servers.next_try(0) == RETRY_MIN_S / 2
    assert servers.next_try(50) == 50


def test_a_server_that_works_again_has_no_past() -> None:
    servers = ServerList([A, B])
    for _ in range(10):
        servers.failed(A, 0, most)
    servers.worked(A)
    assert servers.candidates(0, most) == [A, B]
    servers.failed(A, 0, most)
    assert servers.next_try(0) == 0  # B has not failed
    assert servers.candidates(RETRY_MIN_S, most) == [A, B]


def test_an_ordered_client_goes_back_to_a_better_server() -> None:
    servers = ServerList([A, B, C], ORDERED)
    assert servers.better_than(A, 0) == []
    assert servers.better_than(C, 0) == [A, B]
    servers.failed(A, 0, most)
    assert servers.better_than(C, 0) == [B]
    assert servers.better_than(B, 0) == []
    assert servers.better_than(B, RETRY_MIN_S) == [A]


def test_a_random_client_stays_where_it_is() -> None:
    servers = ServerList([A, B, C], RANDOM)
    assert all(servers.better_than(address, 0) == [] for address in (A, B, C))


def test_what_one_list_found_another_knows() -> None:
    first, second = ServerList([A, B, C]), ServerList([B, A])
    assert first.failures() == {}
    first.failed(A, 100, most)
    first.failed(A, 100, most)
    first.failed(C, 100, most)
    second.recall(first.failures(), 100)
    assert second.candidates(100, most) == [B, A]
    assert second.failures() == {str(A): first.failures()[str(A)]}
    assert second.candidates(100 + RETRY_MIN_S * 2, most) == [B, A]
    second.failed(A, 110, most)  # the third time in a row: it rests four times as long as after the first
    assert second.candidates(110 + RETRY_MIN_S * 3.9, most) == [B, A]
    second.worked(A)
    assert second.failures() == {}


def test_what_cannot_have_been_a_rest_is_not_recalled() -> None:
    servers = ServerList([A, B])
    for told in ((1, 101 + RETRY_MAX_S), (0, 110.0), (-1, 110.0), (1, float("nan"))):
        servers.recall({str(A): told}, 100)
        assert servers.candidates(100, most) == [A, B]
        assert servers.failures() == {}
    servers.recall({str(A): (10**30, 110.0), "nobody": (1, 110.0)}, 100)
    assert servers.candidates(100, most) == [B, A]
    servers.failed(A, 110, most)
