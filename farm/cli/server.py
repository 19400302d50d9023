"""`farm server`: the daemon."""

from __future__ import annotations

import os
import sys

from farm.broker.broker import Rules
from farm.cli.main import say
from farm.cli.options import Values
from farm.errors import EXIT_OK, UsageError
from farm.protocol.address import parse_addresses
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.server.config import ServerConfig
from farm.server.daemon import serve
from farm.server.logs import LogConfig
from farm.store.contract import Store
from farm.store.memory import MemoryStore
from farm.store.sqlite import SqliteStore

MEMORY = "memory"

BACKLOG_MAX = 2**31 - 1  # what listen(2) takes; the system has a limit of its own below that
KEEPALIVE_MAX_S = 32767  # what TCP_KEEPIDLE takes


def run(values: Values) -> int:
    """Serve until told to stop, or only check the settings."""
    config = _config(values)
    if values["check"]:
        from farm.cli.config import shown
        from farm.net import resolve

        for address in config.listen:
            resolve(address, config.insecure, listening=True)
        sys.stdout.write(shown(values, _notes(values, config)))
        return EXIT_OK
    status = serve(
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
    if values["detach"] and status == EXIT_OK and not (values["log_file"] or values["syslog"]):
        say("the server runs; its log goes nowhere from here on", "keep it with --log-file FILE or --syslog")
    return status


def _notes(values: Values, config: ServerConfig) -> dict[str, str]:
    """Where a setting does not do what it says."""
    notes = {"max_connections": config.connections_note()}
    if values["store"] == MEMORY:
        notes |= dict.fromkeys(("payload_memory", "disk_reserve", "result_max"), "not with the store memory")
    return notes


def _config(values: Values) -> ServerConfig:
    """Raises UsageError for limits that contradict each other."""
    listen, connections = values["listen"], values["max_connections"]
    keep_s = _seconds(values, "keep_results")
    low, high, most = (_number(values, name) for name in ("output_low", "output_high", "output_max"))
    if not low < high:
        raise UsageError("--output-low is not below --output-high", "nobody would ever be let go on, or held up")
    if not high <= most:
        raise UsageError("--output-max is below --output-high", "readers would be dropped before they are waited for")
    return ServerConfig(
        listen=parse_addresses([str(text) for text in listen] if isinstance(listen, list) else []),
        insecure=bool(values["insecure"]),
        remote_admin=bool(values["remote_admin"]),
        rules=Rules(
            by_registration=values["order"] == "registration",
            wake_all=values["wakeup"] == "all",
            exceptions=bool(values["exceptions"]),
            result_max=_number(values, "result_max") if keep_s else 0,
            payload_memory_max=_number(values, "payload_memory") if values["store"] != MEMORY else 0,
            losses_max=_number(values, "max_losses") + 1,
            memory_max=_number(values, "max_memory"),
            functions_max=_number(values, "max_functions"),
            jobs_max=_number(values, "max_jobs"),
        ),
        keep_results_s=keep_s,
        keep_results_size=_number(values, "keep_results_size"),
        max_job_size=min(_number(values, "max_job_size"), PAYLOAD_HEADER_MAX),
        line_max=_number(values, "max_line"),
        stop_grace_s=_seconds(values, "stop_grace"),
        first_packet_s=_seconds(values, "first_packet"),
        stall_s=_seconds(values, "stall"),
        linger_s=_seconds(values, "linger"),
        heartbeat_s=_seconds(values, "heartbeat"),
        keepalive_s=_keepalive(values),
        out_high=high,
        out_low=low,
        out_stall_s=_seconds(values, "output_stall"),
        out_max=most,
        backlog=min(_number(values, "backlog"), BACKLOG_MAX),
        connections_max=connections if isinstance(connections, int) else 0,
    )


def _keepalive(values: Values) -> int:
    seconds = _seconds(values, "keepalive")
    if not 1 <= seconds <= KEEPALIVE_MAX_S:
        raise UsageError(f"--keepalive is not between 1s and {KEEPALIVE_MAX_S}s", "the system counts whole seconds")
    return int(seconds)


def _number(values: Values, name: str) -> int:
    value = values[name]
    assert isinstance(value, int)
    return value


def _seconds(values: Values, name: str) -> float:
    value = values[name]
    assert isinstance(value, float)
    return value


def _store(values: Values) -> Store:
    path = values["store"]
    if path == MEMORY:
        return MemoryStore()
    reserve = values["disk_reserve"]
    assert reserve is None or isinstance(reserve, int)
    return SqliteStore(str(path) if path else default_directory(), reserve)


def default_directory() -> str:
    """Where jobs are kept when nobody says."""
    if os.geteuid() == 0:
        return "/var/lib/farm"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "farm")


def _path(value: object) -> str | None:
    return None if value is None else str(value)
