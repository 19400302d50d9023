"""Whatever is wrong, one line says what, one may say what to do, and the exit status is the documented one."""

from __future__ import annotations

import mmap
import os
import threading

import pytest

from farm.client import answers
from farm.client import connection as client_connection
from farm.client.connection import open_connection
from farm.client.request import Request
from farm.client.submit import Foreground, submit_background
from farm.errors import Unavailable, UsageError
from farm.protocol import packets as p
from farm.protocol.address import parse_address
from tests.cli.fakes import CREATED, Caller, fake_server, header, http_server, res
from tests.cli.rig import Rig

UNKNOWN_OPTION = res(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option")


@pytest.mark.parametrize(
    ("argv", "words", "hint"),
    [
        (["frobnicate"], "no such command 'frobnicate'", "farm --help"),
        (["sumbit", "f"], "no such command 'sumbit'", "did you mean 'submit'?"),
        (["--frobnicate"], "no such option: --frobnicate", "farm --help"),
        (["submit", "f", "--frobnicate"], "no such option: --frobnicate", "farm submit --help"),
        (["submit", "f", "--priorty=high"], "no such option: --priorty (Possible options: --priority)", "farm submit"),
        (["submit"], "missing argument 'FUNCTION'", "farm submit --help"),
        (["work"], "missing argument 'FUNCTION'", "farm work --help"),
        (["submit", "f", "extra"], "extra argument", "farm submit --help"),
        (["submit", "f", "-f"], "option '-f' requires an argument", "farm submit --help"),
        (["work", "x", "--cmd"], "option '--cmd' requires an argument", "farm work --help"),
        (["store", "import", "--table"], "option '--table' requires an argument", "farm store import --help"),
        (["-s"], "option '-s' requires an argument", "farm --help"),
        (["submit", "f", "--quiet=yes"], "option '--quiet' does not take a value", "farm submit --help"),
        (["submit", "f", "-p", "urgent"], "--priority cannot be 'urgent'", "one of: high, normal, low"),
        (["submit", "f", "-n", "-f", "x"], "--file and --no-input exclude each other", None),
        (
            ["work", "f", "convert", "-", "-resize", "50%"],
            "'-resize' stands behind the beginning",
            "put -- before the command",
        ),
        (["submit", "-s", "x:y:z", "f"], "not an address: 'x:y:z'", "IPv6 in brackets"),
        (["submit", "-s", f"unix:/{'x' * 119}", "f"], "is 120 bytes long (at most 107)", "a relative path"),
        (["work", "f", "-j", "0", "cat"], "--jobs is not a whole number above 0: '0'", "a number from 1 to 999999999"),
        (["server", "--max-job-size", "0"], "--max-job-size is not a size above 0: '0'", "write 64M or 1G"),
        (["status", "extra"], "extra argument", "farm status --help"),
        (["status", "--every", "now"], "--every is not a time: 'now'", "write 10s, 500ms, 5m, 2h or 2h30m"),
        (["submit", "f", "-n", "-u", "x" * 65], "the unique key is 65 bytes long (at most 64)", "-u auto makes a"),
        (["submit", "f", "-n", "-u", "ü" * 33], "the unique key is 66 bytes long (at most 64)", None),
    ],
)
def test_a_wrong_command_line(rig: Rig, argv: list[str], words: str, hint: str | None) -> None:
    done = rig.run(*argv)
    assert (done.status, done.out) == (64, b"")
    assert words in done.error[:1].lower() + done.error[1:]
    if hint:
        assert hint in done.hint


@pytest.mark.parametrize("command", [["submit", "-n"], ["work", "--cmd", "cat"]])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two words", "contains a blank or a control character"),
        ("line\n", "contains a blank or a control character"),
        ("tab\there", "contains a blank or a control character"),
        ("\x7f", "contains a blank or a control character"),
        ("\u2003", "contains a blank or a control character"),
        ("x" * 513, "is 513 bytes long (at most 512)"),
        ("", "is empty"),
    ],
)
def test_a_name_that_no_function_can_have(rig: Rig, command: list[str], name: str, words: str) -> None:
    done = rig.run(*command, "--", name)
    assert (done.status, done.out) == (64, b"")
    assert words in done.error


