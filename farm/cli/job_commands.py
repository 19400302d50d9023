"""Which module runs which of the commands about jobs. Each is imported when its command runs: a script may call one of
them for every job that it has."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from farm.cli.main import hear_interrupts
from farm.cli.options import Values

_MODULES = {
    "jobs": "jobs",
    "show": "show",
    "logs": "logs",
    "result": "result",
    "wait": "wait",
    "cancel": "cancel",
    "retry": "retry",
    "purge": "purge",
    "explain": "explain",
    "pause": "pause",
    "resume": "pause",
    **dict.fromkeys(
        (f"cron {verb}" for verb in ("add", "list", "show", "remove", "pause", "resume", "run", "next")), "cron"
    ),
    "cron import": "cron_import",
    "function list": "function",
    "function show": "function",
    "function set": "function",
}


def run_named(name: str, values: Values) -> int:
    """Run the command of this name: `run_VERB` of its module."""
    module = import_module(f"farm.cli.{_MODULES[name]}")
    run: Callable[[Values], int] = getattr(module, "run_" + name.rpartition(" ")[2])
    hear_interrupts()
    return run(values)
