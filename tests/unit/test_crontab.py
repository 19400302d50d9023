"""Crontabs as cron reads them, and what their lines become for a worker that is a shell."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.cli.crontab import Line, name_of, read
from farm.errors import FarmError


def lines(text: str, system: bool = False) -> list[Line]:
    return read(text, "tab", "UTC", system).lines


def ran(line: Line, home: str = "/") -> str:
    """What a worker's `sh` makes of a line's payload."""
    done = subprocess.run(["sh"], input=line.payload, text=True, capture_output=True, cwd=home, env={"A": "given"})
    return done.stdout + done.stderr + (f"exit {done.returncode}" if done.returncode else "")


def test_lines_comments_and_blanks() -> None:
    found = lines("# m h\n\n  # indented\n*/5 * * * *  echo a  b \n\t0 6 * * mon-fri\tcd /x && y\n@daily z\n")
    assert [(line.number, line.when, line.command) for line in found] == [
        (4, "*/5 * * * *", "echo a  b"),
        (5, "0 6 * * mon-fri", "cd /x && y"),
        (6, "@daily", "z"),
    ]


def test_the_last_line_needs_no_end_and_ends_may_be_windows() -> None:
    assert [line.command for line in lines("* * * * * a\r\n* * * * * b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("echo it\\'s", "it's\n"),
        ("echo \"$A\" 'b  c' # no more", "given b  c\n"),
        ("cat", ""),
        ("cat; echo end", "end\n"),
        ("exit 3", "exit 3"),
        ("echo }; echo )", "sh: 1: Syntax error"),
        ("cat%Hello,%this is it", "Hello,\nthis is it\n"),
        ("cat %", "\n"),
        ("date -d @0 -u +\\%F%ignored", "1970-01-01\n"),
        ("cat%100\\%%$A `x`", "100%\n$A `x`\n"),
        ("cat%a%END%b", "a\nEND\nb\n"),
        ("wc -l%a%END%END_", "3\n"),
    ],
)
def test_commands_do_what_they_do_under_cron(command: str, output: str) -> None:
    (line,) = lines(f"* * * * * {command}\n")
    assert output in ran(line) if "Syntax" in output or "exit" in output else ran(line) == output


def test_settings_hold_for_the_lines_below_them() -> None:
    text = (
        '* * * * * echo $A $B\nA=one\nB = \' two \'\n* * * * * echo "$A$B|"\nA=three # no comment\n"C"="x=y"\n'
        "* * * * * echo $A $C\n"
    )
    assert [ran(line) for line in lines(text)] == ["given\n", "one two |\n", "three # no comment x=y\n"]


def test_another_shell() -> None:
    first, second = lines("SHELL=/bin/bash\n* * * * * echo ${BASH_VERSION:+bash}\nSHELL=\n* * * * * echo $0\n")
    assert (ran(first), ran(second)) == ("bash\n", "/bin/sh\n")


def test_a_zone() -> None:
    first, second = lines("0 1 * * * a\nCRON_TZ=Europe/Berlin\n0 1 * * * b\n")
    assert (first.zone, second.zone) == ("UTC", "Europe/Berlin")


def test_what_is_otherwise_is_said() -> None:
    text = 'MAILTO=me\nMAILTO=""\nRANDOM_DELAY=5\n@reboot start\n0 1 * * * a\n@Reboot start\n'
    assert read(text, "tab", "UTC").warnings == [
        "line 1: MAILTO has no meaning here; no mail is sent: farm logs and farm jobs --state dead show what a job"
        " says",
        "line 3: RANDOM_DELAY has no meaning here; jobs start at their time",
        "line 4: left out: @reboot is no time; start it by the machine's service manager",
        "line 6: left out: @reboot is no time; start it by the machine's service manager",
    ]


def test_a_system_crontab() -> None:
    found = read(
        "17 *\t* * *\troot    cd / && run-parts x\n@daily www\tb\n-5 1 * * * root c\n", "tab", "UTC", system=True
    )
    assert [(line.user, line.when, line.command) for line in found.lines] == [
        ("root", "17 * * * *", "cd / && run-parts x"),
        ("www", "@daily", "b"),
        ("root", "5 1 * * *", "c"),
    ]
    assert found.warnings == [
        "the users (root, www) have no meaning here: jobs run as the user whose worker takes them"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n61 * * * * x", "tab: line 2: not a cron line: bad minute in '61 * * * *'"),
        ("0 0 31 2 * x", "tab: line 1: this cron line never comes: '0 0 31 2 *'"),
        ("* * * *", "tab: line 1: neither a setting nor five fields and a command"),
        ("* * * * *", "tab: line 1: there is no command"),
        ("@daily", "tab: line 1: there is no command"),
        ("@often x", "tab: line 1: not a cron line: '@often'"),
        ("* * * * * %x", "tab: line 1: there is no command"),
        ("CRON_TZ=Mars\n* * * * * x", "tab: line 1: there is no time zone 'Mars'"),
        ("'a b'=c\n* * * * * x", "tab: line 1: 'a b' is no name of a setting"),
        ("'é\n'=c", "tab: line 1: neither a setting nor five fields and a command"),
        ("hello", "tab: line 1: neither a setting nor five fields and a command"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(FarmError) as caught:
        lines(text)
    assert (caught.value.message, caught.value.status) == (message, 65)


def test_a_system_crontab_line_without_a_command() -> None:
    with pytest.raises(FarmError, match="line 1: there is no command"):
        lines("* * * * * root\n", system=True)


def test_names() -> None:
    taken: set[str] = set()
    commands = ["/usr/bin/backup --all", "A=1 backup", "backup;x", "§", "$(x)", "FOO=1"]
    assert [name_of(command, taken) for command in commands] == ["backup", "backup-2", "backupx", "job", "x", "job-2"]
    assert name_of("backup", taken, "night-") == "night-backup"
    assert len(name_of("x" * 500, taken)) == 60


_tab = st.lists(
    st.sampled_from(["* * * * * ", "@daily ", "A=", "# ", "5 4 * * 1-5 ", "%", "\\%", "root ", "echo ", "'", '"', "\n"])
    | st.text(max_size=8),
    max_size=12,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(_tab, st.booleans())
def test_any_text_is_a_crontab_or_a_clear_error(text: str, system: bool) -> None:
    try:
        found = read(text, "tab", "UTC", system)
    except FarmError as error:
        clear = error.message.startswith("tab: line ") and "\n" not in error.message
    else:
        taken: set[str] = set()
        clear = all(line.command and line.payload and name_of(line.command, taken) for line in found.lines)
    assert clear


@settings(max_examples=40, deadline=None)
@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="%\0\n\r", exclude_categories=["Zs", "Zl", "Zp", "Cc"]),
        max_size=20,
    )
)
def test_a_word_reaches_the_command_whole(word: str) -> None:
    import shlex

    (line,) = lines(f"* * * * * printf '<\\%s>' {shlex.quote(word)}")
    assert ran(line) == f"<{word}>"
