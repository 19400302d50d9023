"""The rules a second time (see `rules`), of submissions: with terms and without."""

from __future__ import annotations

from farm.protocol import packets
from tests.sim import course, terms
from tests.sim.book import COUNTED_AFTER_S, Book
from tests.sim.kept import report
from tests.sim.model import SUBMITS, Item, Out, Party, Wrong, acceptable, error, key_of, shown_state
from tests.sim.terms import Wish, read_after


def submit(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    """Gearman's own submissions."""
    reducer, due = b"", 0.0
    if number in (packets.SUBMIT_REDUCE_JOB, packets.SUBMIT_REDUCE_JOB_BACKGROUND):
        function, unique, reducer, _, payload = body.split(b"\0", 4)
    elif number == packets.SUBMIT_JOB_EPOCH:
        function, unique, epoch, payload = body.split(b"\0", 3)
        due = float(epoch) if epoch.isdigit() else 0.0
    else:
        function, unique, payload = body.split(b"\0", 2)
    priority, background = SUBMITS[number]
    expected = take(book, party, Wish(background, priority, reducer, due), function, unique, payload, outs)
    if number == packets.SUBMIT_JOB_EPOCH and expected[-1][1] == packets.JOB_CREATED:
        book.saw("delayed" if book.handles[expected[-1][2]].delayed else "epoch that is past")
    return expected


def submit_with_terms(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    """FARM_SUBMIT."""
    if not party.extension:
        return error(party, b"INVALID_COMMAND")
    function, unique, words, payload = body.split(b"\0", 3)
    wish = terms.wish(words, book.wall)
    if wish is None:
        book.saw("strange terms refused")
        return error(party, b"INVALID_REQUEST")
    if book.stopping:
        book.saw("submission refused while stopping")
        return error(party, b"SHUTDOWN")
    if unique not in (b"", b"-"):
        book.functions[function] = None
        told = _of_the_same_key(book, party, wish, function, unique)
        if told:
            return told
    return take(book, party, wish, function, unique, payload, outs)


def _of_the_same_key(book: Book, party: Party, wish: Wish, function: bytes, unique: bytes) -> list[Out]:
    """What the client is told of the job that there is, where nothing is to be submitted or joined."""
    item = book.joinable.get((function, unique, b""))
    handle = item.handle if item else book.held_by(function, unique)
    kind = "live" if item else "ended"
    own = item is not None and not item.background and item.watchers == [party.id]
    if handle and wish.if_exists == b"replace" and not own and not party.may_change:
        book.saw("replacement from elsewhere refused")
        return error(party, b"PERMISSION_DENIED")
    if not handle or wish.if_exists == b"replace" or (item and wish.if_exists == b"attach"):
        if handle:
            book.saw(f"same key: {wish.if_exists.decode()}, {kind}")
        return []
    item = item or book.live(handle)
    if item:
        state = item.state
    else:
        end = book.past(handle)
        state = shown_state(end[0]) if end else "ended"
    book.saw(f"same key: {wish.if_exists.decode()}, {kind}")
    return [book.promise(party.id, packets.FARM_EXISTS, handle + b"\0" + state.encode())]


def take(
    book: Book, party: Party, wish: Wish, function: bytes, unique: bytes, payload: bytes, outs: list[Out]
) -> list[Out]:
    """A new job, or one of the same key, or neither. outs: the server's answer, for the handle that it has chosen."""
    if book.stopping:
        book.saw("submission refused while stopping")
        return error(party, b"SHUTDOWN")
    if len(unique) > 64:
        return error(party, b"ARGUMENT_TOO_LARGE")
    if not acceptable(function):
        book.saw("bad name refused")
        return error(party, b"INVALID_FUNCTION_NAME", close=True)
    book.functions[function] = None
    key = key_of(function, unique, payload)
    item = book.joinable.get(key) if key else None
    replaces = wish.if_exists == b"replace" and unique not in (b"", b"-")
    full = _is_full(book, function, wish.priority, item if replaces else None)
    if item is not None and not replaces:
        if full:
            book.saw("coalesced with a job though the queue is full")
        return _join(book, party, item, wish.background)
    held = book.held_by(function, unique)
    if held and wish.background and not replaces:
        book.saw("background joins a job that has ended")
        return [book.promise(party.id, packets.JOB_CREATED, held)]
    refused = _outcomes(book, party, wish)
    if refused:
        return refused
    if full:
        book.saw("queue full")
        return error(party, b"QUEUE_ERROR")
    if wish.background and book.no_room:
        book.saw("job refused for want of room on the disk")
        return error(party, b"QUEUE_ERROR")
    expected = _make_room(book, function, unique, item) if replaces else []
    return expected + _created(book, party, wish, (function, unique, payload), outs)


def _outcomes(book: Book, party: Party, wish: Wish) -> list[Out]:
    """Whether all jobs that it is to wait for are known; else what its client is told."""
    for _, handle in wish.after:
        if book.live(handle) is None and handle not in book.stops and book.past(handle) is None:
            book.saw("dependency that nobody knows refused")
            return error(party, b"JOB_NOT_FOUND")
    return []


def _is_full(book: Book, function: bytes, priority: int, replaced: Item | None) -> bool:
    limit = book.limits.get(function, (0, 0, 0))[priority]
    others = sum(item.function == function for item in book.jobs.values())
    return 0 < limit <= others - (replaced is not None and replaced.holder is None)


def _make_room(book: Book, function: bytes, unique: bytes, item: Item | None) -> list[Out]:
    """The job of the same key goes, or its key no longer counts."""
    if (function, unique) in book.keys:
        _, handle = book.keys.pop((function, unique))
        book.kept.key(function, unique, handle, 0.0)
    if item is None:
        return []
    book.saw("running job replaced" if item.holder is not None else "queued job replaced")
    return book.cancel(item, b"replaced by another job with its key")


def _created(book: Book, party: Party, wish: Wish, names: tuple[bytes, bytes, bytes], outs: list[Out]) -> list[Out]:
    created = [body for id, number, body in outs if id == party.id and number == packets.JOB_CREATED]
    if len(created) != 1:
        raise Wrong(f"a submission was answered with {len(created)} JOB_CREATED")
    if created[0] in book.jobs:
        raise Wrong(f"{created[0]!r} was coalesced with although function or key differ")
    function, unique, payload = names
    item = Item(created[0], function, unique, wish.priority, wish.background, payload)
    item.reducer, item.due, item.terms, item.expires_at = wish.reducer, wish.due, wish.terms, wish.expires_at
    never = b""
    book.wait_for_key(item)
    for condition, handle in wish.after:
        if book.live(handle) is not None:
            item.after[handle] = condition
            continue
        end = book.kept.ended.get(handle)  # or it has just gone with the job that this one replaces
        outcome = "cancelled" if end is None or book.kept.is_open(handle) else end[0]
        if handle in book.stops:
            outcome = book.stops[handle].outcome
        if not never and not course.is_met(condition, outcome):
            never = course.unmet(condition, handle, outcome)
        elif handle in book.stops:
            book.saw("met, but its command is being stopped")
            item.after[handle] = condition
    if never:
        item.after[never] = b"ok"  # so that it does not stand in line
    book.add(item)
    if wish.unique_for and unique not in (b"", b"-"):
        item.key_until = book.wall + wish.unique_for
        if wish.background:
            book.hold_key(item)
    answer = (party.id, packets.JOB_CREATED, item.handle)
    if wish.background:
        answer = book.promise(*answer)
    else:
        book.watch(item, party)
    _saw(book, item, wish, never)
    if never:
        return [answer, *book.cancel(item, never)]
    if wish.background and item.after.keys() != {handle for _, handle in wish.after}:
        book.kept.course(item, book.wall_offset)
    return [answer]


def _saw(book: Book, item: Item, wish: Wish, never: bytes) -> None:
    if wish.after:
        book.saw("can never run" if never else "waits for others" if item.after else "all it was to wait for had ended")
        if len(item.after) > 1:
            book.saw("waits for several jobs")
    if item.delayed and wish.terms:
        book.saw("delayed job with terms")
    if not wish.background and wish.terms:
        book.saw("foreground job with terms")


def _join(book: Book, party: Party, item: Item, background: bool) -> list[Out]:
    expected = [(party.id, packets.JOB_CREATED, item.handle)]
    if item.unique == b"-":
        book.saw("coalesced by payload")
    if item.delayed:
        book.saw("coalesced with a delayed job")
    if background:
        if item.background:
            book.saw("background joins background")
        elif book.no_room:
            book.saw("not joined for want of room on the disk")
            return error(party, b"QUEUE_ERROR")
        else:
            book.saw("background joins foreground")
            _make_background(book, item)
        return [book.promise(*expected[0])]
    book.saw("foreground joins background" if item.background else "foreground joins foreground")
    missed = item.streamed and party.extension
    replayed = _so_far(book, item) if missed and item.handle not in party.watches else None
    book.watch(item, party)
    if replayed is not None:
        book.saw("client that joined late told all")
        expected += [(party.id, number, item.handle + b"\0" + data) for number, data in replayed]
    elif missed:
        book.saw("client told that it joined late")
        expected.append((party.id, packets.FARM_JOB_JOINED, item.handle))
    return expected


def _so_far(book: Book, item: Item) -> list[tuple[int, bytes]] | None:
    """What the attempt has said, where that is known and whole."""
    result, log, cut = report(item, book.rules.result_max)
    if not item.background or not book.rules.result_max or cut:
        return None
    said = [(packets.WORK_DATA, result), (packets.WORK_WARNING, log), (packets.WORK_WARNING, item.trailer)]
    if log.startswith(b"farm: exit "):  # which must not be taken for an exit code
        said[1:2] = [(packets.WORK_WARNING, log[:1]), (packets.WORK_WARNING, log[1:])]
    return [(number, data) for number, data in said if data]


def _make_background(book: Book, item: Item) -> None:
    """It is kept from now on, and how far it has come."""
    item.background = item.stored = True
    item.missed = item.streamed
    if item.missed:
        book.saw("background joins foreground, part of its output missed")
    book.kept.save(item, book.wall_offset)
    book.hold_key(item)
    runs = item.holder is not None
    tried = item.attempts - runs > 0
    settled = item.after.keys() != {handle for _, handle in read_after(item.terms.get(b"after", b""))}
    if tried or settled or (runs and item.started + COUNTED_AFTER_S <= book.now):
        if tried:
            book.saw("background joins foreground, which was tried")
        item.noted = runs
        book.kept.course(item, book.wall_offset)
