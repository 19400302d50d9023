"""The wall clock of a world with cron. Minutes and days have to pass in a story of seconds, so it is set all the time:
to just before a time of some entry or a while behind it, over the night on which clocks are set, and back.

It is set by quarters of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.calendar import Night

if TYPE_CHECKING:
    from tests.sim.world import World

EARLIEST_S, LATEST_S = -1.8 * 86_400, 1.5 * 86_400  # from the change of the night
WRONG_S = 86_400.0 + 120  # so far is no clock set back on purpose


class Clock:
    """Of one world, around one night."""

    def __init__(self, world: World, night: Night) -> None:
        self._world = world
        self._rng = world.rng
        self._night = night
        self._latest = 0.0  # distance from the monotonic clock
        self.set(night.change - self._rng.uniform(0, 5400))

    @property
    def wall(self) -> float:
        """What it shows."""
        return self._world.now + self._world.wall_offset

    def set(self, wall: float) -> None:
        """From now on it shows this, or what is next to it by less than a quarter of a second."""
        world = self._world
        world.wall_offset = round((wall - world.now) * 4) / 4
        self._latest = max(self._latest, world.wall_offset)

    def act(self) -> None:
        """Set it, and later again, until the world is quiet."""
        if self._world.quiet:
            return
        self._world.later(self._rng.uniform(0.1, 0.7), self.act)
        wall = self._some_time()
        distance = wall - self._night.change
        if distance > LATEST_S:
            wall = self._night.change - self._rng.uniform(0, 5400)
        if distance > EARLIEST_S:
            self.set(wall)

    def _some_time(self) -> float:
        rng, night = self._rng, self._night
        whim = rng.random()
        if whim < 0.55:
            return self._next_time() + rng.choice((-0.5, -0.5, 0.25, 10, 59.5, 60.5, 90, 300))
        if whim < 0.67:
            return self.wall + 60 * rng.choice((1, 3, 7, 20, 45, 90))
        if whim < 0.82:
            return night.change + rng.choice((-0.5, 0.25, 20, 900, 1799.5, 1810, 3600.25, 5400))
        if whim < 0.94:
            return self.wall - 60 * rng.choice((1, 2, 10, 45, 61, 90))
        if whim < 0.97:
            return self.wall + 3600 * rng.choice((3, 11, 24))
        return self.wall - WRONG_S - rng.choice((0, 3600))

    def _next_time(self) -> float:
        """Of some entry, of one that comes soon if there is."""
        book = self._world.ledger.book
        times = sorted(time for entry in book.crons.values() if (time := entry.next(book)) is not None)
        soon = [time for time in times if time < self.wall + 6 * 3600]
        return self._rng.choice(soon or times[:1] or [self.wall])

    def catch_up(self) -> None:
        """As late as it ever was: whatever waits for a time waits for seconds now."""
        self._world.wall_offset = self._latest
