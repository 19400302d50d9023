"""`farm cron` through real processes, at a real server and at servers that answer as they are told."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest

from tests.cli.fake_jobs import STOCK, answer, error, job_server
from tests.cli.rig import Done, Rig, ServerRunning
from tests.support import free_port

LINE = "30 2 * * *"
FIELDS = "minute, hour, day of the month, month, day of the week, as in '*/5 * * * *'"
KEYS = [
    "server", "name", "line", "zone", "function", "unique", "terms", "overlap", "catch_up", "paused", "fault",
    "created_at", "next_at", "payload_bytes", "last",
]  # fmt: skip


def cron(rig: Rig, *argv: str, stdin: bytes = b"") -> Done:
    """It must succeed, and say nothing."""
    done = rig.run("cron", *argv, stdin=stdin)
    assert (done.status, done.err) == (0, ""), done.err
    return done


def entries(rig: Rig, *argv: str) -> list[dict[str, Any]]:
    fields = json.loads(cron(rig, *argv, "--json").out)
    assert fields["schema"] == "farm.cron/1"
    return list(fields["entries"])


def names(rig: Rig) -> list[str]:
    return [entry["name"] for entry in entries(rig, "list")]


@pytest.fixture
def own(lone_rig: Rig) -> Rig:
    """A rig with a server of its own: entries are the server's, not a function's."""
    lone_rig.env["FARM_SERVER"] = lone_rig.server().address
    lone_rig.env["TZ"] = "Europe/Berlin"
    return lone_rig


def test_the_days_of_an_entry(own: Rig) -> None:
    added = cron(
        own, "add", LINE, "report", "-p", "high", "--retries", "3", "--timeout", "5m", "--retry-on", "75", stdin=b"data"
    )
    assert added.out == b""
    (entry,) = entries(own, "list")
    assert list(entry) == KEYS
    assert entry | {"server": "", "created_at": "", "next_at": ""} == {
        "server": "",
        "name": "report",
        "line": LINE,
        "zone": "Europe/Berlin",
        "function": "report",
        "unique": None,
        "terms": {"priority": "high", "retries": "3", "timeout": "300", "retry-on": "75"},
        "overlap": "skip",
        "catch_up": "none",
        "paused": False,
        "fault": None,
        "created_at": "",
        "next_at": "",
        "payload_bytes": 4,
        "last": [],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT0[01]:30:00\.000Z", entry["next_at"])
    own.worker("report", "--", "sh", "-c", "cat; echo ran >&2")
    handle = cron(own, "run", "report").out.decode().strip()
    assert own.run("wait", handle).status == 0
    assert own.run("result", handle).out == b"data"
    (entry,) = entries(own, "show", "report")
    assert [(run["id"], run["note"]) for run in entry["last"]] == [(handle, "by hand")]
    cron(own, "pause", "report")
    assert entries(own, "list")[0]["next_at"] is None
    assert cron(own, "list").out.decode().splitlines()[1].split("\t")[4] == "paused"
    assert cron(own, "next").out == b""
    (resumed,) = entries(own, "resume", "report")
    assert resumed["next_at"] and not resumed["paused"]
    assert entries(own, "remove", "report")[0]["name"] == "report"
    assert names(own) == []


def test_rows_for_pipes(own: Rig) -> None:
    cron(own, "add", LINE, "report", "-n")
    cron(own, "add", "@daily", "f", "--name", "other", "--zone", "UTC", "-n")
    handle = cron(own, "run", "report").out.decode().strip()
    header, *rows = [line.split("\t") for line in cron(own, "list").out.decode().splitlines()]
    assert header == ["NAME", "LINE", "ZONE", "FUNCTION", "NEXT", "LAST", "JOB", "NOTE"]
    assert [row[:4] for row in rows] == [["other", "@daily", "UTC", "f"], ["report", LINE, "Europe/Berlin", "report"]]
    assert rows[0][4].endswith("T00:00:00.000Z") and rows[0][5:] == ["", "", ""]
    assert rows[1][6:] == [handle, "by hand"]


def test_for_a_person(own: Rig) -> None:
    cron(own, "add", LINE, "report", "--unique", "night", "--overlap", "queue", "-n")
    handle = cron(own, "run", "report").out.decode().strip()
    shown = cron(own, "show", "report").out.decode()
    assert re.fullmatch(
        r"name      report\nline      30 2 \* \* \*  \(Europe/Berlin\)\nfunction  report\nunique    night\n"
        r"overlap   queue\ncatch up  none\npayload   0 bytes\ncreated   [-\d: ]{19}\nnext      [-\d]{10} 02:30:00\n"
        rf"[-\d: ]{{19}}  {handle}  by hand\n",
        shown,
    ), shown
    terminal = own.terminal("cron", "list")
    terminal.expect(r"NAME +LINE +ZONE +FUNCTION +NEXT +LAST +JOB +NOTE\r\n")
    terminal.expect(
        r"report  30 2 \* \* \*  Europe/Berlin  report    [-\d]{10} 02:30:00  [-\d: ]{19}  H:\S+  by hand\r\n"
    )


def test_the_payload(own: Rig) -> None:
    own.write("data", "of a file")
    cron(own, "add", LINE, "a", stdin=b"\0binary\xff")
    cron(own, "add", LINE, "b", "-f", "data")
    cron(own, "add", LINE, "c", "-f", "-", stdin=b"dash")
    cron(own, "add", LINE, "d", "-n", stdin=b"not read")
    terminal = own.terminal("cron", "add", LINE, "e")  # a terminal is not waited for
    assert terminal.wait() == 0
    for function in "abcde":
        own.worker(function, "--", "cat")
    handles = [cron(own, "run", name).out.decode().strip() for name in "abcde"]
    assert own.run("wait", *handles).status == 0
    results = [own.run("result", handle).out for handle in handles]
    assert results == [b"\0binary\xff", b"of a file", b"dash", b"", b""]


# -- what is wrong


@pytest.mark.parametrize(
    ("argv", "status", "message", "hint"),
    [
        (["61 * * * *", "f"], 64, "not a cron line: bad minute in '61 * * * *'", ""),
        (["30 2 31 2 *", "f"], 64, "this cron line never comes: '30 2 31 2 *'", "no year has such a day"),
        (["@reboot", "f"], 64, "@reboot is no time", "start what is to run with the machine by its service manager"),
        (["* * * *", "f"], 64, "a cron line has five fields: '* * * *'", FIELDS),
        ([LINE, "f", "--zone", "Mars"], 64, "there is no time zone 'Mars'", "a name like Europe/Berlin, or UTC"),
        ([LINE, "f", "--zone", ""], 64, "--zone is empty", "is a variable of the script not set?"),
        ([LINE, "a b"], 64, "the function name 'a b' contains a blank or a control character", ""),
        ([LINE, "f", "--name", "a b"], 64, "The name of an entry is a word of at most 128 characters", ""),
        ([LINE, "f", "--overlap", "no"], 64, "--overlap cannot be 'no'", "one of: skip, queue, replace"),
        (
            [LINE, "f", "--overlap", "replace", "--catch-up", "all"],
            64,
            "--overlap replace and --catch-up all exclude each other",
            "--catch-up last, or --overlap queue",
        ),
        ([LINE, "f", "--retries", "x"], 64, "Bad value of retries: x", ""),
        ([LINE, "f", "--timeout", "x"], 64, "--timeout is not a time: 'x'", "write 10s, 500ms, 5m, 2h or 2h30m"),
        ([LINE, "f", "--retry-on", "perhaps"], 64, None, None),
        ([LINE, "f", "--unique", "u" * 65], 75, None, None),
        ([LINE, "f", "-f", "/nowhere"], 66, "cannot read /nowhere: no such file or directory", ""),
        ([LINE, "f", "-n", "-f", "x"], 64, "--no-input and --file exclude each other", ""),
    ],
)  # fmt: skip
def test_add_wrongly(rig: Rig, argv: list[str], status: int, message: str | None, hint: str | None) -> None:
    done = rig.run("cron", "add", *argv)
    assert (done.status, done.out) == (status, b"")
    if message is not None:
        assert done.error == message
        assert done.err.count("\n") == 1 if not hint else done.hint == hint
    assert names(rig) == []


def test_a_name_twice(own: Rig) -> None:
    cron(own, "add", LINE, "f", stdin=b"one")
    cron(own, "add", LINE, "f", stdin=b"one")
    again = own.run("cron", "add", LINE, "f", stdin=b"two")
    assert (again.status, again.error) == (64, "There is a cron entry f already")
    assert again.hint == "--replace puts the new one in its place"
    cron(own, "add", "@hourly", "f", "--replace", stdin=b"three")
    assert [(entry["line"], entry["payload_bytes"]) for entry in entries(own, "list")] == [("@hourly", 5)]


@pytest.mark.parametrize("verb", ["show", "remove", "pause", "resume", "run", "next"])
def test_no_such_entry(rig: Rig, verb: str) -> None:
    done = rig.run("cron", verb, "nobody")
    assert (done.status, done.out, done.error) == (66, b"", "no cron entry 'nobody'")
    assert done.hint == "`farm cron list` lists those that there are"


@pytest.mark.parametrize("argv", [["list"], ["add", LINE, "f", "-n"], ["run", "x"], ["next"], ["import", "tab"]])
def test_a_stock_server_is_told_apart(lone_rig: Rig, argv: list[str]) -> None:
    lone_rig.write("tab", "* * * * * x\n")
    with job_server({}, STOCK) as (address, _):
        done = lone_rig.run("cron", *argv, "-s", address)
    assert done.status == 69
    assert done.error == f"the server at {address} is a stock Gearman server; this needs farm's own"


def test_a_refusal_because_of_another_machine(lone_rig: Rig) -> None:
    refusing = error("PERMISSION_DENIED", "This is taken from the server's own machine only")
    with job_server({"cron add": refusing}) as (address, _):
        done = lone_rig.run("cron", "add", LINE, "f", "-n", "-s", address)
    assert (done.status, done.hint) == (77, "ask from its own machine, or start it with --remote-admin")


@pytest.mark.parametrize(
    "said", [{}, {"entries": 5}, {"entries": [5]}, {"entries": [{"name": "x"}]}, {"entries": [{"name": 5}]}]
)
def test_strange_answers(lone_rig: Rig, said: object) -> None:
    with job_server({"cron": answer("cron", said)}) as (address, _):
        done = lone_rig.run("cron", "list", "-s", address)
    assert (done.status, done.out) == (76, b"")
    assert done.error and "Traceback" not in done.err


def test_words_of_others_do_not_reach_the_terminal(lone_rig: Rig) -> None:
    entry = {
        "name": "a\x1b[2J",
        "line": "\t",
        "zone": "z",
        "function": "f",
        "next_at": 5,
        "last": [{"at": 1, "note": "\n"}],
    }
    with job_server({"cron": answer("cron", {"entries": [entry]})}) as (address, _):
        done = lone_rig.run("cron", "list", "-s", address)
        assert done.status == 0
        assert done.out.decode().splitlines()[1].split("\t")[0] == "a\\x1b[2J"
        following = lone_rig.run("cron", "next", "-s", address)
    assert following.out == b"1970-01-01T00:00:05+00:00\ta\\x1b[2J\n"


# -- several servers


def test_two_servers(lone_rig: Rig) -> None:
    one, two = lone_rig.server(), lone_rig.server()
    both = f"{one.address},{two.address}"
    cron(lone_rig, "add", LINE, "f", "-n", "-s", two.address)
    cron(lone_rig, "add", LINE, "g", "-n", "-s", both)
    where = {entry["name"]: entry["server"] for entry in entries(lone_rig, "list", "-s", both)}
    assert where == {"f": two.address, "g": one.address}
    there = lone_rig.run("cron", "add", "@daily", "f", "-n", "-s", both)
    assert (there.status, there.error) == (64, f"the server at {two.address} has a cron entry f already")
    cron(lone_rig, "add", "@daily", "f", "-n", "--replace", "-s", both)
    cron(lone_rig, "run", "f", "-s", both)
    cron(lone_rig, "add", LINE, "g", "-n", "-s", two.address)
    twice = lone_rig.run("cron", "pause", "g", "-s", both)
    assert (twice.status, twice.hint) == (64, "say which with --server")
    dead = f"127.0.0.1:{free_port()}"
    listed = lone_rig.run("cron", "list", "-s", f"{dead},{one.address}")
    assert listed.status == 0 and dead in listed.err
    assert lone_rig.run("cron", "show", "f", "-s", f"{dead},{one.address}").status == 69
    added = lone_rig.run("cron", "add", LINE, "h", "-n", "-s", f"{dead},{one.address}")
    assert (added.status, added.error) == (69, f"no server at {dead}: connection refused")
    assert added.hint == "an entry of this name may be there too, and run twice: farm cron list, when it answers"
    assert lone_rig.run("cron", "show", "h", "-s", one.address).status == 0


# -- times to come


def test_next_of_a_line_without_a_server(lone_rig: Rig) -> None:
    lone_rig.env["FARM_SERVER"] = f"127.0.0.1:{free_port()}"
    lone_rig.env["TZ"] = "Asia/Kolkata"
    found = cron(lone_rig, "next", "--line", "*/15 * * * *", "-n", "3").out.decode().splitlines()
    assert len(found) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:(00|15|30|45):00\+05:30", line) for line in found)
    assert len(cron(lone_rig, "next", "--line", "@daily", "--zone", "UTC").out.splitlines()) == 5
    times = json.loads(cron(lone_rig, "next", "--line", "0 0 29 2 *", "--zone", "UTC", "-n", "1", "--json").out)[
        "times"
    ]
    assert times[0]["local"] == times[0]["at"].replace(".000Z", "+00:00") and "-02-29T" in times[0]["at"]
    assert (times[0]["zone"], times[0]["name"]) == ("UTC", None)


def test_next_of_a_night_that_is_longer(own: Rig) -> None:
    """In the entry's zone, from what the server says is next."""
    at = 1792888200.0  # 2026-10-25 02:30 in Berlin, for the first time
    entry = {"name": "e", "line": "30 * * * *", "zone": "Europe/Berlin", "function": "f", "next_at": at, "last": []}
    with job_server({"cron": answer("cron", {"entries": [entry]})}) as (address, _):
        found = cron(own, "next", "e", "-n", "3", "-s", address).out.decode()
    assert found == ("2026-10-25T02:30:00+02:00\te\n2026-10-25T02:30:00+01:00\te\n2026-10-25T03:30:00+01:00\te\n")


