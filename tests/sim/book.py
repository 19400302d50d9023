"""The ledger's state and the few changes that several rules share: a job ends, a watcher leaves, a worker is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from farm.broker.broker import DEFAULT, Rules
from farm.protocol import packets
from tests.sim import course
from tests.sim.calendar import NIGHTS
from tests.sim.entry import Entry
from tests.sim.kept import Kept, Row
from tests.sim.model import HIGH, LOW, SOMETIMES, Item, Key, Out, Party, PutOff, Stopped, Terms, Wrong
from tests.sim.terms import OF_A_WORKER

STOP_MAX_S = 15.0  # so long a worker has for ending a command that it was told to end
COUNTED_AFTER_S = 1.0  # an attempt that has lasted so long must be written down as begun


class Book:
    """All that should be true of one server, told only by what went in and what came out.

    handles: every handle that was ever given out, over all lives. kept: what the journal must hold. no_room: no new
    background job can be taken. seen: how often each interesting thing happened. now, wall: the two clocks. settings,
    paused: of functions. keys: those that count although their job may have ended: until when, and as whose. settling:
    the ends whose consequences are being drawn. promised: what was just decided that must wait until it is durable.
    stops: commands that are being stopped, by their jobs' handles, in order of time.
    lined_up: jobs that have just come to stand in line. counted: jobs whose end their worker told, and for good;
    again: those that somebody has run once more since. crons: entries by name. night: around which all takes place.
    """

    def __init__(self, rules: Rules = DEFAULT) -> None:
        self.rules = rules
        self.now = self.wall = self.wall_offset = 0.0
        self.seen: Counter[str] = Counter()
        self.handles: dict[bytes, Item] = {}
        self.kept = Kept()
        self.stopping = False
        self.counted: dict[bytes, None] = {}
        self.again: dict[bytes, None] = {}
        self.night = NIGHTS[0]
        self.forget()

    def forget(self) -> None:
        """What a crash takes: everything but the journal."""
        self.parties: dict[int, Party] = {}
        self.jobs: dict[bytes, Item] = {}
        self.queues: dict[tuple[bytes, int], list[Item]] = {}
        self.joinable: dict[Key, Item] = {}
        self.functions: dict[bytes, None] = {}
        self.settings: dict[bytes, Terms] = {}
        self.paused: dict[bytes, None] = {}
        self.keys: dict[tuple[bytes, bytes], tuple[float, bytes]] = {}
        self.settling: list[tuple[bytes, str]] = []
        self.promised: list[Out] = []
        self.lined_up: list[Item] = []
        self.crons: dict[str, Entry] = {}
        self.limits: dict[bytes, tuple[int, ...]] = {}
        self.stops: dict[bytes, Stopped] = {}
        self.kept.crash()
        self.stopping = self.no_room = False

    def saw(self, what: str) -> None:
        """Count an interesting thing."""
        assert what in SOMETIMES, what
        self.seen[what] += 1

    # -- queues

    def queue(self, item: Item) -> list[Item]:
        """The line that the job stands in."""
        return self.queues.setdefault((item.function, item.priority), [])

    def waiting(self) -> Iterator[Item]:
        """Every queued job."""
        for queue in self.queues.values():
            yield from queue

    def best_priority(self, party: Party) -> int | None:
        """The highest priority of any job that this worker could be given now."""
        for priority in range(HIGH, LOW + 1):
            if any(self.has_work(function, priority) for function in party.abilities):
                return priority
        return None

    def has_work(self, function: bytes, priority: int) -> bool:
        """Whether a worker that can do this could be given such a job now."""
        return function not in self.paused and bool(self.queues.get((function, priority)))

    # -- what holds, and what is known

    def terms_for(self, item: Item) -> Terms:
        """Its own terms, else its function's, else those of the worker that runs it."""
        of_worker: Terms = {}
        if item.holder is not None:
            said = self.parties[item.holder].terms.get(item.function, {})
            of_worker = {name: value for name, value in said.items() if name in OF_A_WORKER}
        return {**of_worker, **self.settings.get(item.function, {}), **item.terms}

    def live(self, handle: bytes) -> Item | None:
        """The job, unless it has ended for everybody but its worker."""
        item = self.jobs.get(handle)
        return None if item is None or item.over else item

    def past(self, handle: bytes) -> Row | None:
        """How a job ended, where that is known. Raises PutOff."""
        if self.kept.is_open(handle):
            raise PutOff
        return self.kept.ended.get(handle)

    def held_by(self, function: bytes, unique: bytes) -> bytes:
        """As whose handle this key counts although its job may have ended; empty: as none."""
        until, handle = self.keys.get((function, unique), (0.0, b""))
        return handle if until > self.wall else b""

    def promise(self, id: int, number: int, body: bytes) -> Out:
        """This must not be sent before all that was decided is durable."""
        self.promised.append((id, number, body))
        return id, number, body

    # -- changes

    def add(self, item: Item) -> None:
        """A new job, last in its line."""
        if item.handle in self.handles:
            raise Wrong(f"{item.handle!r} was given to another job before")
        self.handles[item.handle] = item
        self.jobs[item.handle] = item
        self.functions[item.function] = None
        if item.unique not in (b"", b"-") and any(
            item.unique == other.unique and item.function != other.function for other in self.joinable.values()
        ):
            self.saw("same key in two functions")
        if item.key is not None:
            self.joinable[item.key] = item
        item.queued_at = self.now
        if item.background:
            self.kept.save(item, self.wall_offset)
        self.line_up(item)

    def line_up(self, item: Item) -> None:
        """Last in its line, or aside until its time has come or others have ended."""
        item.delayed = not item.after and item.due > self.wall
        if item.queued:
            self.stand(item)
        course.limit(self, item)

    def stand(self, item: Item, first: bool = False) -> None:
        """It stands in its line, last or first."""
        self.queue(item).insert(0 if first else len(self.queue(item)), item)
        self.lined_up.append(item)

    def watch(self, item: Item, party: Party) -> None:
        """`party` waits for the job from now on."""
        if item.handle not in party.watches:
            party.watches[item.handle] = item
            item.watchers.append(party.id)

    def unwatch(self, item: Item, party: Party) -> tuple[bytes, list[Out]]:
        """`party` waits no more. Returns the outcome as FARM_CANCEL_RES words it, and what must be sent."""
        del party.watches[item.handle]
        item.watchers.remove(party.id)
        if item.background or item.watchers:
            self.saw("left a job that others want")
            return b"shared", []
        if item.holder is None:
            self.saw("left a job that waits for others" if item.after else "left a queued job")
            self._drop(item)
            return b"dropped", course.conclude(self, item, "cancelled", item.reason)
        told = self._abandon(item)
        if told:
            self.saw("left a running job, worker told")
            return b"told", told
        self.saw("left a running job, worker cannot be told")
        return b"unheard", []

    def _drop(self, item: Item) -> None:
        self.close_to_joiners(item)
        if item.queued:
            self.queue(item).remove(item)
        del self.jobs[item.handle]

    def _abandon(self, item: Item) -> list[Out]:
        self.close_to_joiners(item)
        item.abandoned = True
        return self._tell_holder(item)

    def _tell_holder(self, item: Item) -> list[Out]:
        assert item.holder is not None
        holder = self.parties.get(item.holder)
        if holder is None or not holder.extension:
            return []
        kept = item.background and self.rules.result_max > 0
        self.stops[item.handle] = Stopped(item, self.now + STOP_MAX_S, kept)
        return [(holder.id, packets.FARM_JOB_CANCEL, item.handle)]

    def cancel(self, item: Item, reason: bytes) -> list[Out]:
        """Somebody ends the job, or something does. Returns what must be sent."""
        item.reason = reason
        if item.abandoned:
            self.saw("abandoned job cancelled")
            return []
        words = b"farm: the job was cancelled" + (b": " + reason if reason else b"") + b"\n"
        failed = self.fail(item, words, 130)
        if item.background:
            self.keep_end(item, "cancelled", reason)
            self.saw("background job cancelled")
        self.saw(f"{item.state} job cancelled")
        if item.holder is None:
            self._drop(item)
            return failed + course.conclude(self, item, "cancelled", reason)
        told = self._abandon(item)
        item.background = False
        return failed + told + course.conclude(self, item, "cancelled", reason)

    def stopped(self, handle: bytes, party: int) -> list[Out]:
        """This worker has ended the command that it may have been told to end. Returns what must be sent."""
        stop = self.stops.get(handle)
        if stop is None or stop.worker != party:
            return []
        self.saw("stop reported")
        return self.stop_over(handle)

    def stop_over(self, handle: bytes) -> list[Out]:
        """What waited for a command to be gone goes on. Returns what must be sent."""
        stop = self.stops.pop(handle)
        item = self.jobs.get(handle)
        if item is not None and item.delayed:
            item.since = item.held_until = self.wall
            return []
        return course.settle(self, handle, stop.outcome)

    def wait_for_key(self, item: Item) -> None:
        """A new job waits for the command of an earlier one of its key that is being stopped."""
        for handle, stop in self.stops.items():
            if item.key is not None and stop.key == item.key:
                self.saw("waits for a command that had its key")
                item.after[handle] = b"any"

    def waited_too_long(self, item: Item) -> list[Out]:
        """It has expired. Returns what must be sent."""
        self.saw(f"{item.state} job expired")
        self._drop(item)
        self.keep_end(item, "expired", b"waited too long")
        failed = self.fail(item, b"farm: the job has waited too long and has expired\n", 124)
        return failed + course.conclude(self, item, "expired", b"waited too long")

    def fail(self, item: Item, text: bytes, code: int) -> list[Out]:
        """Who waits hears that it failed, and with the extension why, and an exit code."""
        failed: list[Out] = []
        for watcher in item.watchers:
            if self.parties[watcher].extension:
                trailer = b"farm: exit %d farm\n" % code
                failed += [(watcher, packets.WORK_WARNING, item.handle + b"\0" + said) for said in (text, trailer)]
            failed.append((watcher, packets.WORK_FAIL, item.handle))
            del self.parties[watcher].watches[item.handle]
        item.watchers.clear()
        return failed

    def time_out(self, item: Item) -> list[Out]:
        """The time of the job's worker is up, or the job's own. Returns what must be sent."""
        assert item.holder is not None
        self.saw("abandoned job timed out" if item.abandoned else "timed out")
        told = [] if item.abandoned else self._tell_holder(item)
        if told:
            self.saw("timed out, worker told")
        party = self.parties[item.holder]
        if item.abandoned and party.extension:
            self.saw("abandoned job timed out, worker told before")
        party.expired[item.handle] = party.expired.get(item.handle, 0) + 1
        if item.abandoned or not item.limit or self.now < item.started + item.limit:
            del party.holds[item.handle]
            return told + self.lose(item)
        self.saw("run took longer than its terms allow")
        again = course.try_again(self, item, "timeout", 124)
        if again is not None:
            self.saw("timeout tried again")
            return told + again
        told += self.fail(item, b"farm: the job took longer than %gs\n" % item.limit, 124)
        return told + self.end(item, party, "failed")

    def lose(self, item: Item) -> list[Out]:
        """The job's worker has gone. Returns what must be sent."""
        last = not item.abandoned and 0 < self.rules.losses_max <= item.losses + 1
        if item.background and not last:
            self.kept.tried(item, "lost", b"worker lost", self.rules.result_max, self.now, self.wall_offset)
        item.holder = None
        item.expires = 0.0
        item.losses += 1
        if last:
            self.saw("job failed for its lost workers")
            return self._poison(item)
        if item.abandoned:
            del self.jobs[item.handle]
            self.saw("abandoned job's worker lost")
            return course.conclude(self, item, "cancelled", item.reason)
        if item.handle in self.stops:
            item.due, item.delayed = self.wall, True
        else:
            item.since = self.wall
            self.stand(item, first=True)
            course.limit(self, item)
        if item.background:
            self.kept.course(item, self.wall_offset)
        self.saw("requeued")
        if item.failures:
            self.saw("requeued after a failure")
        return self.restart_output(item)

    def _poison(self, item: Item) -> list[Out]:
        self.close_to_joiners(item)
        del self.jobs[item.handle]
        self.keep_end(item, "failed", b"poison")
        told = self.fail(item, b"farm: the job has taken %d workers along\n" % item.losses, 125)
        return told + course.conclude(self, item, "failed", b"poison")

    def restart_output(self, item: Item) -> list[Out]:
        """What the attempt has said that has ended does not count. Returns what must be sent."""
        item.progress = (b"0", b"0")
        item.said.clear()
        item.missed = False
        if not item.streamed:
            return []
        item.streamed = False
        told = [watcher for watcher in item.watchers if self.parties[watcher].extension]
        if told:
            self.saw("client told of a restart")
        return [(watcher, packets.FARM_JOB_RESTARTED, item.handle) for watcher in told]

    def end(self, item: Item, party: Party, outcome: str) -> list[Out]:
        """The worker reported the job's end, or its time was up. Returns what must be sent besides."""
        told = self.stopped(item.handle, party.id) if item.abandoned else []
        del party.holds[item.handle]
        del self.jobs[item.handle]
        self.close_to_joiners(item)
        for watcher in item.watchers:
            del self.parties[watcher].watches[item.handle]
        item.watchers.clear()
        if item.abandoned:
            self.saw("abandoned job ended")
            outcome = "cancelled"
        item.holder = item.holder if outcome == "done" else None  # the attempt that has just ended counts once
        if item.background:
            self.saw("dead" if outcome == "failed" else "done")
        self.keep_end(item, outcome, item.reason)
        return told + course.conclude(self, item, outcome, item.reason)

    def keep_end(self, item: Item, outcome: str, reason: bytes) -> None:
        """The journal need not run it again."""
        if item.background:
            keep = float(self.terms_for(item).get(b"keep", b"-1"))
            self.kept.end(item, outcome, reason, keep, self.rules.result_max, self.now, self.wall_offset)
        elif outcome != "cancelled":
            if item.key_until:
                self.saw("key that outlives a foreground job")
            self.hold_key(item)

    def hold_key(self, item: Item) -> None:
        """Its key counts for a while, if its submission said so, whatever becomes of it from now on."""
        if item.key_until:
            self.keys[item.function, item.unique] = item.key_until, item.handle
            self.kept.key(item.function, item.unique, item.handle, item.key_until)
            self.saw("key that outlives its job")
            item.key_until = 0.0

    def restored(self, handle: bytes) -> Item:
        """A stored job as it is after a restart: what ran then, and was written down, is lost."""
        item = course.from_row(handle, self.kept.durable[handle], self.wall_offset)
        if handle in self.kept.courses:
            # Its time has come before, whatever the clock says now.
            course.resume(self, item, self.kept.courses[handle])
            running = item.doomed
            self.saw("attempt counted as lost after a restart" if running else "attempts remembered after a restart")
        self.handles[handle] = item
        self.counted.pop(handle, None)  # the end that its worker told was lost with the server
        return item

    def is_poison(self, item: Item) -> bool:
        """Whether it has taken one worker too many along: the server itself."""
        return item.doomed and 0 < self.rules.losses_max <= item.losses

    def poisoned_at_start(self, item: Item) -> None:
        """It is dead at once."""
        self.saw("job failed for its lost workers, the server being the last")
        self._poison(item)

    def saw_restored(self, item: Item) -> None:
        """What it waits for after a restart."""
        if item.delayed:
            self.saw("pause remembered after a restart" if item.failures else "delayed job restored after a restart")
        if item.after:
            self.saw("dependent restored after a restart")

    def hand_back(self) -> None:
        """The server leaves in good order: what runs is not lost."""
        for item in self.jobs.values():
            if item.holder is not None and item.background and item.noted and not item.abandoned:
                holder, item.holder = item.holder, None
                item.before += 1
                self.kept.course(item, self.wall_offset)
                item.before -= 1
                item.holder = holder
                self.saw("running job handed back")

    def note_if_long(self, item: Item) -> None:
        """It is written down of an attempt that has lasted for so long that it has begun."""
        runs = item.holder is not None and not item.abandoned and item.background
        if runs and not item.noted and item.started + COUNTED_AFTER_S <= self.now:
            item.noted = True
            self.kept.course(item, self.wall_offset)

    def close_to_joiners(self, item: Item) -> None:
        """Nobody may join it any more."""
        key = item.key
        if key is not None and self.joinable.get(key) is item:
            del self.joinable[key]
