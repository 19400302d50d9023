"""`farm server`: the daemon."""

from __future__ import annotations

import os
import sys

from farm.broker.broker import Rules
from farm.cli.options import Values
from farm.errors import EXIT_OK
from farm.protocol.address import parse_addresses
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.server.config import ServerConfig
from farm.server.daemon import serve
from farm.server.logs import LogConfig
from farm.store.contract import Store
from farm.store.memory import MemoryStore
from farm.store.sqlite import SqliteStore

MEMORY = "memory"


def run(values: Values) -> int:
    """Serve until told to stop, or only check the settings."""
    config = _config(values)
    if values["check"]:
        from farm.cli.config import shown
        from farm.net import resolve

        for address in config.listen:
            resolve(address, config.insecure, listening=True)
        sys.stdout.write(shown(values))
        return EXIT_OK
    return serve(
        config,
        _store(values),
        logs=LogConfig(
            level=str(values["log_level"]),
            path=_path(values["log_file"]),
            format=str(values["log_format"]),
            syslog=bool(values["syslog"]),
        ),
        pid_file=_path(values["pid_file"]),
        detach=bool(values["detach"]),
    )


def _config(values: Values) -> ServerConfig:
    listen = values["listen"]
    max_job_size, grace, stall, connections = (
        values[name] for name in ("max_job_size", "stop_grace", "stall", "max_connections")
    )
    assert isinstance(max_job_size, int) and isinstance(grace, float) and isinstance(stall, float)

    def size(name: str) -> int:
        value = values[name]
        assert isinstance(value, int)
        return value

    keep_s = values["keep_results"]
    assert isinstance(keep_s, float)
    return ServerConfig(
        listen=parse_addresses([str(text) for text in listen] if isinstance(listen, list) else []),
        insecure=bool(values["insecure"]),
        remote_admin=bool(values["remote_admin"]),
        rules=Rules(
            by_registration=values["order"] == "registration",
            wake_all=values["wakeup"] == "all",
            exceptions=bool(values["exceptions"]),
            result_max=size("result_max") if keep_s else 0,
            payload_memory_max=size("payload_memory") if values["store"] != MEMORY else 0,
        ),
        keep_results_s=keep_s,
        keep_results_size=size("keep_results_size"),
        max_job_size=min(max_job_size, PAYLOAD_HEADER_MAX),
        stop_grace_s=grace,
        stall_s=stall,
        connections_max=connections if isinstance(connections, int) else 0,
    )


def _store(values: Values) -> Store:
    path = values["store"]
    if path == MEMORY:
        return MemoryStore()
    reserve = values["disk_reserve"]
    assert isinstance(reserve, int)
    return SqliteStore(str(path) if path else default_directory(), reserve)


def default_directory() -> str:
    """Where jobs are kept when nobody says."""
    if os.geteuid() == 0:
        return "/var/lib/farm"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "farm")


def _path(value: object) -> str | None:
    return None if value is None else str(value)
