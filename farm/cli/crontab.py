"""A crontab read as cron reads it: what is run when, and under which settings. Pure.

What a line's command becomes is a script for a worker that is a shell (`farm work sh -- sh`): the crontab's settings
are exported, the command runs by its SHELL, and its stdin is what stands behind a `%`, else empty.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from farm.broker.schedule import Schedule
from farm.errors import EXIT_DATA, FarmError, UsageError

CRONTAB_MAX = 1024 * 1024  # bytes of one, as cron's own are

_SETTING = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z_]\w*)\s*=\s*(.*?)\s*""")
_DEFAULT_SHELL = "/bin/sh"
_MAIL = frozenset(("MAILTO", "MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING"))
_UNKNOWN = frozenset(("RANDOM_DELAY", "START_HOURS_RANGE"))  # of other crons: they would change when a job runs


class Line(NamedTuple):
    """number: of the line in the file. when: its five fields, or a word. user: whom it is to run as, where it says."""

    number: int
    when: str
    zone: str
    user: str
    command: str
    payload: str


class Crontab(NamedTuple):
    """lines: those that are jobs. warnings: what is otherwise than cron does it."""

    lines: list[Line]
    warnings: list[str]


def read(text: str, source: str, zone: str, system: bool = False) -> Crontab:
    """A whole crontab. zone: where it does not say itself. system: with a column of users. Raises FarmError with the
    number of the first line that is wrong."""
    reader = _Reader(zone, system)
    for number, line in enumerate(text.split("\n"), 1):
        try:
            reader.take(number, line.strip())
        except UsageError as error:
            raise FarmError(f"{source}: line {number}: {error.message}", error.hint, EXIT_DATA) from error
    return Crontab(reader.lines, reader.warnings())


class _Reader:
    def __init__(self, zone: str, system: bool) -> None:
        self.lines: list[Line] = []
        self._zone = zone
        self._system = system
        self._settings: dict[str, str] = {}
        self._shell = _DEFAULT_SHELL
        self._ignored: dict[str, int] = {}  # setting -> where
        self._rebooted: list[int] = []
        self._users: dict[str, None] = {}

    def take(self, number: int, line: str) -> None:
        """One line without the blanks around it."""
        if not line or line.startswith("#"):
            return
        if match := _SETTING.fullmatch(line):
            self._set(number, _unquoted(match[1]), _unquoted(match[2]))
            return
        when, rest = _split(line.removeprefix("-").lstrip())  # `-`: do not log it, in some crons
        if when.lower() == "@reboot":
            self._rebooted.append(number)
            return
        Schedule(when, self._zone)  # or it says what is wrong
        user = ""
        if self._system:
            user, _, rest = rest.partition(" ") if " " in rest else rest.partition("\t")
            self._users[user] = None
        command, stdin = _command_and_input(rest.strip())
        if not command:
            raise UsageError("there is no command", "is there a user's name before it? --system" if not user else "")
        self.lines.append(Line(number, when, self._zone, user, command, self._script(command, stdin)))

    def _set(self, number: int, name: str, value: str) -> None:
        if name == "CRON_TZ":
            Schedule("@daily", value)
            self._zone = value
        elif name == "SHELL":
            self._shell = value or _DEFAULT_SHELL
        elif name in _MAIL or name in _UNKNOWN:
            self._ignored.setdefault(name, number)
        elif not name.isidentifier():
            raise UsageError(f"{name!r} is no name of a setting")
        else:
            self._settings[name] = value

    def _script(self, command: str, stdin: str | None) -> str:
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self._settings.items())
        run = f"exec {shlex.quote(self._shell)} -c {shlex.quote(command)}"
        if stdin is None:
            return f"{exports}{run} < /dev/null\n"
        end = "END"
        while f"\n{end}\n" in f"\n{stdin}\n":
            end += "_"
        return f"{exports}{run} <<'{end}'\n{stdin}\n{end}\n"

    def warnings(self) -> list[str]:
        """What a person has to know."""
        found = []
        for name, number in self._ignored.items():
            why = "no mail is sent: farm logs and farm jobs --state dead show what a job says" if name in _MAIL else ""
            found.append(f"line {number}: {name} has no meaning here; {why or 'jobs start at their time'}")
        found += [
            f"line {number}: left out: @reboot is no time; start it by the machine's service manager"
            for number in self._rebooted
        ]
        if self._users:
            names = ", ".join(self._users)
            found.append(f"the users ({names}) have no meaning here: jobs run as the user whose worker takes them")
        return found


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _split(line: str) -> tuple[str, str]:
    """When, and the rest."""
    words = line.split(None, 1 if line.startswith("@") else 5)
    fields = 1 if line.startswith("@") else 5
    if len(words) < fields:
        raise UsageError("neither a setting nor five fields and a command")
    return " ".join(words[:fields]), words[fields] if len(words) > fields else ""


def _command_and_input(text: str) -> tuple[str, str | None]:
    r"""The first % ends the command, and each further one a line of its stdin; `\%` is a percent sign."""
    parts = [part.replace(r"\%", "%") for part in re.split(r"(?<!\\)%", text)]
    return parts[0].strip(), "\n".join(parts[1:]) if len(parts) > 1 else None


# -- names


def name_of(command: str, taken: set[str], prefix: str = "") -> str:
    """A name for an entry that nobody named: its program's, with a number where that is taken."""
    program = next((word for word in command.split() if "=" not in word), "job").rpartition("/")[2]
    base = prefix + (re.sub(r"[^A-Za-z0-9._-]+", "", program)[:60] or "job")
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name
