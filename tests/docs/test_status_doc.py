"""farm/docs/status.md names every limit and its setting."""

from __future__ import annotations

import re

from farm.cli.options import LIMITS
from farm.server.config import ServerConfig
from tests.support import CHECKOUT

TEXT = (CHECKOUT / "farm/docs/status.md").read_text()


def test_every_limit_is_described_in_the_order_in_which_it_is_shown() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| [^|]{10,} \| [^|]*\|$", TEXT.partition("## Limits")[2], re.M)
    assert rows == list(ServerConfig().limits())


def test_every_setting_of_a_limit_is_named() -> None:
    for option in LIMITS:
        assert f"`{option.flags[0]}`" in TEXT, option.flags[0]
