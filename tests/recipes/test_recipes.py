"""Every recipe against the real program: the workers on a real photograph, and each line of the crontab."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.rig import Rig
from tests.interop.ends import lack
from tests.support import CHECKOUT, wait_until

RECIPES = CHECKOUT / "recipes"
PHOTO = (CHECKOUT / "tests/data/harvest.jpg").read_bytes()

pytestmark = pytest.mark.interop


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A server of its own, and a home for the crontab's files."""
    rig = Rig(tmp_path)
    rig.env["FARM_SERVER"] = rig.server().address
    yield rig
    rig.end()


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height, from the JPEG's frame header."""
    assert jpeg[:2] == b"\xff\xd8"
    position = 2
    while True:
        marker, length = struct.unpack(">2sH", jpeg[position : position + 4])
        if marker[1] in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack(">HH", jpeg[position + 5 : position + 9])
            return width, height
        position += 2 + length


def recipe_worker(rig: Rig, recipe: str, function: str, *argv: str) -> None:
    """Start a recipe and wait for its worker."""
    running = rig.background([str(RECIPES / recipe), *argv])
    wait_until(lambda: running.ended or rig.counts(function)[2], what=f"a worker of {recipe}")
    if running.ended and running.wait().status == 69:
        lack(running.err())
    assert not running.ended, running.err()


def test_the_photographs_are_large_enough_to_be_real() -> None:
    for name in ("harvest.jpg", "barn.jpg"):
        width, height = size_of((CHECKOUT / "tests/data" / name).read_bytes())
        assert width * height >= 1_000_000


@pytest.mark.parametrize(("argv", "wanted"), [((), (810, 540)), (("25%", "-j", "2"), (405, 270))])
def test_resize(rig: Rig, argv: tuple[str, ...], wanted: tuple[int, int]) -> None:
    recipe_worker(rig, "imagemagick-resize.sh", "resize", *argv)
    small = rig.submit("resize", stdin=PHOTO)
    assert (small.status, small.err, size_of(small.out)) == (0, "", wanted)


def test_without_farm_a_recipe_says_what_to_do_and_runs_nothing(rig: Rig) -> None:
    """A hint is text: what stands in it must not be run by the shell."""
    for directory in ("alone/lib", "path"):
        (rig.home / directory).mkdir(parents=True)
    for name in ("imagemagick-resize.sh", "lib/farm.sh", "lib/imagemagick.sh"):
        shutil.copy(RECIPES / name, rig.home / "alone" / name)
    for name in ("sh", "dirname", "readlink"):
        (rig.home / "path" / name).symlink_to(str(shutil.which(name)))
    rig.write("path/pip", f"#!/bin/sh\necho run > {rig.home}/pip-was-run\n", 0o755)
    done = rig.execute([str(rig.home / "alone/imagemagick-resize.sh")], b"", {"PATH": str(rig.home / "path")})
    assert (done.status, done.error) == (69, "no farm on the PATH, and none beside this recipe")
    assert done.hint == "run pip install . in a checkout of farm, or the recipe from there"
    assert not (rig.home / "pip-was-run").exists()


def test_thumbnail(rig: Rig) -> None:
    recipe_worker(rig, "imagemagick-thumbnail.sh", "thumbnail")
    small = rig.submit("thumbnail", stdin=PHOTO)
    assert (small.status, size_of(small.out)) == (0, (200, 200))


def test_what_is_no_picture_fails_the_job_with_imagemagicks_words(rig: Rig) -> None:
    recipe_worker(rig, "imagemagick-resize.sh", "resize")
    failed = rig.submit("resize", stdin=b"no picture")
    assert failed.status == 1
    assert failed.out == b""
    assert "no decode delegate" in failed.err


def test_a_program_that_only_calls_itself_convert_is_not_used(rig: Rig) -> None:
    (rig.home / "fake").mkdir()
    rig.write("fake/convert", "#!/bin/sh\necho 'Version: ImageMagick, they say'\n", 0o755)
    rig.env["PATH"] = f"{rig.home}/fake:{rig.env['PATH']}"
    recipe_worker(rig, "imagemagick-resize.sh", "resize")
    assert size_of(rig.submit("resize", stdin=PHOTO).out) == (810, 540)


def crontab_lines() -> list[tuple[str, str]]:
    """(when, command as cron gives it to sh) for each line of the example."""
    found = []
    for line in (RECIPES / "crontab.example").read_text().splitlines():
        match = re.match(r"(@\w+|(?:[\d*/,-]+\s+){5})\s*(.*)", line)
        if match and not line.startswith("#"):
            found.append((match[1].strip(), match[2].replace(r"\%", "%")))
    return found


def test_every_line_of_the_crontab_does_what_it_says(rig: Rig) -> None:
    lines = crontab_lines()
    assert [when for when, _ in lines] == ["30 2 * * *", "0 6 * * 1", "*/15 * * * *", "@reboot"]
    (rig.home / "inbox").mkdir()
    (rig.home / "sent").mkdir()
    (rig.home / "bin").mkdir()
    rig.write("report.conf", "nightly\n")
    rig.write("feeds.txt", "news\n")
    shutil.copy(CHECKOUT / "tests/data/barn.jpg", rig.home / "inbox/barn.jpg")
    rig.write("bin/make-report", f"#!/bin/sh\ncat > {rig.home}/report.out\n", 0o755)
    rig.worker("digest", "--", "cat")
    rig.background(["sh", "-c", lines[3][1]])
    for _, command in lines[:3]:
        done = rig.execute(["sh", "-c", command], b"", None)
        assert (done.status, done.out, done.err) == (0, b"", ""), command
    rig.wait_file("report.out", "nightly\n")
    (digest,) = rig.home.glob("digest-*.html")
    assert digest.read_text() == "news\n"
    assert [path.name for path in (rig.home / "sent").iterdir()] == ["barn.jpg"]
    assert rig.counts("archive") == (1, 0, 0)
