"""`farm server`: the daemon."""

from __future__ import annotations

from farm.cli.options import Values
from farm.protocol.address import parse_addresses
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.server.config import ServerConfig
from farm.server.daemon import serve
from farm.store.memory import MemoryStore


def run(values: Values) -> int:
    """Serve until told to stop."""
    listen = values["listen"]
    max_job_size, grace, stall, connections = (
        values[name] for name in ("max_job_size", "stop_grace", "stall", "max_connections")
    )
    assert isinstance(max_job_size, int) and isinstance(grace, float) and isinstance(stall, float)
    config = ServerConfig(
        listen=parse_addresses([str(text) for text in listen] if isinstance(listen, list) else []),
        insecure=bool(values["insecure"]),
        max_job_size=min(max_job_size, PAYLOAD_HEADER_MAX),
        stop_grace_s=grace,
        stall_s=stall,
        connections_max=connections if isinstance(connections, int) else 0,
    )
    return serve(
        config,
        MemoryStore(),
        level=str(values["log_level"]),
        log_file=_path(values["log_file"]),
        pid_file=_path(values["pid_file"]),
        detach=bool(values["detach"]),
    )


def _path(value: object) -> str | None:
    return None if value is None else str(value)
