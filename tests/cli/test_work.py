"""`farm work`: how the command is run, and what the server sees of it."""

from __future__ import annotations

import pytest

from farm.protocol import packets as p
from tests.cli.rig import Rig, ServerRunning, children, descriptors
from tests.support import wait_until


def test_a_shell_line(rig: Rig, function: str) -> None:
    worker = rig.worker(function, "--cmd", "tr a-z A-Z | rev")
    assert rig.submit(function, stdin=b"abc\n").out == b"CBA\n"
    assert worker.err() == f"farm: working on '{function}' for {rig.env['FARM_SERVER']}, 1 at once\n"


def test_a_command_is_run_without_a_shell(rig: Rig, function: str) -> None:
    """Nothing is expanded, split or taken for an option of farm."""
    rig.worker(function, "--", "printf", "%s|", "a b", "*", "$HOME", "", "-q", "--", "--help")
    assert rig.submit(function).out == b"a b|*|$HOME||-q|--|--help|"


@pytest.mark.parametrize(
    "argv",
    [["-q", "F", "--", "cat", "-"], ["F", "cat", "-"], ["F", "-q", "cat", "-"], ["--name=x", "F", "-q", "cat", "-"]],
)
def test_options_stand_anywhere_before_the_command(rig: Rig, function: str, argv: list[str]) -> None:
    rig.start("work", *[word.replace("F", function) for word in argv])
    rig.wait_counts(function, 0, 0, 1)
    assert rig.submit(function, stdin=b"in").out == b"in"


def test_the_working_directory_and_the_environment_are_the_workers(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "pwd; echo $COLOUR", env={"COLOUR": "blue"})
    assert rig.submit(function).out == f"{rig.home}\nblue\n".encode()


def test_the_command_knows_its_job(rig: Rig, function: str, server: ServerRunning) -> None:
    rig.worker(function, "--cmd", "echo $FARM_JOB $FARM_FUNCTION $FARM_UNIQUE")
    with server.connect() as client:
        handle = client.submit(function.encode(), b"", b"my-key")
        number, body = client.packet()
    assert number == p.WORK_COMPLETE
    assert body == handle + b"\0" + b" ".join((handle, function.encode(), b"my-key\n"))
    assert rig.submit(function).out.split()[1:] == [function.encode()]


@pytest.mark.parametrize("key", ["two words", "grün", "tab\there"])
def test_the_unique_key_arrives_as_it_was_given(rig: Rig, function: str, key: str) -> None:
    rig.worker(function, "--cmd", 'printf %s "$FARM_UNIQUE"')
    assert rig.submit("-n", "-u", key, function).out == key.encode()


@pytest.mark.parametrize(
    "name", ["größe-变换", "a/b:c.d", "\U0001f69c", b"latin-\xe9".decode("utf-8", "surrogateescape")]
)
def test_function_names_are_bytes(rig: Rig, name: str, server: ServerRunning) -> None:
    """UTF-8 by habit, but any bytes that a shell can type work."""
    raw = name.encode("utf-8", "surrogateescape")
    worker = rig.start("work", name, "--", "cat")
    worker.wait_for("working on")
    with server.connect() as wire:
        wait_until(lambda: any(row.startswith(raw + b"\t") for row in wire.listing(b"status")))
    assert rig.submit(name, stdin=b"in").out == b"in"


def test_four_at_once(rig: Rig, function: str) -> None:
    """And no fifth: six jobs, of which four run until they are let go."""
    rig.worker(
        function, "-j", "4", "--cmd", "echo >> $FARM_JOB.running; while ! [ -e go ]; do sleep 0.01; done", count=4
    )
    for _ in range(6):
        assert rig.submit("-b", "-n", function).status == 0
    rig.wait_counts(function, 6, 4, 4)
    wait_until(lambda: len(list(rig.home.glob("*.running"))) == 4)
    rig.write("go", "")
    rig.wait_counts(function, 0, 0, 4)
    assert len(list(rig.home.glob("*.running"))) == 6


def test_jobs_at_once_do_not_mix(rig: Rig, function: str) -> None:
    rig.worker(function, "-j", "4", "--cmd", "cat; cat /dev/null; head -c 300000 /dev/zero | tr '\\0' x", count=4)
    submits = [rig.start("submit", function, stdin=-1) for _ in range(8)]
    for number, submit in enumerate(submits):
        assert submit.process.stdin
        submit.process.stdin.write(b"%d" % number)
        submit.process.stdin.close()
    for number, submit in enumerate(submits):
        assert submit.wait().out == b"%d" % number + b"x" * 300_000


