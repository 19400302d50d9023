"""A job's payload, read whole, but never more of it than a packet can hold."""

from __future__ import annotations

import io
import os
import stat

from farm.errors import InputError, UsageError
from farm.protocol.limits import PAYLOAD_HEADER_MAX

PAYLOAD_MAX = PAYLOAD_HEADER_MAX  # what a packet's header can say; the server may take less
READ_SIZE = 256 * 1024


def read_payload(path: str | None) -> bytes:
    """The payload from a file, or from standard input when `path` is None or "-". Raises InputError, and UsageError as
    soon as it is known to be too long."""
    name = "standard input" if path in (None, "-") else str(path)
    try:
        fd = 0 if path is None or path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0, closefd=fd != 0) as file:
            return _read(file, name)
    except OSError as error:
        raise InputError(f"cannot read {name}: {(error.strerror or str(error)).lower()}", _hint(error, path)) from error
    except MemoryError as error:
        raise InputError(f"cannot read {name}: it does not fit into memory") from error


def _hint(error: OSError, path: str | None) -> str:
    if path == "":
        return "is a variable of the script not set?"
    if isinstance(error, FileNotFoundError) and path and not path.startswith("/"):
        try:
            return f"it was looked for in {os.getcwd()}"
        except OSError:
            pass  # that directory is gone
    return ""


def _read(file: io.FileIO, name: str) -> bytes:
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size > PAYLOAD_MAX + os.lseek(file.fileno(), 0, os.SEEK_CUR):
        raise _too_long(name)
    whole = io.BytesIO()
    while chunk := file.read(READ_SIZE):
        if whole.tell() + len(chunk) > PAYLOAD_MAX:
            raise _too_long(name)
        whole.write(chunk)
    return whole.getvalue()  # its own buffer, not a copy


def _too_long(name: str) -> UsageError:
    return UsageError(f"{name} is longer than a packet can be", "a payload has at most 4 GiB")