def test_next_of_all_in_order(own: Rig) -> None:
    for name, line in (("a", "0 * * * *"), ("b", "30 * * * *")):
        cron(own, "add", line, "f", "--name", name, "-n")
    found = cron(own, "next", "-n", "4").out.decode().split()[1::2]
    assert found in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
    wrong = own.run("cron", "next", "a", "--line", LINE)
    assert (wrong.status, wrong.error) == (64, "a name and --line exclude each other")
    assert own.run("cron", "next", "--zone", "UTC").error == "--zone is for --line"


# -- crontabs

TAB = """\
MAILTO=me
GREETING=hello
*/5 * * * * echo "$GREETING, $(cat)"%world
@daily /usr/bin/backup --all
"""


def test_a_crontab(own: Rig) -> None:
    own.write("tab", TAB)
    planned = own.run("cron", "import", "tab", "--dry-run", "-q")
    assert (planned.status, planned.err, names(own)) == (0, "", [])
    done = own.run("cron", "import", "tab", "--catch-up", "last", "--timeout", "60")
    assert done.out == planned.out
    assert done.out.decode().splitlines() == [
        'echo\t*/5 * * * *\tEurope/Berlin\techo "$GREETING, $(cat)"',
        "backup\t@daily\tEurope/Berlin\t/usr/bin/backup --all",
    ]
    assert done.err == (
        "farm: warning: tab: line 1: MAILTO has no meaning here; no mail is sent: farm logs and farm jobs --state dead"
        " show what a job says\nfarm: a worker has to run them: farm work sh -- sh\n"
    )
    for entry in entries(own, "list"):
        assert (entry["function"], entry["catch_up"], entry["terms"]) == ("sh", "last", {"timeout": "60"})
    own.worker("sh", "--", "sh")
    handle = cron(own, "run", "echo").out.decode().strip()
    own.run("wait", handle)
    assert own.run("result", handle).out == b"hello, world\n"
    own.write("tab", TAB + "@hourly new\n")
    again = own.run("cron", "import", "tab", "-q", "--catch-up", "last", "--timeout", "60")
    assert (again.status, sorted(names(own))) == (0, ["backup", "echo", "new"]), "the same is no mistake"


