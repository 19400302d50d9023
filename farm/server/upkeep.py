"""What is kept of jobs, and the room for it: old results go, and new jobs are refused while the disk is nearly full."""

from __future__ import annotations

import math
import time
from logging import getLogger
from typing import TYPE_CHECKING

from farm.broker import waiting
from farm.broker.broker import WRITTEN_TIMES
from farm.broker.effects import Expire
from farm.server.logs import NOTICE

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.loop import Loop, Timer
    from farm.server.config import ServerConfig
    from farm.server.journal import Journal
    from farm.store.contract import Store

log = getLogger("farm.server")

# How often the room on the store's disk is looked at, while packets come in or jobs are refused for want of it.
DISK_CHECK_S = 1.0
EXPIRE_EVERY = 1000  # ended jobs, fewer than the store drops at once
EXPIRE_PART = 16  # a sixteenth more than may be kept is the most that is, but for what comes within one turn
EXPIRE_SIZE_MIN = 1024 * 1024  # what a few small results take is not worth a look
EXPIRE_EVERY_S = 60.0
EXPIRE_AGAIN_S = 1.0  # for there may be more than the store drops at once


class Upkeep:
    """The rules about it, of one server. look_at: when it is time to look at the disk, while packets come in."""

    def __init__(self, config: ServerConfig, loop: Loop, broker: Broker, store: Store, journal: Journal) -> None:
        self._config = config
        self._loop = loop
        self._broker = broker
        self._store = store
        self._journal = journal
        self.look_at = 0.0  # it is time to look at the disk
        self._look_at_room = 0.0  # when the broker has given out so much of it that no more than this is left
        self._timer: Timer | None = None
        self._make_room_at = 0.0
        self._given_way = 0  # the batch in which old results are dropped for want of room; 0: that is done
        self._say_given_way_at = 0.0
        self._look_at_keys_at = 0.0
        self._expired = self._expired_size = 0  # the broker's `kept` and `kept_size` when old results were last dropped
        self._expiring = False  # they were dropped a moment ago, and that may not have been all
        loop.call_in(0.0 if store.keeps() else EXPIRE_EVERY_S, self._look_at_results)
        self.look()  # the server before may have died of a full one

    def written(self) -> None:
        """The journal was given a turn's changes."""
        if self._store.pressed or self._broker.room < self._look_at_room:
            self.look()

    def committed(self) -> None:
        """The journal has caught up with some of them."""
        if 0 < self._given_way <= self._journal.durable:
            self._given_way = 0
            self._gave_way()
        elif self._store.pressed:
            self.look()

    def look(self) -> None:
        """Take no new background jobs while the disk is nearly full."""
        self.look_at = self._loop.now + DISK_CHECK_S
        why = self._store.low()
        if bool(why) != bool(self._broker.no_room):
            log.log(NOTICE, "taking background jobs again") if not why else log.error("no new background jobs: %s", why)
        self._broker.no_room = why
        if why or self._store.shortage:
            self._give_way()
        room = self._store.room
        if room < math.inf:
            room -= WRITTEN_TIMES * self._journal.size_to_come(self._broker.effects.changes)
        self._broker.room = max(0, room)
        self._look_at_room = self._broker.room / 2 if room < math.inf else 0.0
        if self._timer:
            self._timer.cancel()
        again = bool(why) or self._store.shortage > 0
        self._timer = self._loop.call_in(DISK_CHECK_S, self.look) if again else None

    def _give_way(self) -> None:
        """There is no room for new jobs, or hardly any: old results go. One by one, for how much has become free shows
        only when they have; and an Expire of nothing lets the store give back what it has no use for."""
        is_news = self._store.gave_way or self._broker.kept > self._expired
        if self._given_way or (self._loop.now < self._make_room_at and not is_news):
            return
        self._make_room_at = self._loop.now + DISK_CHECK_S
        self._given_way = self._journal.written + 1
        self.expire(self._store.shortage)

    def _gave_way(self) -> None:
        """Old results are gone, or there were none: is that enough? One line is said, and not one for each of many
        times."""
        if self._store.gave_way:
            if self._loop.now >= self._say_given_way_at:
                log.error("hardly any room on the disk: the oldest results go before their time, for new jobs")
            self._say_given_way_at = self._loop.now + EXPIRE_EVERY_S
        self.look()
        self._store.gave_way = False

    def expire(self, room: int = 0) -> None:
        """Drop the oldest of what is kept of jobs that have ended. room: bytes of it that new jobs need."""
        self._expired, self._expired_size = self._broker.kept, self._broker.kept_size
        now = time.time()
        if self._loop.now >= self._look_at_keys_at:
            self._look_at_keys_at = self._loop.now + EXPIRE_EVERY_S
            waiting.drop_old_keys(self._broker, now)
        self._broker.effects.changes.append(
            Expire(now - self._config.keep_results_s, self._config.keep_results_size, now, room)
        )

    @property
    def has_too_much(self) -> bool:
        """Whether enough has been kept since they were last dropped to exceed what may be kept by a good part."""
        if self._broker.kept - self._expired >= EXPIRE_EVERY:
            return True
        size = self._broker.kept_size - self._expired_size
        return size >= max(self._config.keep_results_size // EXPIRE_PART, EXPIRE_SIZE_MIN)

    def _look_at_results(self) -> None:
        """Again and again: what an earlier life of this server has kept grows old too, and nobody need come for it."""
        self._expiring = self._store.keeps() and (self._store.overdue or not self._expiring)
        if self._expiring:
            self.expire()
        self._loop.call_in(EXPIRE_AGAIN_S if self._expiring else EXPIRE_EVERY_S, self._look_at_results)