def test_the_server_shows_the_workers_name(rig: Rig, function: str, server: ServerRunning) -> None:
    rig.worker(function, "--name", "barn", "-j", "2", "--", "cat", count=2)
    other = rig.worker(function, "--", "cat", count=3)
    with server.connect() as wire:
        rows = [row.decode().split() for row in wire.listing(b"workers") if f" {function}\n" in row.decode()]
    names = sorted(row[2] for row in rows)
    assert names[:2] == ["barn-1", "barn-2"]
    assert names[2].endswith(f"-{other.pid}")


def test_a_name_is_bytes_too(rig: Rig, function: str) -> None:
    rig.worker(function, "--name", b"latin-\xe9".decode("utf-8", "surrogateescape"), "--", "cat")
    assert rig.submit(function, stdin=b"in").out == b"in"


def test_more_slots_than_the_system_lets_it_have(rig: Rig, function: str) -> None:
    """A connection for each slot, three pipes for each command: known at the start, and said there."""
    done = rig.shell(f"ulimit -n 40; timeout 5 farm work {function} -j 30 -- cat")
    assert done.status == 64
    assert "--jobs 30 needs" in done.error
    assert "ulimit -n" in done.hint


@pytest.mark.parametrize("collect", [False, True])
def test_a_stock_client_gets_it_in_pieces_or_in_one(
    rig: Rig, function: str, server: ServerRunning, collect: bool
) -> None:
    """A slow result comes in WORK_DATA as it is made. --collect is for clients that look at WORK_COMPLETE alone."""
    rig.worker(function, *["--collect"] * collect, "--cmd", "echo one; sleep 0.2; echo two")
    with server.connect() as client:
        handle = client.submit(function.encode())
        if collect:
            client.expect(p.WORK_COMPLETE, handle, b"one\ntwo\n")
        else:
            client.expect(p.WORK_DATA, handle, b"one\n")
            number, body = client.packet()
            if number == p.WORK_DATA:  # the second line may have gone out before the command ended
                assert body == handle + b"\0two\n"
                client.expect(p.WORK_COMPLETE, handle, b"")
            else:
                assert (number, body) == (p.WORK_COMPLETE, handle + b"\0two\n")


def test_a_stock_client_learns_of_a_failure(rig: Rig, function: str, server: ServerRunning) -> None:
    """Output, stderr and a readable exit code, then WORK_FAIL."""
    rig.worker(function, "--cmd", "echo out; echo err >&2; exit 3")
    with server.connect() as client:
        handle = client.submit(function.encode())
        came = [client.packet() for _ in range(4)]
    assert sorted(came[:2]) == [(p.WORK_DATA, handle + b"\0out\n"), (p.WORK_WARNING, handle + b"\0err\n")]
    assert came[2:] == [(p.WORK_WARNING, handle + b"\0farm: exit 3\n"), (p.WORK_FAIL, handle)]


def test_neither_zombies_nor_descriptors_are_left(rig: Rig, function: str, server: ServerRunning) -> None:
    worker = rig.worker(function, "-j", "4", "--cmd", "cat >/dev/null; echo x; exit $(($$ % 2))", count=4)
    rig.submit(function, stdin=b"first")  # what is opened once is open now
    before = descriptors(worker.pid)
    wait_until(lambda: len(children(worker.pid)) == 1, what="only its guard is left")
    with server.connect() as client:
        for _ in range(200):
            client.submit(function.encode(), b"x" * 1000, number=p.SUBMIT_JOB_BG)
    rig.wait_counts(function, 0)
    wait_until(lambda: len(children(worker.pid)) == 1, what="every command is reaped")
    assert descriptors(worker.pid) == before


def test_verbose_and_quiet(rig: Rig, function: str) -> None:
    quiet, loud = f"{function}-q", f"{function}-v"
    silent, talker = rig.worker(quiet, "-q", "--", "cat"), rig.worker(loud, "-v", "--", "cat")
    for name in (quiet, loud):
        rig.submit(name, stdin=b"12345")
    talker.wait_for("exit 0")
    _, started, ended = talker.err().splitlines()
    assert started.startswith("farm: job H:")
    assert started.endswith(": started, 5 bytes")
    assert ended.endswith(": exit 0")
    assert silent.err() == ""


@pytest.mark.parametrize("log", ["> >(head -1 > /dev/null) 2>&1", "2>&-", "2> /dev/full"])
def test_a_log_that_nobody_takes_does_not_end_the_worker(rig: Rig, function: str, log: str) -> None:
    """Its messages are lost; its jobs are not."""
    script = f"exec farm work -v {function} --cmd 'cat; echo $PPID >&2' {log}"
    worker = rig.background(["bash", "-c", script])
    rig.wait_counts(function, 0, 0, 1)
    for turn in range(3):
        done = rig.submit(function, "-q", stdin=b"%d" % turn)
        assert (done.status, done.out, done.err) == (0, b"%d" % turn, f"{worker.pid}\n")
    assert worker.terminate().status == 0
