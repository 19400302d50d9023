"""The admin protocol: one line in, lines of text out, byte for byte as gearmand writes them.

Listings and `version` end their lines in LF, `OK` and `ERR` in CR LF: that is gearmand's way, and programs parse it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farm import __version__
from farm.broker.job import ABANDONED
from farm.errors import PacketRefused
from farm.protocol.limits import NUMBER_MAX
from farm.protocol.names import one_word

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.peer import Peer

_OK = b"OK\r\n"
_DENIED = b"ERR PERMISSION_DENIED This+command+is+taken+from+this+machine+only\r\n"
_LIMIT_MAX = 2**31 - 1  # gearmand reads limits as a C int

Words = list[bytes]
Answer = Callable[["Broker", Words, float], bytes]


def answer(broker: Broker, peer: Peer, line: bytes, now: float) -> None:
    """Answer one line. Words are separated by blanks, and nothing else: the functions of Perl programs with a prefix
    have a TAB in their names. The command word's case does not matter."""
    words = [word for word in line.split(b" ") if word]
    command = words[0].lower() if words and not line.startswith(b" ") else b""
    if command in _LISTINGS:
        reply = _LISTINGS[command](broker, words, now)
    elif command in _CHANGES:
        reply = _CHANGES[command](broker, words, now) if peer.may_change else _DENIED
    elif command == b"shutdown" and peer.may_stop:
        reply = _shutdown(broker, words)
    else:
        reply = _unknown(words[0] if command else b"")
    broker.effects.send(peer.id, reply)


def _unknown(command: bytes) -> bytes:
    return b"ERR UNKNOWN_COMMAND Unknown+server+command" + one_word(command) + b"\r\n"  # without a blank, as gearmand


def _incomplete(command: bytes) -> bytes:
    return b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+" + command + b"\r\n"


# -- listings


def _status(broker: Broker, words: Words, now: float) -> bytes:
    """One line a function: name, jobs in all (running and delayed ones included), running, workers."""
    rows = [
        b"%s\t%d\t%d\t%d\n" % (one_word(function.name), function.jobs, function.running, len(function.workers))
        for function in broker.functions.values()
    ]
    return b"".join(rows) + b".\n"


def _priority_status(broker: Broker, words: Words, now: float) -> bytes:
    """One line a function: name, queued jobs of high, normal and low priority, workers."""
    rows = []
    for function in broker.functions.values():
        high, normal, low = map(len, function.queues)
        rows.append(b"%s\t%d\t%d\t%d\t%d\n" % (one_word(function.name), high, normal, low, len(function.workers)))
    return b"".join(rows) + b".\n"


def _workers(broker: Broker, words: Words, now: float) -> bytes:
    """One line a connection: file descriptor, address, client id, and what it can do, newest first as in gearmand."""
    rows = []
    for peer in broker.peers.values():
        abilities = b"".join(b" " + one_word(function.name) for function in reversed(peer.can_do))
        rows.append(b"%d %s %s :%s\n" % (peer.fd, peer.address.encode(), peer.client_id, abilities))
    return b"".join(rows) + b".\n"


def _show(broker: Broker, words: Words, now: float) -> bytes:
    what = b" ".join(words[1:]).lower()
    if not what:
        return _unknown(words[0])
    if what == b"jobs":  # handle, how often its worker was lost, whether nobody wants it any more, whether it is kept
        rows = [
            b"%s\t%d\t%d\t%d\n" % (job.handle, job.losses, job.state == ABANDONED, job.background)
            for job in broker.jobs.values()
        ]
    elif what == b"unique jobs":
        rows = [one_word(job.unique) + b"\n" for job in broker.jobs.values()]
    else:
        return b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"
    return b"".join(rows) + b".\n"


def _version(broker: Broker, words: Words, now: float) -> bytes:
    return b"OK %s+farm\n" % __version__.encode()


def _getpid(broker: Broker, words: Words, now: float) -> bytes:
    return b"OK %d\n" % broker.about.process_id


def _verbose(broker: Broker, words: Words, now: float) -> bytes:
    return b"OK %s\n" % broker.about.log_level.upper().encode()


def _limits(broker: Broker, words: Words, now: float) -> bytes:
    """farm's own: one line a limit, name and value."""
    return (
        b"".join(b"%s\t%s\n" % (name.encode(), b"%.15g" % value) for name, value in broker.about.limits.items())
        + b".\n"
    )


# -- changes


def _create(broker: Broker, words: Words, now: float) -> bytes:
    if len(words) != 3 or words[1].lower() != b"function":
        return _incomplete(b"create")
    try:
        broker.function(words[2])
    except PacketRefused as refused:
        return b"ERR " + refused.code + b" " + refused.text.replace(b" ", b"+") + b"\r\n"
    return _OK


def _drop(broker: Broker, words: Words, now: float) -> bytes:
    """Unlike in gearmand, queued jobs keep their function: they would be orphans."""
    if len(words) != 3 or words[1].lower() != b"function":
        return _incomplete(b"drop")
    name = words[2]
    function = broker.functions.get(name) or broker.spellings.first(name.lower())
    if function is None:
        return b"ERR function not found\r\n"
    if not broker.drop_function(function):
        return b"ERR there are still connected workers or executing clients\r\n"
    return _OK


def _maxqueue(broker: Broker, words: Words, now: float) -> bytes:
    """`maxqueue NAME`, `maxqueue NAME N` or `maxqueue NAME HIGH NORMAL LOW`; below 1 means no limit. OK also where
    there is no such function, but not for what is no number: the mistake would lift the limit unnoticed."""
    if len(words) not in (2, 3, 5) or not all(word.removeprefix(b"-").isdigit() for word in words[2:]):
        return _incomplete(b"maxqueue")
    function = broker.functions.get(words[1])
    if function is not None:
        limits = [_limit(word) for word in words[2:]] or [0]
        high, normal, low = limits * 3 if len(limits) == 1 else limits
        function.limits = (high, normal, low)
    return _OK


def _limit(word: bytes) -> int:
    """Digits may be so many that `int` refuses them: a line is as long as --max-line allows."""
    if word.startswith(b"-"):
        return 0
    digits = word.lstrip(b"0")
    return _LIMIT_MAX if len(digits) > NUMBER_MAX else min(int(digits or b"0"), _LIMIT_MAX)


def _cancel(broker: Broker, words: Words, now: float) -> bytes:
    if len(words) < 3:
        return _unknown(words[0])
    if len(words) != 3 or words[1].lower() != b"job":
        return b"ERR UNKNOWN_ERROR\r\n"
    return _OK if broker.cancel_by_admin(words[2], now) else b"ERR UNKNOWN_JOB\r\n"


def _shutdown(broker: Broker, words: Words) -> bytes:
    if len(words) > 2 or (len(words) == 2 and words[1].lower() != b"graceful"):
        return _incomplete(b"shutdown")
    broker.effects.shutdown = "graceful" if len(words) == 2 else "now"
    return _OK


_LISTINGS: dict[bytes, Answer] = {
    b"status": _status,
    b"prioritystatus": _priority_status,
    b"workers": _workers,
    b"show": _show,
    b"version": _version,
    b"getpid": _getpid,
    b"verbose": _verbose,
    b"limits": _limits,
}
_CHANGES: dict[bytes, Answer] = {
    b"create": _create,
    b"drop": _drop,
    b"maxqueue": _maxqueue,
    b"cancel": _cancel,
}