def test_the_longest_names_work(rig: Rig) -> None:
    done = rig.submit("-b", "-n", "-u", "u" * 64, "x" * 512)
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize(
    ("path", "words"), [("missing", "no such file or directory"), (".", "is a directory"), ("", "no such")]
)
def test_a_payload_that_cannot_be_read(rig: Rig, function: str, path: str, words: str) -> None:
    """An empty name too: `-f "$file"` with nothing in it must not wait at stdin, or submit what is there."""
    for option in (["-f", path], [f"--file={path}"]):
        done = rig.submit(function, *option, stdin=b"not this")
        assert done.status == 66
        assert done.error.startswith(f"cannot read {path}")
        assert words in done.error
        hints = {"missing": f"it was looked for in {rig.home}", "": "is a variable of the script not set?"}
        assert path == "." or done.hint == hints[path]
    assert rig.counts(function) == (0, 0, 0)


def test_a_name_that_would_break_the_line(rig: Rig, function: str) -> None:
    """An error is one line, and steers no terminal, whatever the file's name is."""
    done = rig.submit(function, "-f", "no\nhint: \x1b[2Jlies")
    assert done.status == 66
    assert done.error == r"cannot read no\nhint: \x1b[2Jlies: no such file or directory"


def test_a_directory_as_stdin(rig: Rig, function: str) -> None:
    """Python alone would end with a dump. Commands that do not read it do not mind. (farm as pip installs it is started
    by Python itself, and cannot help it.)"""
    for option in ([], ["-f", "-"]):
        fd = os.open(rig.home, os.O_RDONLY)
        done = rig.submit(*option, function, stdin=fd)
        assert (done.status, done.error) == (66, "cannot read standard input: is a directory")
        assert rig.submit("-b", "-n", function, stdin=fd).status == 0
        os.close(fd)
    assert rig.counts(function) == (2, 0, 0)


def test_a_payload_that_is_longer_than_a_packet_is_not_even_read(rig: Rig, function: str) -> None:
    with (rig.home / "long").open("wb") as file:
        file.truncate(1 << 32)
    for done in (rig.submit(function, "-f", "long"), rig.shell(f"farm submit {function} < long")):
        assert done.status == 64
        assert done.error.endswith(" is longer than a packet can be")
        assert done.hint == "a payload has at most 4 GiB"


def test_a_payload_without_permission(rig: Rig, function: str) -> None:
    """Root may read everything, unless it gives that up."""
    rig.write("secret", "x", 0)
    humble = "setpriv --bounding-set -dac_override,-dac_read_search " if os.geteuid() == 0 else ""
    done = rig.shell(f"{humble}farm submit {function} -f secret")
    assert done.status == 66
    assert done.error == "cannot read secret: permission denied"


def test_a_payload_larger_than_any_packet() -> None:
    """A header has 32 bits for the length. The memory is only reserved, never touched."""
    with mmap.mmap(-1, 5 * 1024**3) as payload, pytest.raises(UsageError, match="the payload is 5368709120 bytes long"):
        Request(b"f", payload).pieces(background=True)  # type: ignore[arg-type]


# -- servers that are none, or broken

GARBAGE = {
    "text": b"220 mail.example.org ESMTP\r\n",
    "noise": bytes(range(1, 256)),
    "zeros": b"\0" * 100,
    "request magic": b"\0REQ" + header(p.NOOP, 0)[4:],
    "unknown packet": header(999, 0),
    "unexpected packet": res(p.STATUS_RES, b"h", b"0", b"0", b"0", b"0"),
    "huge header": header(p.JOB_CREATED, 2**31),
    "largest header": header(p.JOB_CREATED, 2**32 - 1),
    "error without a text": header(p.ERROR, 4) + b"oops",
    "handle that is no text": res(p.JOB_CREATED, b"\xff\xfe\x1b[2J"),
}


