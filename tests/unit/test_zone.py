"""By which name this machine's time zone goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.cli.zone import local_zone
from farm.errors import UsageError


@pytest.mark.parametrize(
    ("tz", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":Europe/Berlin", "Europe/Berlin"),
        (":/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ("", "UTC"),
        ("CET-1CEST", "CET-1CEST"),  # no name: whoever uses it is told
    ],
)
def test_tz_says_it(tz: str, name: str, tmp_path: Path) -> None:
    assert local_zone({"TZ": tz}, str(tmp_path)) == name


@pytest.mark.parametrize("path", ["America/New_York", "posix/America/New_York", "right/America/New_York"])
def test_a_link_says_it(tmp_path: Path, path: str) -> None:
    (tmp_path / "localtime").symlink_to(f"/usr/share/zoneinfo/{path}")
    assert local_zone({}, str(tmp_path)) == "America/New_York"


def test_a_file_says_it(tmp_path: Path) -> None:
    (tmp_path / "localtime").write_bytes(b"TZif")
    (tmp_path / "timezone").write_text("Europe/Paris\n")
    assert local_zone({}, str(tmp_path)) == "Europe/Paris"


def test_nothing_says_it(tmp_path: Path) -> None:
    assert local_zone({}, str(tmp_path)) == "UTC"
    (tmp_path / "localtime").write_bytes(b"TZif")
    for odd in (b"", b"\xff\xfe"):
        (tmp_path / "timezone").write_bytes(odd)
        with pytest.raises(UsageError) as caught:
            local_zone({}, str(tmp_path))
        assert caught.value.hint == "--zone Europe/Berlin, or --zone UTC"