def test_a_crontab_is_taken_in_whole_or_not_at_all(own: Rig) -> None:
    cron(own, "add", LINE, "f", "--name", "backup", "-n")
    taken = own.run("cron", "import", "-", stdin=TAB.encode())
    assert (taken.status, taken.error) == (64, "There is a cron entry backup already")
    assert names(own) == ["backup"]
    bad = own.run("cron", "import", "-", "-q", stdin=TAB.encode() + b"61 * * * * x\n")
    assert (bad.status, bad.error) == (65, "standard input: line 5: not a cron line: bad minute in '61 * * * *'")
    assert names(own) == ["backup"]
    assert own.run("cron", "import", "-", "--prefix", "mine-", stdin=TAB.encode()).status == 0
    assert names(own) == ["backup", "mine-backup", "mine-echo"]
    assert own.run("cron", "import", "-", "--replace", stdin=TAB.encode()).status == 0
    assert names(own) == ["backup", "echo", "mine-backup", "mine-echo"]


def test_an_entry_that_a_shorter_crontab_leaves_behind_is_said(own: Rig) -> None:
    """Names go by place, so with the first line gone the second one gets its name, and would run twice."""
    assert own.run("cron", "import", "-", stdin=b"@daily dump --all\n30 2 * * * dump --all\n").status == 0
    done = own.run("cron", "import", "-", "--replace", stdin=b"30 2 * * * dump --all\n")
    assert done.status == 0
    assert done.err.startswith("farm: warning: the entry dump-2 is not of this crontab and runs the same line\n")
    assert "hint: farm cron remove dump-2\n" in done.err
    assert own.run("cron", "remove", "dump-2").status == 0
    assert "warning" not in own.run("cron", "import", "-", "--replace", stdin=b"30 2 * * * dump --all\n").err


