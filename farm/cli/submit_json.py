"""`farm submit -b --json`: the line that it prints, and whether the job was there already, which takes asking.

Only imported for that: `json` itself takes longer than all the rest of a submission.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from farm.client.answers import Exists, StockAnswer
from farm.client.connection import Connection
from farm.client.records import ENDED_STATES
from farm.client.request import Request
from farm.client.submit import submit_background
from farm.protocol.address import Address
from farm.protocol.names import shown

SCHEMA = "farm.submit/1"

Notify = Callable[[str, str], None]


class Known(NamedTuple):
    """Of the job of a handle. existed: it was there before, and has this key; None: that is not known. state: as it was
    a moment ago, of one that existed."""

    existed: bool | None
    state: str | None = None


def json_line(wanted: Request, handle: str, server: Address, known: Known) -> str:
    """One object, without the end of the line."""
    fields = {
        "server": str(server),
        "id": handle,
        "function": shown(wanted.function),
        "unique": wanted.unique.decode("utf-8", "surrogateescape") or None,
    }
    return json.dumps({"schema": SCHEMA, **fields, **known._asdict()})


def submit_and_tell(connection: Connection, wanted: Request, notify: Notify) -> tuple[str, Known]:
    """As submit_background, and what is known of the job besides its handle.

    A server acknowledges a job that is joined as it does a new one. So it is first asked for a new one only, and for
    any where that does not come about.
    """
    if not wanted.has_key:
        return submit_background(connection, wanted, notify), Known(None if wanted.unique else False)
    if any(word.startswith("if-exists=") for word in wanted.terms):
        return submit_background(connection, wanted, notify), Known(False)  # else it raises Exists
    try:
        return submit_background(connection, _only_new(wanted), notify), Known(False)
    except StockAnswer:
        if wanted.terms:
            raise
        return submit_background(connection, wanted, notify), Known(None)
    except Exists as found:
        if found.state in ENDED_STATES:
            raise
        handle = submit_background(connection, wanted, notify)
        return handle, Known(True, found.state) if handle == found.handle else Known(None)


def _only_new(wanted: Request) -> Request:
    """The same, but not where there is a job of its key."""
    terms = [*wanted.terms, *([f"at={wanted.epoch}"] if wanted.epoch else []), "if-exists=skip"]
    return Request(wanted.function, wanted.payload, wanted.unique, wanted.priority, terms=terms, needs=wanted.needs)
