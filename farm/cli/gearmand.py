"""`farm gearmand`: farm's server behind gearmand's command line.

What would lose jobs or service if it were ignored is refused; what only tunes is accepted with a line that says so.
"""

from __future__ import annotations

import os
import resource
import shlex

from farm import __version__
from farm.broker.broker import Rules
from farm.cli import light
from farm.cli.gearmand_options import DURABLE, DURABLE_OPTIONS, GEARMAND, MODULE_OPTIONS, QUEUES, REFUSED, TUNING
from farm.cli.main import say
from farm.cli.options import SERVE, Values, complete
from farm.cli.server import default_directory
from farm.errors import EXIT_OK, InputError, UsageError
from farm.protocol.address import Address, is_loopback, parse_address
from farm.server.config import ServerConfig
from farm.server.daemon import serve
from farm.server.logs import LogConfig
from farm.store.contract import Store
from farm.store.gearmand import TABLE, MovedStore
from farm.store.memory import MemoryStore
from farm.store.sqlite import SqliteStore

DEFAULT_CONFIG = "/etc/gearmand.conf"
DEFAULT_LOG = "/var/log/gearmand.log"

_LEVELS = {"FATAL": "critical", "ALERT": "critical"}


def run(values: Values) -> int:
    """Serve until told to stop."""
    if values["version"]:
        print(f"farm {__version__}, in place of gearmand 1.1.20")
        return EXIT_OK
    values = _with_config_file(values)
    _refuse(values)
    _warn(values)
    config = _config(values)
    if values["check_args"]:
        return EXIT_OK
    log_file = _text(values, "log_file") or (_default_log() if values["daemon"] else "stderr")
    if values["file_descriptors"]:
        _limit_descriptors(_number(values, "file_descriptors"))
    level = str(values["verbose"])
    return serve(
        config,
        _store(values),
        logs=LogConfig(
            level=_LEVELS.get(level, level.lower()),
            path={"stderr": None, "none": os.devnull}.get(log_file, log_file),
            syslog=bool(values["syslog"]),
        ),
        pid_file=_text(values, "pid_file") or None,
        detach=bool(values["daemon"]),
        user=_text(values, "user") or None,
    )


def _with_config_file(values: Values) -> Values:
    """The file's words, below the command line's and the environment's. A missing file is an error only if it was
    named."""
    path = _text(values, "config_file") or DEFAULT_CONFIG
    try:
        with open(path) as file:
            words = shlex.split(file.read(), comments=True)
    except OSError as error:
        if values["config_file"] is None:
            return values
        raise InputError(f"cannot read {path}: {(error.strerror or '').lower()}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    try:
        _, given = light.parse(["gearmand", *words])
    except light.Declined as declined:
        raise UsageError(f"{path}: these are not gearmand's options", "farm gearmand --help lists them") from declined
    from_file = complete(GEARMAND, given, {})
    sources = values["sources"]  # not the values: `-p 4730` was said, though it is the default
    assert isinstance(sources, dict)
    return {name: from_file[name] if sources.get(name) == "default" else value for name, value in values.items()}


def _default_log() -> str:
    """Where nobody said and the usual file cannot be written, as by anybody but root, a detached server has no log, as
    gearmand has none then."""
    try:
        with open(DEFAULT_LOG, "ab"):
            return DEFAULT_LOG
    except OSError as error:
        say(f"warning: no log: cannot write {DEFAULT_LOG}: {(error.strerror or '').lower()}", "-l names another file")
        return "stderr"


def _refuse(values: Values) -> None:
    queue = _text(values, "queue_type")
    if queue not in QUEUES:
        raise UsageError(
            f"--queue-type {queue}: farm has no such queue",
            f"-q {DURABLE} keeps jobs in farm's own store; without -q they last as long as the server",
        )
    for name, why in REFUSED.items():
        if values[name]:
            raise UsageError(f"--{name.replace('_', '-')} is not supported: {why}", "leave it out")
    for name in MODULE_OPTIONS:
        if values[name]:
            raise UsageError(f"--{name.replace('_', '-')}: farm has no such queue module", "leave it out")
    for name in DURABLE_OPTIONS:
        if values[name] and queue != DURABLE:
            raise UsageError(
                f"--{name.replace('_', '-')} means nothing without -q {DURABLE}", "add it, or leave it out"
            )


def _store(values: Values) -> Store:
    """-q libsqlite3 is farm's own store, beside gearmand's file; what that holds is taken in once."""
    if values["queue_type"] != DURABLE:
        return MemoryStore()
    file = _text(values, "libsqlite3_db")
    if not file:
        return SqliteStore(default_directory())
    return MovedStore(f"{file}.farm", file, _text(values, "libsqlite3_table") or TABLE)


def _rules_of_keeping(values: Values) -> dict[str, int]:
    """As `farm server` has them by default, where there is a store to keep in."""
    if values["queue_type"] != DURABLE:
        return {}
    defaults = complete(SERVE, {}, {})
    sizes = {"result_max": defaults["result_max"], "payload_memory_max": defaults["payload_memory"]}
    return {name: size for name, size in sizes.items() if isinstance(size, int)}


def _warn(values: Values) -> None:
    for name, instead in TUNING.items():
        if values[name]:
            say(f"warning: --{name.replace('_', '-')} is accepted and does nothing: {instead}")


def _config(values: Values) -> ServerConfig:
    port = _number(values, "port", 65535)
    host = _text(values, "listen")
    addresses = [parse_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")] if host else _everywhere(port)
    reach = [str(address) for address in addresses if not is_loopback(address.host) and address.host != "localhost"]
    if reach:
        say(f"warning: listening on {', '.join(reach)}: who can reach it can submit jobs, and nothing is encrypted")
    return ServerConfig(
        listen=addresses,
        insecure=True,
        remote_admin=bool(values["remote_admin"]),  # gearmand takes them from anybody
        rules=Rules(
            by_registration=not values["round_robin"],
            wake_all=_number(values, "worker_wakeup") == 0,
            exceptions=bool(values["exceptions"]),
            losses_max=_number(values, "job_retries"),
            **_rules_of_keeping(values),
        ),
        backlog=_number(values, "backlog") or 1024,
    )


def _everywhere(port: int) -> list[Address]:
    addresses = [Address("0.0.0.0", port)]
    if os.path.exists("/proc/net/if_inet6"):
        addresses.append(Address("::", port))
    return addresses


def _limit_descriptors(wanted: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError) as error:
        raise UsageError(f"--file-descriptors {wanted}: not allowed", f"at most {hard} for this user") from error


def _number(values: Values, name: str, most: int = 2**31 - 1) -> int:
    text = str(values[name] if values[name] is not None else 0)
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
        raise UsageError(f"--{name.replace('_', '-')} is not a number from 0 to {most}: {text!r}")
    return int(text)


def _text(values: Values, name: str) -> str:
    value = values[name]
    return "" if value is None else str(value)
