"""The failover list: which server to try next, and which to leave alone for a while because it just failed.

Pure: the time and chance are arguments. It must not know what a connection is. On the start-up path of `farm submit`,
hence no imports but the address.
"""

from __future__ import annotations

from farm.protocol.address import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ORDERED, RANDOM = "ordered", "random"
ORDERS = (ORDERED, RANDOM)

RETRY_MIN_S = 0.5  # a server that was restarted is back within this
RETRY_MAX_S = 30.0  # how late a server that is back may be noticed while others do its work


class _Server:
    __slots__ = ("address", "failures", "rests_until")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.failures = 0  # since it worked last
        self.rests_until = 0.0


class ServerList:
    """Servers in the order in which they are to be tried. Times are monotonic seconds.

    order: ORDERED, the first one that works (main server and spares), or RANDOM, any that works (the load is spread).
    A server that failed rests, longer with each failure in a row; it is tried meanwhile only when all others fail too.
    chance: a function that returns a number from 0 up to but excluding 1.
    """

    def __init__(self, addresses: Iterable[Address], order: str = ORDERED) -> None:
        assert order in ORDERS
        self.order = order
        self._servers = {address: _Server(address) for address in addresses}
        assert self._servers

    def __len__(self) -> int:
        return len(self._servers)

    def __iter__(self) -> Iterator[Address]:
        return iter(self._servers)

    def candidates(self, now: float, chance: Callable[[], float]) -> list[Address]:
        """Every server once: those that do not rest, then those that do, the one that has rested most first."""
        awake = [server for server in self._servers.values() if server.rests_until <= now]
        resting = [server for server in self._servers.values() if server.rests_until > now]
        if self.order == RANDOM:
            _shuffle(awake, chance)
        resting.sort(key=lambda server: server.rests_until)
        return [server.address for server in awake + resting]

    def better_than(self, current: Address, now: float) -> list[Address]:
        """The servers to go back to from `current`: those before it in an ordered list that do not rest any more."""
        better: list[Address] = []
        if self.order == ORDERED:
            for server in self._servers.values():
                if server.address == current:
                    break
                if server.rests_until <= now:
                    better.append(server.address)
        return better

    def failed(self, address: Address, now: float, chance: Callable[[], float]) -> None:
        """It did not answer, or went away: let it rest. Half of the time is chance, so that many clients of a server
        that is back do not all come at once."""
        server = self._servers[address]
        server.failures += 1
        # Doubling beyond the limit would overflow a float after a thousand failures.
        delay_s = RETRY_MAX_S if server.failures > 16 else min(RETRY_MIN_S * 2 ** (server.failures - 1), RETRY_MAX_S)
        server.rests_until = now + delay_s * (0.5 + chance() / 2)

    def worked(self, address: Address) -> None:
        """It answered: its failures are forgotten."""
        server = self._servers[address]
        server.failures = 0
        server.rests_until = 0.0

    def failures(self) -> dict[str, tuple[int, float]]:
        """What another list of the same servers has to know: for each that failed, by its address, how often in a row
        and until when it rests."""
        return {
            str(server.address): (server.failures, server.rests_until)
            for server in self._servers.values()
            if server.failures
        }

    def recall(self, failures: dict[str, tuple[int, float]], now: float) -> None:
        """Take over what another list knew. No rest lasts longer than it could have begun now."""
        for server in self._servers.values():
            times, rests_until = failures.get(str(server.address), (0, 0.0))
            if times > 0 and rests_until <= now + RETRY_MAX_S:
                server.failures = times
                server.rests_until = rests_until

    def next_try(self, now: float) -> float:
        """When to try again after all have failed: the time at which the first of them stops resting."""
        return max(now, min(server.rests_until for server in self._servers.values()))


def _shuffle(servers: list[_Server], chance: Callable[[], float]) -> None:
    for last in range(len(servers) - 1, 0, -1):
        other = int(chance() * (last + 1))
        servers[last], servers[other] = servers[other], servers[last]