NOTICED_AT_ONCE = ("text", "noise", "zeros", "unknown packet", "huge header", "largest header")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, options) for kind in GARBAGE for options in ([], ["-b"])),
        *((kind, ["--no-wait"]) for kind in NOTICED_AT_ONCE),
    ],
)
def test_submit_to_what_is_no_gearman_server(rig: Rig, kind: str, options: list[str]) -> None:
    """76, in one line fit for a terminal."""

    def talk(caller: Caller) -> None:
        caller.say(GARBAGE[kind])
        caller.until_closed()

    with fake_server(talk) as (address, _):
        done = rig.submit("-n", "f", "-s", address, *options)
    assert (done.status, done.out) == (76, b"")
    assert address in done.error
    assert done.err.isprintable() or done.err.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "packet",
    [
        header(p.WORK_COMPLETE, 3) + b"abc",
        header(p.WORK_STATUS, 9) + b"H:fake:1\0",
        header(p.FARM_JOB_RESTARTED, 2**20),
        b"\0RESgarbage.....",
    ],
)
def test_a_malformed_packet_in_the_middle_of_a_job(rig: Rig, packet: bytes) -> None:
    def talk(caller: Caller) -> None:
        caller.until(b"f\0")
        caller.say(UNKNOWN_OPTION + CREATED + res(p.WORK_DATA, b"H:fake:1", b"part\n") + packet)
        caller.until_closed()

    with fake_server(talk) as (address, _):
        done = rig.submit("-n", "f", "-s", address, "-q")
    assert (done.status, done.out) == (76, b"part\n")
    assert f"the server at {address}" in done.error


def test_a_payload_cut_short_by_the_server(rig: Rig) -> None:
    """The connection ends inside a result: what had come is not taken for the whole."""

    def talk(caller: Caller) -> None:
        caller.until(b"f\0")
        caller.say(UNKNOWN_OPTION + CREATED + header(p.WORK_COMPLETE, 1000) + b"H:fake:1\0half")

    with fake_server(talk) as (address, _):
        done = rig.submit("-n", "f", "-s", address)
    assert (done.status, done.out) == (69, b"")
    assert f"the server at {address} closed the connection" in done.error


@pytest.mark.parametrize("options", [[], ["-b"]])
def test_a_server_that_hangs_up_at_once(rig: Rig, options: list[str]) -> None:
    with fake_server(lambda caller: None) as (address, _):
        done = rig.submit("f", "-s", address, *options, stdin=b"x" * 10_000_000)
    assert done.status == 69
    assert done.error == f"the server at {address} closed the connection"


NOT_CONFIRMED = "and never said that it has the job, which may run or not"


@pytest.mark.parametrize("key", [[], ["-u", "k"]])
@pytest.mark.parametrize("options", [[], ["-b"], ["--retries", "2"], ["-b", "--json", "--retries", "2"]])
def test_a_server_that_hangs_up_when_it_has_the_job(rig: Rig, options: list[str], key: list[str]) -> None:
    """Nobody knows whether it runs: that is said, for whoever submits it again may have it run twice."""

    def talk(caller: Caller) -> None:
        if "--retries" in options or (key and "-b" not in options):
            caller.until(b"farm-1")
            caller.say(res(p.OPTION_RES, b"farm-1"))
        caller.until(b"payload")

    with fake_server(talk) as (address, callers):
        done = rig.submit("f", "-s", address, *options, *key, stdin=b"payload")
    assert (done.status, done.out, len(callers)) == (69, b"", 1)
    assert done.error == f"the server at {address} closed the connection, {NOT_CONFIRMED}"
    assert done.hint == (
        "submit it again to the same server (-s): while the job of this key lives there, it does not run twice"
        if key
        else "submit it again only if it may run twice; had it a key (--unique), the second would join the first"
    )


@pytest.mark.parametrize("options", [[], ["-b"]])
def test_a_server_that_hangs_up_before_it_is_given_the_job(rig: Rig, options: list[str]) -> None:
    with fake_server(lambda caller: caller.until(b"farm-1")) as (address, callers):
        done = rig.submit("f", "-s", address, *options, "--retries", "2", stdin=b"payload")
    assert (done.status, done.out) == (69, b"")
    assert done.error == f"the server at {address} closed the connection"
    assert b"payload" not in callers[0].got


def test_the_servers_words_cannot_draw_on_the_terminal(rig: Rig) -> None:
    def talk(caller: Caller) -> None:
        caller.until(b"f\0")
        caller.say(res(p.ERROR, b"QUEUE_ERROR", b"full \x1b[2J\nfarm: error: no"))
        caller.until_closed()

    with fake_server(talk) as (address, _):
        done = rig.submit("-b", "-n", "f", "-s", address)
    assert done.status == 75
    assert done.error == f"the server at {address} refused the job: full \\x1b[2J\\x0afarm: error: no"


