"""RESULTS.md: a section for each part of the benchmarks, replaced when that part was measured again."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

FILE = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Measured

By `bin/bench --write`, which replaces the sections of the parts that it measured. How it is measured: tests/bench."""


def write(title: str, command: str, text: str, file: Path = FILE) -> None:
    """Put a section in the place of the one with the same title, or at the end."""
    old = file.read_text() if file.exists() else _HEAD
    head, *sections = old.rstrip("\n").split("\n\n## ")
    section = f"{title}\n\n`{command}`, {_machine()}.\n\n{text}"
    titles = [one.partition("\n")[0] for one in sections]
    if title in titles:
        sections[titles.index(title)] = section
    else:
        sections.append(section)
    file.write_text("\n\n## ".join([head, *sections]) + "\n")


def missed(text: str) -> list[str]:
    """The rows of the tables in which a figure is not what the column `wanted` behind it wants, in words."""
    found = []
    titles: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if "wanted" in cells:
            titles = cells
        for column, cell in enumerate(cells):
            sign, _, limit = cell.partition(" ")
            if sign not in ("≥", "≤") or titles[column : column + 1] != ["wanted"]:
                continue
            figure = next(reversed([other for other in cells[:column] if other.startswith("**")]))
            have, want = _number(figure), _number(limit)
            if (have < want) if sign == "≥" else (have > want):
                what = next(title for title in reversed(titles[:column]) if title and title != "gearmand")
                found.append(f"{cells[0]}: {what} {figure.split()[0].strip('*')}, wanted {cell}")
    return found


def _number(text: str) -> float:
    """`**1.95** (1 to 2)` and `50%` alike."""
    return float(text.split()[0].strip("*%").replace(",", ""))


def _machine() -> str:
    """What of it matters to a result, and nothing that says whose it is."""
    words = [f"{os.cpu_count()} processors ({platform.machine()})", f"Python {platform.python_version()}"]
    words.append(datetime.datetime.now(tz=datetime.UTC).date().isoformat())
    return ", ".join(words)


def gearmand_version() -> str:
    """As it says itself."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(["gearmand", "--version"], env={"PATH": path}, capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[1] if len(words) > 1 else "unknown"
