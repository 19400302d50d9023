"""`farm server`: the daemon."""

from __future__ import annotations

import sys

from farm.broker.broker import Rules
from farm.cli.options import Values
from farm.errors import EXIT_OK
from farm.protocol.address import parse_addresses
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.server.config import ServerConfig
from farm.server.daemon import serve
from farm.server.logs import LogConfig
from farm.store.memory import MemoryStore


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
        MemoryStore(),
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
    return ServerConfig(
        listen=parse_addresses([str(text) for text in listen] if isinstance(listen, list) else []),
        insecure=bool(values["insecure"]),
        remote_admin=bool(values["remote_admin"]),
        rules=Rules(
            by_registration=values["order"] == "registration",
            wake_all=values["wakeup"] == "all",
            exceptions=bool(values["exceptions"]),
        ),
        max_job_size=min(max_job_size, PAYLOAD_HEADER_MAX),
        stop_grace_s=grace,
        stall_s=stall,
        connections_max=connections if isinstance(connections, int) else 0,
    )


def _path(value: object) -> str | None:
    return None if value is None else str(value)
