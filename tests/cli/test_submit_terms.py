"""`farm submit` with terms: what goes over the wire to whom, and what comes of the job."""

from __future__ import annotations

import time

import pytest

from farm.protocol import packets as p
from tests.cli.fakes import CREATED, Caller, fake_server, res
from tests.cli.rig import Rig
from tests.support import req, wait_until

UNKNOWN_OPTION = res(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option")
GRANTED = res(p.OPTION_RES, b"farm-1")
ASKED = req(p.OPTION_REQ, b"farm-1")
TERMS = ["--retries", "5", "--retry-on", "75", "--timeout", "1m30s"]
WORDS = b"timeout=90 retries=5 retry-on=75"


# -- on the wire


def test_nothing_changes_for_a_job_without_terms(lone_rig: Rig) -> None:
    def talk(caller: Caller) -> None:
        caller.until(req(p.SUBMIT_JOB_BG, b"f", b"k", b"x"))
        caller.say(CREATED)

    with fake_server(talk) as (address, callers):
        done = lone_rig.submit("-b", "-s", address, "-u", "k", "--if-exists", "attach", "f", stdin=b"x")
    assert (done.status, done.out, done.err) == (0, b"H:fake:1\n", "")
    assert callers[0].got == b"version\n" + req(p.SUBMIT_JOB_BG, b"f", b"k", b"x")


@pytest.mark.parametrize("when", [["--in", "1h"], ["--at", "2037-01-01T00:00Z"]])
def test_a_background_jobs_time_needs_no_farm_server(lone_rig: Rig, when: list[str]) -> None:
    """Nothing is asked for: a stock server takes it as it is."""

    def talk(caller: Caller) -> None:
        caller.until(req(p.SUBMIT_JOB_EPOCH, b"f", b"", b"")[4:8])
        caller.until(b"\0x")
        caller.say(b"OK 1.1\n" + CREATED)

    before = time.time()
    with fake_server(talk) as (address, callers):
        done = lone_rig.submit("-b", "-q", "-s", address, *when, "f", stdin=b"x")
    assert (done.status, done.out, done.err) == (0, b"H:fake:1\n", "")
    head, _, epoch = callers[0].got.removesuffix(b"\0x").rpartition(b"\0")
    assert head.startswith(b"version\n\0REQ")
    wanted = before + 3600 if when[0] == "--in" else 2_114_380_800
    assert wanted <= int(epoch) <= wanted + (30 if when[0] == "--in" else 0)


@pytest.mark.parametrize("options", [["-b"], []])
def test_terms_are_sent_to_who_knows_them(lone_rig: Rig, options: list[str]) -> None:
    """And not before the server has said so."""

    def talk(caller: Caller) -> None:
        caller.until(ASKED)
        assert b"payload" not in caller.got
        caller.say((b"OK 1.1\n" if options else b"") + GRANTED)
        caller.until(packet)
        caller.say(CREATED + (b"" if options else res(p.WORK_COMPLETE, b"H:fake:1", b"done")))

    words = (b"background=1 " if options else b"") + b"priority=high " + WORDS
    packet = req(p.FARM_SUBMIT, b"f", b"k", words, b"payload")
    with fake_server(talk) as (address, _):
        argv = [*options, "-s", address, "-u", "k", "-p", "high", *TERMS, "f"]
        done = lone_rig.submit(*argv, stdin=b"payload")
    assert (done.status, done.err) == (0, "")
    assert done.out == (b"H:fake:1\n" if options else b"done")


@pytest.mark.parametrize("options", [["-b"], []])
def test_a_stock_server_is_not_given_a_job_that_it_would_not_understand(lone_rig: Rig, options: list[str]) -> None:
    """Nor is any other server tried, or this one again: it is well."""

    def talk(caller: Caller) -> None:
        caller.until(ASKED)
        caller.say((b"OK 1.1\n" if options else b"") + UNKNOWN_OPTION)
        caller.until_closed()

    with fake_server(talk) as (address, callers):
        done = lone_rig.submit(*options, "-s", address, *([] if options else ["--retry-lost"]), *TERMS, "f", stdin=b"x")
    assert (done.status, done.out) == (69, b"")
    words = f"the server at {address} is a stock Gearman server: it does not know --timeout, --retries, --retry-on"
    assert done.error == words
    assert "name a farm server" in done.hint
    assert len(callers) == 1
    assert not [
        number for number in (p.FARM_SUBMIT, p.SUBMIT_JOB, p.SUBMIT_JOB_BG) if req(number)[:8] in callers[0].got
    ]


@pytest.mark.parametrize(
    ("code", "status"),
    [(b"INVALID_REQUEST", 64), (b"STORE_ERROR", 65), (b"JOB_NOT_FOUND", 66), (b"QUEUE_ERROR", 75)],
)
@pytest.mark.parametrize("options", [["-b"], []])
def test_a_server_that_refuses_the_terms(lone_rig: Rig, options: list[str], code: bytes, status: int) -> None:
    def talk(caller: Caller) -> None:
        caller.until(ASKED)
        caller.say(GRANTED)
        caller.until(WORDS)
        caller.say(res(p.ERROR, code, b"No, \x1b really"))

    with fake_server(talk) as (address, _):
        done = lone_rig.submit(*options, "-s", address, "-n", *TERMS, "f")
    assert (done.status, done.out) == (status, b"")
    assert done.error == f"the server at {address} refused the job: No, \\x1b really"


# -- a job with the same key


@pytest.mark.parametrize(
    ("argv", "status", "out", "words"),
    [
        (
            ["-b", "--if-exists", "skip"],
            0,
            b"H:old:1\n",
            "farm: job H:old:1 with this unique key exists already (done): ",
        ),
        (["-b", "-q", "--if-exists", "skip"], 0, b"H:old:1\n", ""),
        (["--if-exists", "skip"], 0, b"", "farm: job H:old:1 with this unique key exists already (done): nothing was"),
        (["-q", "--if-exists", "skip"], 0, b"", ""),
        (
            ["-b", "--unique-for", "1h"],
            0,
            b"H:old:1\n",
            "farm: job H:old:1 with this unique key exists already (done): ",
        ),
        (
            ["-b", "--if-exists", "fail"],
            75,
            b"",
            "farm: error: job H:old:1 with this unique key exists already (done)\n",
        ),
        (["--if-exists", "fail"], 75, b"", "farm: error: job H:old:1 with this unique key exists already (done)\n"),
    ],
)
def test_a_job_that_exists(lone_rig: Rig, argv: list[str], status: int, out: bytes, words: str) -> None:
    def talk(caller: Caller) -> None:
        caller.until(ASKED)
        caller.say(GRANTED)
        caller.until(req(p.FARM_SUBMIT)[4:8])
        caller.say(res(p.FARM_EXISTS, b"H:old:1", b"done"))
        caller.until_closed()

    with fake_server(talk) as (address, callers):
        done = lone_rig.submit("-s", address, "-n", "-u", "k", *argv, "f")
    assert (done.status, done.out) == (status, out)
    assert done.err.startswith(words) and bool(done.err) == bool(words)
    assert req(p.FARM_CANCEL)[:8] not in callers[0].got


def test_a_key_is_left_alone_by_the_second_job(rig: Rig, function: str) -> None:
    first = rig.submit("-b", "-n", "-u", "k", function).out
    done = rig.submit("-b", "-n", "-u", "k", "--if-exists", "skip", function)
    assert (done.status, done.out) == (0, first)
    assert (
        done.err
        == f"farm: job {first.decode().strip()} with this unique key exists already (queued): nothing was submitted\n"
    )
    done = rig.submit("-b", "-n", "-u", "k", "--if-exists", "fail", function)
    assert (done.status, done.out) == (75, b"")
    assert done.error.startswith(f"job {first.decode().strip()} ")
    assert rig.counts(function)[0] == 1
    done = rig.submit("-b", "-n", "-u", "k", "--if-exists", "replace", function)
    assert done.status == 0
    assert done.out != first
    assert rig.counts(function)[0] == 1


def test_a_key_that_counts_after_the_end(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "echo >> ran; cat")
    for _ in range(2):
        assert rig.submit("-b", "-u", "k", "--unique-for", "1h", function, stdin=b"x").status == 0
        rig.wait_counts(function, 0, 0, 1)
    assert rig.wait_file("ran", "\n")


@pytest.mark.parametrize("options", [[], ["--unique-for", "1h"], ["-p", "high"]])
@pytest.mark.parametrize("code", [0, 7])
def test_a_key_that_counts_is_as_good_in_the_foreground(rig: Rig, function: str, options: list[str], code: int) -> None:
    """What the job has written, and its exit code, as if it had been waited for; it does not run again."""
    rig.worker(function, "--cmd", f"echo >> ran; cat; echo said >&2; exit {code}")
    id = rig.submit("-b", "-u", "k", "--unique-for", "1h", function, stdin=b"x").out.decode().strip()
    assert rig.run("wait", id).status == code
    done = rig.submit("-u", "k", *options, function, stdin=b"y", env={"FARM_EXIT_ORIGIN_FD": "1"})
    state = "dead" if code else "done"
    assert (done.status, done.out) == (code, b"xjob\n")
    assert done.err == f"farm: job {id} with this unique key exists already ({state}): this is what it wrote\nsaid\n"
    done = rig.submit("-q", "-u", "k", *options, function, stdin=b"y")
    assert (done.status, done.out, done.err) == (code, b"x", "said\n")
    for if_exists, status in (("skip", 0), ("fail", 75)):
        done = rig.submit("-u", "k", "--if-exists", if_exists, *options, function, stdin=b"y")
        assert (done.status, done.out) == (status, b"")
    assert (rig.home / "ran").read_text() == "\n"
    done = rig.submit("-u", "k", "--if-exists", "replace", *options, function, stdin=b"z")
    assert (done.status, done.out) == (code, b"z")
    assert (rig.home / "ran").read_text() == "\n\n"


def test_a_key_of_a_job_of_which_nothing_is_kept(rig: Rig, function: str) -> None:
    """A foreground job's result has gone to who waited for it."""
    rig.worker(function, "--cmd", "echo >> ran; cat")
    assert rig.submit("-u", "k", "--unique-for", "1h", function, stdin=b"x").out == b"x"
    done = rig.submit("-u", "k", function, stdin=b"x")
    assert (done.status, done.out) == (75, b"")
    assert done.error.endswith("with this unique key exists already (ended), and what it wrote is not kept")
    assert rig.submit("-n", "-u", "other", function).status == 0
    assert (rig.home / "ran").read_text() == "\n\n"


def test_of_a_job_of_which_only_a_part_is_kept(lone_rig: Rig) -> None:
    lone_rig.env["FARM_SERVER"] = lone_rig.server("--result-max", "1K").address
    lone_rig.worker("big", "--", "cat")
    id = lone_rig.submit("-b", "-u", "k", "--unique-for", "1h", "big", stdin=b"x" * 5000).out.decode().strip()
    assert lone_rig.run("wait", id).status == 0
    done = lone_rig.submit("-q", "-n", "-u", "k", "big")
    assert (done.status, done.out) == (65, b"x" * 1024)


def test_a_keys_packet_is_the_stock_one_at_a_stock_server(lone_rig: Rig) -> None:
    """Once that has said what it is; a live job of the key is joined there as ever."""

    def talk(caller: Caller) -> None:
        caller.until(ASKED)
        caller.say(UNKNOWN_OPTION)
        caller.until(req(p.SUBMIT_JOB_HIGH, b"f", b"k", b"x"))
        caller.say(CREATED + res(p.WORK_COMPLETE, b"H:fake:1", b"out"))

    with fake_server(talk) as (address, callers):
        done = lone_rig.submit("-s", address, "-u", "k", "-p", "high", "f", stdin=b"x")
    assert (done.status, done.out, done.err) == (0, b"out", "")
    assert req(p.FARM_SUBMIT)[:8] not in callers[0].got


def test_the_same_job_has_the_same_made_key(rig: Rig, function: str) -> None:
    first = rig.submit("-b", "-u", "auto", function, stdin=b"one").out
    assert rig.submit("-b", "-u", "auto", function, stdin=b"one").out == first
    assert rig.submit("-b", "-u", "auto", function, stdin=b"two").out != first
    rig.wait_counts(function, 2)


# -- retries and times, through a real server


def test_a_failure_is_tried_again_and_a_file_holds_the_last_attempt(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "echo >> n; wc -l < n; wc -l < n >&2; [ $(wc -l < n) = 3 ] || exit 75")
    done = rig.shell(f"farm submit -n --retries 5 --retry-on 75 --backoff 50ms {function} > out")
    assert done.status == 0
    assert (rig.home / "out").read_text() == "3\n"
    assert "farm: the job runs again: exit 75; retry 1 of 5 in 0.0 s\n" in done.err
    assert "farm: exit" not in done.err


def test_what_has_been_passed_on_to_a_pipe_is_not_repeated(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "echo >> n; echo once; exit 75")
    done = rig.submit("-n", "--retries", "5", "--backoff", "50ms", function)
    assert (done.status, done.out) == (75, b"once\n")
    assert "the job runs again after 5 bytes of output, which it would repeat: exit 75; retry 1 of 5" in done.err
    rig.wait_counts(function, 0)


def test_the_last_failure_is_the_jobs_own(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "echo >> n; exit 3")
    done = rig.shell(f"FARM_EXIT_ORIGIN_FD=7 farm submit -n -q --retries 2 --backoff 20ms {function} 7>&1")
    assert (done.status, done.out, done.err) == (3, b"job\n", "")
    rig.wait_file("n", "\n\n\n")


def test_a_run_that_takes_too_long(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "sleep 300")
    done = rig.shell(f"FARM_EXIT_ORIGIN_FD=7 farm submit -n --timeout 300ms {function} 7>&1")
    assert (done.status, done.out) == (124, b"farm\n")
    assert done.err == "farm: the job took longer than 0.3s\n"


@pytest.mark.parametrize("option", ["--expires", "--queue-timeout"])
def test_nobody_takes_it_in_time(rig: Rig, function: str, option: str) -> None:
    done = rig.submit("-n", option, "300ms", function)
    assert (done.status, done.out) == (124, b"")
    assert "has expired" in done.err
    rig.wait_counts(function, 0)


def test_a_foreground_job_may_have_to_wait(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "date +%s.%N")
    before = time.time()
    done = rig.submit("-n", "--in", "700ms", function)
    assert (done.status, done.err) == (0, "")
    assert float(done.out) >= before + 0.7


def test_the_time_that_is_meant_is_said(rig: Rig, function: str) -> None:
    done = rig.submit("-b", "-n", "--at", "2037-01-01 17:00", function, env={"TZ": "Europe/Berlin"})
    assert done.status == 0
    assert done.err == "farm: the job is for Thu 2037-01-01 17:00:00 CET\n"
    assert rig.submit("-b", "-n", "-q", "--at", "2037-01-01 17:00", function).err == ""


def test_a_job_after_another(rig: Rig, function: str) -> None:
    rig.fifo("gate")
    first = rig.submit("-b", function, stdin=b"read x < gate; echo first >> order").out.decode().strip()
    second = rig.start("submit", "-n", "--after", f"ok:{first}", f"{function}-next")
    rig.worker(function, "--", "sh")
    rig.worker(f"{function}-next", "--cmd", "echo second >> order; cat order")
    rig.wait_counts(function, 1, 1, 1)
    rig.release("gate")
    done = second.wait()
    assert (done.status, done.out) == (0, b"first\nsecond\n")


def test_a_job_after_one_that_fails(rig: Rig, function: str) -> None:
    first = rig.submit("-b", function, stdin=b"exit 3").out.decode().strip()
    second = rig.start("submit", "-n", "--after", f"ok:{first}", f"{function}-next")
    rig.worker(function, "--", "sh")
    done = second.wait()
    assert (done.status, done.out) == (130, b"")
    assert done.err.startswith("farm: ")


# -- the submitter's patience


def test_nobody_waits_longer_than_was_said(rig: Rig, function: str) -> None:
    """The job is given up, as with Ctrl-C."""
    rig.worker(function, "--cmd", "echo $$ > pid; sleep 300")
    done = rig.shell(f"FARM_EXIT_ORIGIN_FD=7 farm submit -n --wait-timeout 1500ms {function} 7>&1")
    assert (done.status, done.out) == (124, b"farm\n")
    handle, error = done.err.splitlines()
    assert handle.startswith("farm: cancelled: job H:") and handle.endswith(" is being ended at its worker")
    assert error == "farm: error: the job has not ended within 1.5s (--wait-timeout)"
    rig.wait_counts(function, 0, 0, 1)


def test_a_job_that_ends_in_time_has_its_own_exit_code(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "cat; exit 3")
    done = rig.submit("--wait-timeout", "1h", function, stdin=b"x")
    assert (done.status, done.out, done.err) == (3, b"x", "")


def test_the_wait_includes_that_for_a_server_that_is_silent(lone_rig: Rig) -> None:
    with fake_server(lambda caller: caller.until_closed()) as (address, _):
        done = lone_rig.submit("-n", "-s", address, "--wait-timeout", "1s", "f")
    assert done.status == 124
    assert "has not ended within 1s" in done.err


def test_a_wait_that_ends_does_not_end_what_others_wait_for(rig: Rig, function: str) -> None:
    other = rig.start("submit", "-n", "-u", "k", function)
    rig.wait_counts(function, 1)
    done = rig.submit("-n", "-u", "k", "--wait-timeout", "500ms", function)
    assert done.status == 124
    assert "runs on: others wait for it" in done.err
    rig.worker(function, "--", "true")
    assert other.wait().status == 0


def test_a_signal_comes_before_the_time_is_up(rig: Rig, function: str) -> None:
    submit = rig.start("submit", "-n", "--wait-timeout", "1h", function)
    submit.wait_for("waiting: no worker")
    submit.signal(2)
    assert submit.wait().status == -2
    wait_until(lambda: rig.counts(function)[0] == 0, what="it is cancelled")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-b", "--wait-timeout", "1s"], "--wait-timeout and --background exclude each other"),
        (["--in", "1m", "--at", "17:00"], "--in and --at exclude each other"),
        (["--if-exists", "skip"], "--if-exists says something about a key, and there is none"),
        (
            ["--unique", "-", "--unique-for", "1h"],
            "--unique-for needs a key, and `-` only compares payloads of jobs that live",
        ),
        (
            ["-u", "-", "--if-exists", "fail"],
            "--if-exists needs a key, and `-` only compares payloads of jobs that live",
        ),
        (["--if-exists", "maybe"], "--if-exists cannot be 'maybe'"),
        (["--at", "soon"], "--at is not a time: 'soon'"),
        (["--in", "1h30"], "--in is not a time: '1h30'"),
        (["--after", "H:1:1"], "--after cannot be 'H:1:1'"),
        (["--retries", "many"], "--retries is not a whole number: 'many'"),
        (["--retry-on", "256"], "--retry-on cannot be '256'"),
    ],
)
def test_what_makes_no_sense(lone_rig: Rig, argv: list[str], words: str) -> None:
    """Said before the payload is read, and before any server is asked."""
    done = lone_rig.submit(*argv, "f", stdin=b"x")
    assert (done.status, done.out, done.error) == (64, b"", words)
