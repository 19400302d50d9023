"""The table of options, and how values are completed from command line, environment and defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cli.options import COMMON, FLAG, SERVE, STATUS, SUBMIT, WORK, Values, commands, complete
from farm.errors import FarmError, UsageError

COMMANDS = {command.name: command for command in commands()}


def test_the_table_is_sound() -> None:
    """No name or flag twice in a command, every default is one of its choices, help is a sentence."""
    for command in COMMANDS.values():
        names = [thing.name for thing in (*command.options, *command.arguments)]
        flags = [flag for option in command.options for flag in option.flags]
        assert len(set(names)) == len(names)
        assert len(set(flags)) == len(flags)
        assert "-h" not in flags
        assert sum(argument.rest for argument in command.arguments[:-1]) == 0
        for option in command.options:
            assert option.help.endswith(".")
            assert all(flag.startswith("--") or (len(flag) == 2 and flag[0] == "-") for flag in option.flags)
            assert not option.choices or option.default in option.choices
            assert (option.kind == FLAG) == (not option.metavar)
            assert not option.env or option.env.startswith(("FARM_", "GEARMAND_"))


def test_every_default_is_a_value_that_could_be_typed() -> None:
    for command in COMMANDS.values():
        defaults = complete(command, {}, {})
        typed: Values = {
            option.name: [option.default] if option.repeat else option.default
            for option in command.options
            if option.default
        }
        assert complete(command, typed, {}) | {"sources": {}} == defaults | {"sources": {}}
        assert all(defaults[option.name] is False for option in command.options if option.kind == FLAG)


def test_what_was_given_comes_before_the_environment_before_the_default() -> None:
    env = {"FARM_LOG_LEVEL": "info"}
    assert complete(SERVE, {"log_level": "debug"}, env)["log_level"] == "debug"
    assert complete(SERVE, {}, env)["log_level"] == "info"
    assert complete(SERVE, {}, {})["log_level"] == "notice"
    assert complete(STATUS, {"server": ["a"]}, {"FARM_SERVER": "b"})["server"] == ["a"]
    assert complete(STATUS, {}, {"FARM_SERVER": "b,c"})["server"] == ["b,c"]
    assert complete(STATUS, {}, {})["server"] == ["127.0.0.1:4730"]


def test_an_empty_variable_is_an_absent_one() -> None:
    """`FARM_SERVER= farm status`: the shell's way to take a variable away for one command."""
    env = {"FARM_SERVER": "", "FARM_INSECURE": ""}
    assert complete(STATUS, {}, env) == complete(STATUS, {}, {})
    assert complete(SERVE, {}, {"FARM_LOG_FILE": "", "FARM_LOG_LEVEL": ""}) == complete(SERVE, {}, {})


def test_an_empty_word_is_a_value() -> None:
    """`-f "$file"` with nothing in it is a mistake to be told of, not a way to say stdin."""
    assert complete(SUBMIT, {"file": ""}, {})["file"] == ""
    assert complete(SERVE, {"log_file": ""}, {"FARM_LOG_FILE": "log"})["log_file"] == ""
    assert complete(SUBMIT, {}, {})["file"] is None
    with pytest.raises(UsageError, match="--priority cannot be ''"):
        complete(SUBMIT, {"priority": ""}, {})


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("yes", True), ("TRUE", True), ("on", True), ("0", False), ("No", False)]
)
def test_a_flag_in_the_environment(text: str, value: bool) -> None:
    assert complete(STATUS, {}, {"FARM_INSECURE": text})["insecure"] is value
    assert complete(STATUS, {"insecure": True}, {"FARM_INSECURE": text})["insecure"] is True


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10.0), ("10s", 10.0), ("500ms", 0.5), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86400.0), ("1e3s", 1000.0)],
)
def test_times(text: str, seconds: float) -> None:
    assert complete(STATUS, {"every": text}, {})["every"] == seconds


@pytest.mark.parametrize("text", ["0", "-1", "1x", "s", "nan", "inf", "1 day", "", "1:30", "1e300d", "0x10", "1S"])
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match="--every is not a time"):
        complete(STATUS, {"every": text}, {})


def test_results_may_be_kept_for_no_time() -> None:
    assert [complete(SERVE, {"keep_results": text}, {})["keep_results"] for text in ("0", "0s", "7d")] == [0, 0, 604800]
    for text in ("", "-1", "s", "nan"):
        with pytest.raises(UsageError, match="--keep-results is not a time"):
            complete(SERVE, {"keep_results": text}, {})


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("1K", 1024), ("64M", 64 << 20), ("64MiB", 64 << 20), ("1gb", 1 << 30), ("1.5k", 1536)]
)
def test_sizes(text: str, size: int) -> None:
    assert complete(SERVE, {"max_job_size": text}, {})["max_job_size"] == size


@pytest.mark.parametrize("text", ["0", "0.5", "-1M", "M", "1T", "", "many"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--max-job-size is not a size"):
        complete(SERVE, {"max_job_size": text}, {})


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "²", "٣", "9" * 10, "9" * 5000])
def test_no_counts(text: str) -> None:
    with pytest.raises(UsageError, match="--jobs is not a whole number above 0"):
        complete(WORK, {"jobs": text}, {})


def test_the_environments_name_is_in_the_error() -> None:
    with pytest.raises(UsageError, match="FARM_LOG_LEVEL cannot be 'loud'") as caught:
        complete(SERVE, {}, {"FARM_LOG_LEVEL": "loud"})
    assert caught.value.hint == "one of: critical, error, warning, notice, info, debug"


WITH_TEXT = sorted(name for name, one in COMMANDS.items() if any(option.kind != FLAG for option in one.options))


@given(st.sampled_from(WITH_TEXT), st.text() | st.text("\n\r\x1b\u2028\x85"), st.data())
def test_any_text_is_a_value_or_an_error(name: str, text: str, data: st.DataObject) -> None:
    """No option's text ends in anything but a value or a UsageError of one line."""
    command = COMMANDS[name]
    option = data.draw(st.sampled_from([option for option in command.options if option.kind != FLAG]))
    message = ""
    try:
        complete(command, {option.name: [text] if option.repeat else text}, {})
    except FarmError as error:
        message = error.message
    assert len(message.splitlines()) <= 1
    assert "\x1b" not in message


def test_what_may_stand_before_the_command_may_stand_after_it() -> None:
    for command in (SUBMIT, WORK, STATUS):
        assert set(COMMON) <= set(command.options)
