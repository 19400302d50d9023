"""The rules by which replies of two servers are made comparable. These and no others:

1. a handle becomes its number, in the order in which the handles appeared: `#1`, `#2`, ...
2. the version in the answer to `version` becomes VERSION, the process id in the answer to `getpid` becomes PID
3. the descriptor and the address at the start of a line of `workers` become FD and ADDRESS
4. the lines of a listing whose order means nothing (`status`, `prioritystatus`, `workers`, `show jobs`,
   `show unique jobs`) are sorted
"""

from __future__ import annotations

import re

from tests.interop.differential.play import Got, Player, escape

_LISTINGS = ("status", "prioritystatus", "workers", "show")


def normal(player: Player) -> list[list[str]]:
    """For each step what was got, as text that can be compared, and printed in a table."""
    names = {handle: f"#{number}" for number, handle in enumerate(player.handles, 1)}
    names |= {handle + b"\0": f"{name}\\x00" for handle, name in names.items()}
    return [_step(step, got, names) for step, got in zip(player.script, player.record, strict=True)]


def _step(step: str, got: list[Got], names: dict[bytes, str]) -> list[str]:
    who, _, rest = step.partition(" ")
    words = rest.lower().split() if who.endswith(":") else []
    command = words[0] if words else ""
    shown = [_one(one, command, names) for one in got]
    if command in _LISTINGS:
        lines = [text for text in shown if text.startswith(who + " ") and text != f"{who} .\\n"]
        rest_of = [text for text in shown if text not in lines]
        return sorted(lines) + rest_of
    return shown


def _one(one: Got, command: str, names: dict[bytes, str]) -> str:
    if one.what != "line":
        args = "|".join(names.get(arg, escape(arg)) for arg in one.args)
        return f"{one.connection} {one.what} {args}".rstrip(" ")
    line = one.args[0]
    if command == "version":
        line = re.sub(rb"^OK \d\S*", b"OK VERSION", line)
    elif command == "getpid":
        line = re.sub(rb"^OK \d+", b"OK PID", line)
    elif command == "workers":
        line = re.sub(rb"^\d+ 127\.0\.0\.1 ", b"FD ADDRESS ", line)
    words = [names.get(word, escape(word)) for word in line.split(b"\t")]
    return f"{one.connection}: " + "\\t".join(words)
