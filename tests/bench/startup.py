"""The time a shell waits for `farm submit -b`: the whole process, from fork to reaped."""

from __future__ import annotations

import os
import time
from statistics import median

from tests.cli.rig import FARM, Rig
from tests.support import CHECKOUT

PAIRS = 40

BASELINE = "python -I -c pass"
PYTHON = "python -P -c main, submit -b"
SCRIPT = "bin/farm submit -b"
FAILOVER = "bin/farm submit -b, the first of two servers is down"


def measure(rig: Rig, pairs: int = PAIRS) -> dict[str, float]:
    """The median seconds of each. In turns, so that whatever else the machine does meets all alike."""
    python = str(CHECKOUT / ".venv/bin/python")
    submit = ["submit", "-b", "-n", "bench"]
    commands = {
        BASELINE: [python, "-I", "-c", "pass"],
        PYTHON: [python, "-P", "-c", "from farm.cli.main import main; main()", *submit],
        SCRIPT: [FARM, *submit],
        FAILOVER: [FARM, *submit, "-s", f"127.0.0.1:1,{rig.env['FARM_SERVER']}"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for _ in range(pairs + 1):
            for name, argv in commands.items():
                times[name].append(_time(argv, rig.env, null))
    finally:
        os.close(null)
    return {name: median(seconds[1:]) for name, seconds in times.items()}  # the first fills the caches


def _time(argv: list[str], env: dict[str, str], null: int) -> float:
    streams = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    begin = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env, file_actions=streams)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - begin
    assert status == 0, (argv, status)
    return seconds
