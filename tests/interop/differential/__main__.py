"""`python -P -m tests.interop.differential > farm/docs/differences.md` renders the table of differences."""

from __future__ import annotations

import sys

from tests.interop.differential.render import rendered

if __name__ == "__main__":
    sys.stdout.write(rendered())