def test_a_system_crontab(own: Rig) -> None:
    done = own.run("cron", "import", "-", "--system", "--function", "root-sh", stdin=b"17 * * * * root run-parts x\n")
    assert (done.status, done.out) == (0, b"run-parts\t17 * * * *\tEurope/Berlin\trun-parts x\n")
    assert done.err == (
        "farm: warning: standard input: the users (root) have no meaning here: jobs run as the user whose worker takes"
        " them\nfarm: a worker has to run them: farm work root-sh -- sh\n"
    )


@pytest.mark.parametrize(
    ("argv", "stdin", "status", "message"),
    [
        (["nowhere"], b"", 66, "cannot read nowhere: no such file or directory"),
        (["-"], b"# nothing\n", 65, "standard input has no line that is a job; nothing was imported"),
        (["-"], b"x" * (1 << 20) + b"x", 65, "standard input is longer than 1048576 bytes: no crontab is"),
        (
            ["-", "--function", "a b"],
            b"* * * * * x",
            64,
            "the function name 'a b' contains a blank or a control character",
        ),
    ],
)
def test_what_is_no_crontab(rig: Rig, argv: list[str], stdin: bytes, status: int, message: str) -> None:
    done = rig.run("cron", "import", *argv, stdin=stdin)
    assert (done.status, done.out, done.error) == (status, b"", message)


def test_the_server_of_this_module(server: ServerRunning) -> None:
    """Stock clients make entries too, and their names are their handles."""
    from farm.protocol import packets as p

    with contextlib.closing(server.connect()) as wire:
        wire.send(p.SUBMIT_JOB_SCHED, b"f", b"u", b"5", b"", b"", b"", b"", b"payload")
        wire.expect(p.JOB_CREATED, b"sched:f:u")