def test_an_http_server(rig: Rig) -> None:
    """It answers a line that it does not understand. Where it closes without reading on, its answer may be lost."""
    with http_server() as address:
        done = rig.submit("--no-wait", "f", "-s", address, stdin=b"x")
        assert done.status == 76
        assert "does not speak Gearman" in done.error
        done = rig.submit("f", "-s", address, stdin=b"x\n\r\n\r\n")
        assert done.status in (69, 76)
        assert address in done.error


def test_work_for_an_http_server(rig: Rig) -> None:
    """It is told from a Gearman server that is slow: trying again cannot mend it."""
    with http_server() as address:
        done = rig.run("work", "f", "-s", address, "--", "cat")
    assert done.status == 76
    assert done.error.startswith(f"the server at {address} does not speak Gearman: it said ")
    assert done.hint == "check the address: is another program listening there?"


@pytest.mark.parametrize(
    "kind", ["text", "noise", "request magic", "unknown packet", "unexpected packet", "huge header"]
)
def test_work_for_what_is_no_gearman_server(rig: Rig, kind: str) -> None:
    def talk(caller: Caller) -> None:
        caller.say(GARBAGE[kind])
        caller.until_closed()

    with fake_server(talk) as (address, _):
        done = rig.run("work", "f", "-s", address, "--", "cat")
    assert (done.status, done.out) == (76, b"")
    assert address in done.error


@pytest.mark.parametrize(
    "packet", [res(p.JOB_ASSIGN_UNIQ, b"H:fake:1"), res(p.ERROR, b"no text"), res(p.JOB_ASSIGN, b"h", b"f", b"")]
)
def test_work_for_a_server_that_sends_a_malformed_packet(rig: Rig, packet: bytes) -> None:
    """The last one is in order but in answer to nothing."""

    def talk(caller: Caller) -> None:
        caller.until(b"f")
        caller.say(res(p.OPTION_RES, b"farm-1"))
        caller.until(header(p.GRAB_JOB_ALL, 0)[4:])
        caller.say(res(p.NO_JOB) * packet.startswith(header(p.JOB_ASSIGN, 0)[:8]) + packet)
        caller.until_closed()

    with fake_server(talk) as (address, _):
        done = rig.run("work", "-q", "f", "-s", address, "--", "cat")
    assert done.status == 76
    assert address in done.error


# -- a server that accepts and says nothing: in this process, with shorter patience


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has not answered within a fifth of a second hangs."""
    monkeypatch.setattr(client_connection, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(answers, "ANSWER_TIMEOUT_S", 0.2)


@pytest.mark.parametrize("payload", [b"", b"x" * 50_000_000])
@pytest.mark.usefixtures("impatient")
def test_a_server_that_says_nothing(payload: bytes) -> None:
    """It takes a small job without a word, and may have it, or does not even take all of a large one."""
    words = f"does not answer, {NOT_CONFIRMED}$" if not payload else "takes no data$"

    def talk(caller: Caller) -> None:
        if not payload:
            caller.until_closed()
        else:
            done.wait(10)

    done = threading.Event()
    wanted = Request(b"f", payload)
    for submit in (lambda c: submit_background(c, wanted, print), lambda c: Foreground(c, wanted, print).run()):
        done.clear()
        with fake_server(talk) as (address, _):
            connection = open_connection(parse_address(address), insecure=False)
            with pytest.raises(Unavailable, match=words):
                submit(connection)
            connection.close()
            done.set()


def test_a_server_that_lists_for_ever() -> None:
    def talk(caller: Caller) -> None:
        caller.until(b"status\n")
        caller.say(b"f\t0\t0\t0\n")
        caller.until_closed()

    with fake_server(talk) as (address, _):
        connection = open_connection(parse_address(address), insecure=False)
        with pytest.raises(Unavailable, match="does not answer") as caught:
            connection.ask(b"status", timeout_s=0.2)
        assert caught.value.hint == "is it overloaded or stopped?"
        connection.close()
