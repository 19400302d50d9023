"""The fuzzer's command line: every target for a while, and then every mutant until it is found.

Each runs in a process of its own, for atheris ends the one it runs in. What breaks a target is kept in a file, and
`python -m tests.fuzz TARGET FILE` runs that again, without atheris.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

TARGETS = ("decoder", "broker")
SECONDS = 60  # for each target; they run side by side
HUNT_MAX_S = 60  # for each mutant; most are found within a second
INPUT_MAX = 1024  # bytes; longer ones find nothing new and are slow
INPUT_MAX_S = 30  # no input may take longer, on a machine that does other things too
FOUND = 77  # libFuzzer's exit status when the target has raised


def main() -> int:
    """Returns the exit status: 1 when a target broke, or a mutant was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", choices=TARGETS, help="only this one")
    parser.add_argument("file", nargs="?", type=Path, help="run this one input again")
    parser.add_argument("--seconds", type=int, default=SECONDS, metavar="S", help=f"for each target ({SECONDS})")
    parser.add_argument("--mutants", action="store_true", help="then break each rule on purpose: it must be found")
    parser.add_argument("--child", nargs=2, metavar=("DIRECTORY", "MUTANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file:
        _target(options.target)(options.file.read_bytes())
        print("nothing is wrong with it")
        return 0
    if not importlib.util.find_spec("atheris"):
        print("farm: atheris is not here: it has wheels for Linux on x86-64 with Python 3.11 to 3.13", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    if options.child:
        return _fuzz(options.target, *options.child, seconds=options.seconds)
    targets = [options.target] if options.target else TARGETS
    work = [lambda target=target: _search(target, options.seconds) for target in targets]
    if options.mutants:
        from tests.fuzz.mutants import HUNTS

        work += [lambda hunt=hunt: _hunt(hunt.target, hunt.mutant.name) for hunt in HUNTS if hunt.target in targets]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return max(pool.map(lambda each: each(), work))


def _search(target: str, seconds: int) -> int:
    """Fuzz the real thing: nothing may be found."""
    directory = Path(tempfile.mkdtemp(prefix=f"farm-fuzz-{target}-"))
    status, said = _run(target, directory, "", seconds)
    runs = re.search(r"^stat::number_of_executed_units: *(\d+)", said, re.M)
    if status == 0 and runs:
        print(f"{target}: good, {int(runs[1]):,} inputs in {seconds} s", flush=True)
        return 0
    print(said[-4000:])
    print(f"{target}: BROKEN, exit {status}; again with: python -m tests.fuzz {target} {directory}/crash-*")
    return 1


def _hunt(target: str, mutant: str) -> int:
    """Fuzz what is broken on purpose: it must be found."""
    with tempfile.TemporaryDirectory(prefix="farm-fuzz-") as directory:
        status, said = _run(target, Path(directory), mutant, HUNT_MAX_S)
    words = re.search(r"Uncaught Python exception: ===\n(.*)", said)
    if status == FOUND and words:
        print(f"{target}: found: {mutant} ({words[1][:80]})", flush=True)
        return 0
    print(said[-2000:])
    print(f"{target}: MISSED: {mutant}, exit {status}", flush=True)
    return 1


def _run(target: str, directory: Path, mutant: str, seconds: int) -> tuple[int, str]:
    argv = [
        sys.executable,
        "-P",
        "-m",
        "tests.fuzz",
        target,
        "--seconds",
        str(seconds),
        "--child",
        str(directory),
        mutant,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=4 * seconds + 60)
    return done.returncode, done.stdout + done.stderr


def _fuzz(target: str, directory: str, mutant: str, seconds: int) -> int:
    """In the child; does not return when atheris has its way."""
    import atheris

    with atheris.instrument_imports(include=["farm.protocol", "farm.broker"], enable_loader_override=False):
        one_input = _target(target)
        seeds = importlib.import_module(f"tests.fuzz.{target}").SEEDS
    from tests.fuzz.mutants import HUNTS

    broken = next((hunt.mutant for hunt in HUNTS if hunt.mutant.name == mutant), None)
    corpus = Path(directory, "corpus")
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        Path(corpus, f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-max_len={INPUT_MAX}", f"-timeout={INPUT_MAX_S}", "-rss_limit_mb=1024"]
    limits += ["-seed=1"] if broken else []  # the real thing gets another chance each time; a mutant must be found
    atheris.Setup(
        ["fuzz", *limits, "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={directory}/", str(corpus)],
        one_input,
    )
    with broken.applied() if broken else nullcontext():
        atheris.Fuzz()
    return 0


def _target(name: str) -> Callable[[bytes], None]:
    one_input: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.{name}").one_input
    return one_input


if __name__ == "__main__":
    sys.exit(main())
