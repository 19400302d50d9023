"""What cron entries should be: a few fields each, and the arithmetic of every minute and every fifth of UTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.contract.model import Job, Model, key_of

PAYLOAD = b"by the clock"
IN_TIME_S, DAY_S, LIVE_MAX = 60.0, 86_400.0, 100


@dataclass
class Entry:
    """every: seconds between its times. created, seen, after: by the wall clock; seen: when it was last decided
    about one, after: up to when it is about all. live: handles of its jobs, of which some may have ended."""

    every: int
    function: bytes
    unique: bytes
    overlap: str
    catch_up: str
    created: float
    after: float
    seen: float = 0.0
    paused: bool = False
    live: list[bytes] = field(default_factory=list)

    def next(self, wall_offset: float) -> float | None:
        """Its first time that is not decided about, as the server's clock has it."""
        if self.paused:
            return None
        return ((self.after + wall_offset) // self.every + 1) * self.every

    def says(self) -> tuple[object, ...]:
        """What somebody has asked for."""
        return self.every, self.function, self.unique, self.overlap, self.catch_up


class CronModel(Model):
    """crons, kept_crons: as they are, and as a crash leaves them. wall_offset: what all times here are short of."""

    def __init__(self, losses_max: int, wall_offset: float) -> None:
        self.wall_offset = wall_offset
        self.kept_crons: dict[str, Entry] = {}
        super().__init__(losses_max)

    def start(self) -> None:
        """See Model."""
        super().start()
        self.crons = _copy(self.kept_crons)

    def commit(self) -> None:
        """See Model."""
        super().commit()
        self.kept_crons = _copy(self.crons)

    def crash(self, now: float) -> None:
        """See Model."""
        super().crash(now)
        for job in self.jobs.values():
            self._lives_again(job)

    def run_again(self, job: Job, before: int) -> None:
        """See Model. Those of its entry that wait for their turn wait for it too."""
        super().run_again(job, before)
        again = self.jobs[job.handle]
        entry = self._lives_again(again)
        for other in [other for other in self.jobs.values() if entry and other.handle in entry.live]:
            if other.after and other is not again and other.cron == again.cron:
                other.after[again.handle] = b"any"
                self.write_down(other)

    def _lives_again(self, job: Job) -> Entry | None:
        entry = self.crons.get(job.cron)
        if entry is not None and job.handle not in entry.live:
            entry.live.append(job.handle)
        return entry

    # -- what is asked

    def add_entry(self, name: str, new: Entry, replaces: bool) -> bool:
        """Returns whether it is taken."""
        earlier = self.crons.get(name)
        if earlier is not None and earlier.says() == new.says():
            return True
        if earlier is not None and not replaces:
            return False
        self.functions.setdefault(new.function, (0, 0, 0))
        if earlier is None:  # or there was one, and its jobs go on
            new.live = [job.handle for job in self.jobs.values() if job.cron == name]
        else:
            new.created, new.seen, new.paused, new.live = earlier.created, earlier.seen, earlier.paused, earlier.live
            new.after = max(self.wall, new.seen)
        self.crons[name] = new
        return True

    def pause_entry(self, entry: Entry, paused: bool) -> None:
        """Times until it is resumed are not missed."""
        if entry.paused != paused:
            entry.paused = paused
            entry.after = max(self.wall, entry.seen)

    def run_entry(self, name: str, handle: bytes) -> bytes | None:
        """A job now, under this handle if it is a new one. Returns its handle, None: there is none."""
        entry = self.crons[name]
        self._forget_ended(entry)
        return None if len(entry.live) >= LIVE_MAX else self._submit(name, [], iter([handle]))

    # -- what is due

    def entries_come(self, order: list[str], handles: Iterator[bytes]) -> None:
        """The clock was looked at. order: of entries, handles: of new jobs; both are the server's choice."""
        for name in order:
            entry = self.crons[name]
            if max(entry.created, entry.seen) > self.wall + DAY_S:  # that clock was wrong
                entry.created, entry.seen = min(entry.created, self.wall), min(entry.seen, self.wall)
                entry.after = self.wall
            times = self._times(entry)
            if times:
                self._fire(name, times, handles)

    def _times(self, entry: Entry) -> list[float]:
        """Those that have come."""
        time = entry.next(self.wall_offset)
        wall = self.wall + self.wall_offset
        return [] if time is None else [time + n * entry.every for n in range(int((wall - time) // entry.every) + 1)]

    def _fire(self, name: str, times: list[float], handles: Iterator[bytes]) -> None:
        entry = self.crons[name]
        wall = self.wall + self.wall_offset
        wanted = [time for time in times[-1:] if entry.catch_up == "last" or wall - time <= IN_TIME_S]
        wanted = times[-LIVE_MAX:] if entry.catch_up == "all" else wanted
        self._forget_ended(entry)
        if entry.overlap == "skip" and entry.live:
            wanted = []
        if entry.overlap == "replace":
            for handle in list(entry.live) if wanted else ():
                if self.lives(handle):
                    self.cancel(self.jobs[handle])
            wanted = wanted[-1:]
        room = LIVE_MAX - len(entry.live) if entry.overlap != "replace" else 1
        for _ in wanted[: max(0, room)]:
            stopped = [handle for handle in entry.live if handle in self.stops]
            last = self._last(entry) if entry.overlap != "replace" else []
            self._submit(name, list(dict.fromkeys([*stopped, *last])), handles)
        entry.seen = entry.after = self.wall

    def _last(self, entry: Entry) -> list[bytes]:
        """Its live jobs that none of its others waits for."""
        live = [handle for handle in entry.live if self.lives(handle)]
        return [handle for handle in live if not any(handle in self.jobs[other].after for other in live)]

    def _submit(self, name: str, before: list[bytes], handles: Iterator[bytes]) -> bytes | None:
        """before: the jobs that it waits for."""
        entry = self.crons[name]
        key = key_of(entry.function, entry.unique, PAYLOAD)
        joined = self.joinable.get(key) if key else None
        limit = self.functions.get(entry.function, (0, 0, 0))[1]
        self.functions.setdefault(entry.function, (0, 0, 0))
        if joined is None:
            if self.holder_of(key) or 0 < limit <= self.count(entry.function):
                return None
            joined = Job(next(handles), entry.function, entry.unique, PAYLOAD, 1, True, 0.0)
            assert joined.handle not in self.handles, "a handle was used before"
            joined.after = dict.fromkeys(before, b"any")
            joined.asked_after = dict(joined.after)
            joined.cron = name
            self.add(joined, self.now)
            self.save(joined)
        elif not joined.background:
            self.save(joined)
        if joined.handle not in entry.live:
            entry.live.append(joined.handle)
        return joined.handle

    def _forget_ended(self, entry: Entry) -> None:
        entry.live = [handle for handle in entry.live if self._goes_on(handle)]

    def _goes_on(self, handle: bytes) -> bool:
        """Whether it has not ended, or has, and its command is being stopped."""
        return self.lives(handle) or handle in self.stops

    def lives(self, handle: bytes) -> bool:
        """Whether it is a job that has not ended, but for its worker."""
        job = self.jobs.get(handle)
        return job is not None and not job.cancelled


def _copy(entries: dict[str, Entry]) -> dict[str, Entry]:
    return {name: replace(entry, live=list(entry.live)) for name, entry in entries.items()}
