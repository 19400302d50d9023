"""Runs a ```console block as a person would type it, in one shell, and compares what is shown.

A line `$ COMMAND` is typed; the lines below it, up to the next one, are its output (`...` stands for anything on a
line, and alone for any number of lines). Comments start with `#`. A command that ends in `&` goes to the background,
and what it says goes to a file, because nobody can know when it says it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.rig import Rig

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
LATE = re.compile(r"^farm: waiting: .*\nhint: .*\n", re.M)  # on a slow machine a worker may come a second late


@dataclass
class Step:
    """One command, and the lines that the document shows below it."""

    command: str
    shown: list[str] = field(default_factory=list)

    def expected(self) -> str:
        """The output as a regular expression."""
        lines = ["(?:.*\n)*" if line == "..." else _escape(line) + "\n" for line in self.shown]
        return "".join(lines)


def _escape(line: str) -> str:
    return ".*".join(map(re.escape, line.split("...")))


def between(text: str, marker: str) -> str:
    """The part of a document between `<!-- marker -->` and `<!-- /marker -->`."""
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    assert text.count(begin) == text.count(end) == 1, f"the document has no part {marker!r}"
    return text.partition(begin)[2].partition(end)[0]


def steps(text: str) -> list[Step]:
    """All commands of all console blocks."""
    found: list[Step] = []
    for block in BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:].strip()))
            elif line.startswith("> ") and not found[-1].shown:
                found[-1].command += "\n" + line[2:]
            elif line and not line.startswith("#"):
                found[-1].shown.append(line)
    return found


def run(rig: Rig, typed: list[Step], env: dict[str, str]) -> None:
    """Type them all into one bash. Each must succeed and print what the document shows, and no more."""
    script = "".join(_typed(number, step) for number, step in enumerate(typed))
    session = rig.home / ".session"
    session.write_text(script)
    output = rig.home / ".output"
    with output.open("wb") as file:
        rig.execute(["bash", str(session)], b"", env, stdout=file, stderr=file)
    text = output.read_text()
    for number, step in enumerate(typed):
        ended = re.search(rf"^@begin {number}\n(.*?)\n?@end {number} (\d+)$", text, re.M | re.S)
        assert ended, f"$ {step.command}\ndid not end:\n{text}"
        printed, status = ended[1], ended[2]
        printed = LATE.sub("", printed + "\n" if printed and not printed.endswith("\n") else printed)
        assert status == "0", f"$ {step.command}\nexit status {status}:\n{printed}{_background(rig.home)}"
        assert re.fullmatch(step.expected(), printed), (
            f"$ {step.command}\nprinted:\n{printed}\nbut the document shows:\n" + "\n".join(step.shown)
        )


def _typed(number: int, step: Step) -> str:
    command = step.command
    if command.endswith("&"):
        command = f"{command[:-1]} >> .background 2>&1 &"
    return f"echo @begin {number}\n{command}\nprintf '\\n@end {number} %d\\n' $?\n"


def _background(home: Path) -> str:
    said = home / ".background"
    return f"\nin the background:\n{said.read_text()}" if said.exists() else ""
