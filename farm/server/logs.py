"""The server's log: one line each, UTC times, as text or JSON, on stderr, in a file or to syslog; never a payload.

Levels: critical, error, warning, notice (the server's own life; the default), info (a line for each start and end of a
job), debug.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import stat
import time
from dataclasses import dataclass

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
SYSLOG_SOCKET = "/dev/log"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass
class LogConfig:
    """What to log and where. path: None is stderr. format: "text" or "json"."""

    level: str = "notice"
    path: str | None = None
    format: str = "text"
    syslog: bool = False


class _Json(logging.Formatter):
    """One object a line: time, level, message, and for a job's lines job, function, event and detail."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime(_TIME, time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        return json.dumps(line | getattr(record, "fields", {}), ensure_ascii=False)


def set_up(config: LogConfig) -> logging.Handler:
    """Start logging. Raises FarmError when the file cannot be written or there is no syslog."""
    logging.raiseExceptions = False  # a full disk or a reader that has left costs lines of the log, nothing else
    logging.addLevelName(NOTICE, "NOTICE")
    handler = _handler(config)
    if config.format == "json":
        handler.setFormatter(_Json())
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", _TIME)
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    logger = logging.getLogger("farm")
    logger.addHandler(handler)
    logger.setLevel(LEVELS[config.level])
    return handler


def _handler(config: LogConfig) -> logging.Handler:
    try:
        if config.syslog:
            from logging.handlers import SysLogHandler  # here, for it is seldom wanted and slow to import

            class Syslog(SysLogHandler):
                priority_map = SysLogHandler.priority_map | {"NOTICE": "notice"}

            if not os.path.exists(SYSLOG_SOCKET):  # SysLogHandler keeps silent about it
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return Syslog(address=SYSLOG_SOCKET)
        return logging.FileHandler(config.path) if config.path else logging.StreamHandler()
    except OSError as error:
        where = SYSLOG_SOCKET if config.syslog else config.path
        raise FarmError(f"cannot write the log {where}: {reason(error)}", status=EXIT_CANNOT_CREATE) from error


def reopen(handler: logging.Handler) -> None:
    """A file that was moved away (logrotate) is begun anew. Where that cannot be, for its directory has gone or is no
    longer this user's, the log goes on in the old file and says so there: a log is no reason to stop serving."""
    if not isinstance(handler, logging.FileHandler):
        return
    try:
        stream = handler._open()
    except OSError as error:
        why = reason(error)
        logging.getLogger("farm.server").error(
            "cannot reopen the log %s: %s; it stays this file", handler.baseFilename, why
        )
        return
    old, handler.stream = handler.stream, stream
    if old:
        with contextlib.suppress(OSError):  # a full disk: its last lines are lost
            old.close()


def give_to(handler: logging.Handler, uid: int, gid: int) -> None:
    """Make the log file this user's, who has to reopen it. Not a device: `none` is /dev/null."""
    if isinstance(handler, logging.FileHandler) and handler.stream:
        fd = handler.stream.fileno()
        if stat.S_ISREG(os.fstat(fd).st_mode):
            with contextlib.suppress(OSError):  # a file system without owners
                os.fchown(fd, uid, gid)
