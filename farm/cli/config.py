"""The configuration file (TOML: a table for a command, whose keys are its options), and how settings are shown."""

from __future__ import annotations

import difflib
import json
import tomllib

from farm.cli.options import FLAG, Command, Value, Values
from farm.errors import InputError, UsageError
from farm.net import reason

NOT_IN_FILE = ("config", "check")


def read(path: str, command: Command) -> Values:
    """The settings that a file gives for a command, as `options.complete` wants them.

    Raises InputError when it cannot be read, UsageError for what is no TOML, an unknown key or a value of a wrong kind.
    """
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except (OSError, ValueError) as error:
        if isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError):
            raise UsageError(f"{path} is not TOML: {error}") from error
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    for name in tables:
        if name != command.name:
            hint = f"the settings of farm {command.name} go into the table [{command.name}]"
            raise UsageError(f"{path}: unknown key or table {name!r}", hint)
    table = tables.get(command.name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: [{command.name}] is not a table")
    return {name: value for key, setting in table.items() for name, value in [_setting(path, command, key, setting)]}


def _setting(path: str, command: Command, key: str, setting: object) -> tuple[str, Value]:
    options = {option.name: option for option in command.options if option.name not in NOT_IN_FILE}
    name = key.replace("-", "_")
    option = options.get(name)
    if option is None:
        close = difflib.get_close_matches(name, options, n=1)
        hint = f"did you mean {close[0].replace('_', '-')}?" if close else f"farm {command.name} --help lists them"
        raise UsageError(f"{path}: unknown setting {key!r}", hint)
    if option.kind == FLAG:
        if not isinstance(setting, bool):
            raise UsageError(f"{path}: {key} is neither true nor false")
        return name, setting
    texts = setting if isinstance(setting, list) and option.repeat else [setting]
    if not all(isinstance(text, str | int | float) and not isinstance(text, bool) for text in texts):
        raise UsageError(f"{path}: {key} has a value of a wrong kind: {setting!r}")
    words = [str(text) for text in texts]
    return name, words if option.repeat else words[0]


def shown(values: Values, notes: dict[str, str]) -> str:
    """The settings of `farm server` as a file that can be read again, each with where it came from and what else there
    is to note of it. What is not set is a comment."""
    sources = values["sources"]
    assert isinstance(sources, dict)
    rows = []
    for name, source in sources.items():
        if name not in NOT_IN_FILE:
            note = notes.get(name, "")
            rows.append((_row(name.replace("_", "-"), values[name]), f"{source}; {note}" if note else source))
    width = max(len(row) for row, _ in rows)
    return "[server]\n" + "".join(f"{row:{width}}  # {source}\n" for row, source in rows)


def _row(name: str, value: Value) -> str:
    text = _toml(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # a path whose bytes are no text: TOML cannot say it
        return f"# {name} = {text.encode(errors='backslashreplace').decode()}"
    return f"# {name} =" if value is None else f"{name} = {text}"


def _toml(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.15g}"
    # JSON's strings are TOML's, but for DEL.
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
