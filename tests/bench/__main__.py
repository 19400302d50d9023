"""`bin/bench`: how long a cold `farm submit -b` takes, against an interpreter that does nothing."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench.startup import BASELINE, PAIRS, measure
from tests.cli.rig import Rig


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description="Cold `farm submit -b`, whole process, in turns with `python -I -c pass` of the same interpreter.",
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often each is run (default: %(default)s)")
    pairs = parser.parse_args().pairs
    if pairs < 1:
        parser.error("--pairs must be at least 1")
    with tempfile.TemporaryDirectory() as directory:
        rig = Rig(Path(directory))
        try:
            rig.env["FARM_SERVER"] = rig.server().address
            medians = measure(rig, pairs)
        finally:
            rig.end()
    base = medians[BASELINE]
    print(f"median of {pairs}, in turns:")
    for name, median in medians.items():
        print(f"  {name:32} {median * 1000:7.2f} ms  {median / base:5.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
