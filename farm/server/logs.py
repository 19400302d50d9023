"""The server's log: one line each, level first, UTC times; never a payload.

Levels: critical, error, warning, notice (the server's own life; the default), info (a line for each start and end of a
job), debug.
"""

from __future__ import annotations

import logging
import time

from farm.errors import EXIT_CANNOT_CREATE, FarmError
from farm.net import reason

NOTICE = 25
LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": NOTICE,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


def set_up(level: str, path: str | None) -> logging.Handler:
    """Log to a file (appended to) or, without one, to stderr. Raises FarmError when the file cannot be written."""
    logging.raiseExceptions = False  # a full disk or a reader that has left costs lines of the log, nothing else
    logging.addLevelName(NOTICE, "NOTICE")
    try:
        handler = logging.FileHandler(path) if path else logging.StreamHandler()
    except OSError as error:
        raise FarmError(f"cannot write the log {path}: {reason(error)}", status=EXIT_CANNOT_CREATE) from error
    formatter = logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("farm")
    logger.addHandler(handler)
    logger.setLevel(LEVELS[level])
    return handler
