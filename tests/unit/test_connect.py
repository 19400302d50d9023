"""Which servers the command line's client tries, in which order and for how long."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from farm.client import connection
from farm.client.connection import CONNECT_TIMEOUT_S, NEXT_TIMEOUT_S, Silent, connect, open_connection
from farm.client.servers import ServerList
from farm.errors import Unavailable
from farm.net import Target
from farm.protocol.address import Address

A, B, C = (Address("127.0.0.1", port) for port in (1, 2, 3))


class Net:
    """Servers that are up, down, or silent until somebody has so much patience."""

    def __init__(self) -> None:
        self.tried: list[tuple[int, float]] = []
        self.answers_after: dict[int, float] = {}  # by port; who is not in it refuses
        self.sockets: list[socket.socket] = []

    def open_socket(self, target: Target, timeout_s: float) -> socket.socket:
        """In the place of the real one."""
        port = target[1][1]
        assert isinstance(port, int)
        self.tried.append((port, timeout_s))
        if port not in self.answers_after:
            raise ConnectionRefusedError(111, "Connection refused")
        if self.answers_after[port] > timeout_s:
            raise TimeoutError("timed out")
        self.sockets.append(socket.socket())
        return self.sockets[-1]


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    """Nobody answers yet."""
    net = Net()
    replaced: Callable[..., socket.socket] = net.open_socket
    monkeypatch.setattr(connection, "open_socket", replaced)
    yield net
    for sock in net.sockets:
        sock.close()


def test_a_lone_server_gets_all_the_time(net: Net) -> None:
    net.answers_after[1] = CONNECT_TIMEOUT_S
    assert connect(ServerList([A]), False).address == A
    assert net.tried == [(1, CONNECT_TIMEOUT_S)]


def test_a_silent_one_gets_little_while_there_is_another(net: Net) -> None:
    net.answers_after = {1: 99, 3: 0}
    servers = ServerList([A, B, C])
    assert connect(servers, False).address == C
    assert net.tried == [(1, NEXT_TIMEOUT_S), (2, NEXT_TIMEOUT_S), (3, CONNECT_TIMEOUT_S)]
    net.tried.clear()
    assert connect(servers, False).address == C
    assert net.tried == [(3, NEXT_TIMEOUT_S)]  # the others rest


def test_a_slow_one_is_found_when_all_others_are_down(net: Net) -> None:
    net.answers_after = {1: CONNECT_TIMEOUT_S}
    servers = ServerList([A, B, C])
    assert connect(servers, False).address == A
    assert [port for port, _ in net.tried] == [1, 2, 3, 1]
    assert set(servers.failures()) == {str(B), str(C)}


def test_when_all_rest_all_are_tried_at_once(net: Net) -> None:
    servers = ServerList([A, B])
    for _ in range(20):
        with pytest.raises(Unavailable):
            connect(servers, False)
    net.answers_after = {2: 0}
    assert connect(servers, False).address == B


def test_what_all_failed_with_is_said_once_each(net: Net) -> None:
    net.answers_after = {1: 99}
    with pytest.raises(Unavailable) as failed:
        connect(ServerList([A, B]), False)
    assert failed.value.message == (
        "no server answers: no server at 127.0.0.1:1: timed out; no server at 127.0.0.1:2: connection refused"
    )
    with pytest.raises(Silent, match=r"^no server at 127.0.0.1:1: timed out$"):
        open_connection(A, False)
