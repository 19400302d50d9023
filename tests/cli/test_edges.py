"""Cases at the edges that once went wrong: processes left behind, early signals, silent servers, odd descriptors."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from tests.cli.rig import Rig, alive
from tests.support import wait_until

# A process in a session of its own, beyond the signals to the command's group, that writes to the command's stdout.
NOISE = "setsid sh -c 'echo $$ > noise; while :; do echo noise; sleep 0.1; done' &"


@pytest.fixture
def noise(rig: Rig) -> Rig:
    """A worker whose commands leave such a process behind; it ends when nobody reads it."""
    rig.worker(
        "noisy",
        "--linger",
        "1s",
        "--cmd",
        f"{NOISE} wait_for_noise() {{ until [ -s noise ]; do :; done; }}; wait_for_noise; exit 5",
    )
    return rig


def test_what_goes_on_writing_does_not_hold_the_job(noise: Rig) -> None:
    done = noise.submit("noisy")
    assert done.status == 5
    assert done.out.startswith(b"noise\n")
    assert "for 1s, the output still open (--linger); the output may lack its end" in done.err
    noise.wait_counts("noisy", 0, 0, 1)


def test_a_command_may_end_before_its_output(rig: Rig) -> None:
    """As through a pipe: nothing is lost, and a success that may have lost something is none."""
    rig.worker("late", "--linger", "2s", "--", "bash", "-s")
    sorted_later = rig.submit("late", stdin=b"seq 1 5 > >(sleep 1.5; sort -rn)\n")
    assert (sorted_later.status, sorted_later.out, sorted_later.err) == (0, b"5\n4\n3\n2\n1\n", "")
    daemon = rig.submit("late", stdin=b"echo started; sleep 1000 &\n")
    assert (daemon.status, daemon.out) == (0, b"started\n")
    assert "farm: ended what the command left running: it has been silent for 2s" in daemon.err
    torn = rig.submit("late", stdin=b"(sleep 0.2; echo half; sleep 1000) &\n")
    assert (torn.status, torn.out) == (125, b"half\n")
    assert "the output may lack its end" in torn.err


def test_what_writes_does_not_hold_a_cancelled_job(rig: Rig) -> None:
    rig.worker("noisy", "--cmd", f"{NOISE} sleep 100")
    job = rig.start("submit", "-n", "noisy")
    rig.wait_file("noise")
    job.signal(signal.SIGINT)
    assert job.wait().status == -signal.SIGINT
    rig.wait_counts("noisy", 0, 0, 1)


def test_what_writes_does_not_hold_a_worker_that_is_told_to_end(rig: Rig) -> None:
    worker = rig.worker("noisy", "--cmd", f"{NOISE} sleep 100")
    rig.submit("-b", "-n", "noisy")
    rig.wait_file("noise")
    worker.signal(signal.SIGTERM)
    worker.wait_for("stopping when 1 running job is done")
    assert worker.terminate().status == 128 + signal.SIGTERM


def test_a_job_is_given_on_only_when_its_command_has_ended(rig: Rig) -> None:
    """Ended by a second SIGTERM, which the command ignores until it is killed: two attempts must never overlap."""
    script = "trap '' TERM; echo $$ > first; while :; do sleep 0.1; done"
    worker = rig.worker("slow", "--cmd", script)
    rig.submit("-b", "-n", "slow")
    first = int(rig.wait_file("first"))
    rig.worker("slow", "--cmd", f"kill -0 {first} 2> /dev/null && echo both > second || echo alone > second", count=2)
    worker.signal(signal.SIGTERM)
    worker.wait_for("stopping when")
    worker.signal(signal.SIGTERM)
    assert rig.wait_file("second") == "alone\n"
    assert not alive(first)


def test_a_signal_before_the_answer_is_not_silent(lone_rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        job = lone_rig.start("submit", "-n", "-s", f"127.0.0.1:{listener.getsockname()[1]}", "f")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1000)
            job.wait_for("does not answer yet")
            job.signal(signal.SIGINT)
            done = job.wait()
    assert done.status == -signal.SIGINT
    assert "the server did not say what becomes of the job" in done.err


def test_a_background_job_for_an_http_server_is_refused_at_once(lone_rig: Rig) -> None:
    http = lone_rig.background([sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"])
    wait_until(lambda: b"port " in http.out(), what="the HTTP server")
    port = http.out().decode().split("port ")[1].split()[0]
    done = lone_rig.submit("-b", "-n", "-s", f"127.0.0.1:{port}", "f")
    assert done.status == 76
    assert "does not speak Gearman" in done.error


def test_live_without_a_terminal_is_a_listing_now_and_again(rig: Rig) -> None:
    rig.submit("-b", "-n", "watched")
    done = rig.shell("farm status -w --every 50ms | grep -m 3 watched")
    assert done.out == b"watched\t1\t0\t0\n" * 3


@pytest.mark.parametrize("command", ["status", "submit -b -n full"])
def test_a_full_disk_is_no_bug(rig: Rig, command: str) -> None:
    """Also where Python was told not to buffer, as in many containers."""
    done = rig.shell(f"PYTHONUNBUFFERED=1 farm {command} > /dev/full")
    assert done.status == 73
    assert "no space left on device" in done.error


def test_output_to_dev_null_can_be_begun_again(rig: Rig) -> None:
    rig.fifo("gate")
    lost = rig.worker("nullified", "--cmd", "echo part; sleep 0.3; echo > begun; read x < gate")
    job = rig.start("submit", "-n", "nullified", stdout=subprocess.DEVNULL)
    rig.wait_file("begun", "\n")
    lost.kill()
    rig.worker("nullified", "--cmd", "exit 9")
    job.wait_for("it runs again")
    assert job.wait().status == 9


def test_a_detached_server_keeps_no_descriptor_of_its_starter(lone_rig: Rig) -> None:
    done = lone_rig.shell(
        "exec 9> lock; flock 9; farm server --listen 127.0.0.1:0 --detach --pid-file pid; exec 9>&-;"
        "flock -n lock echo free; kill $(cat pid)"
    )
    assert done.out == b"free\n"


def test_a_signal_ends_a_command_also_below_a_script_that_ignores_it(rig: Rig) -> None:
    rig.shell("farm work quits -q --cmd 'kill -QUIT $$' > /dev/null 2>&1 &")
    wait_until(lambda: rig.counts("quits")[2] == 1)
    assert rig.submit("-n", "quits").status == 128 + signal.SIGQUIT


def test_an_address_that_is_empty_is_a_mistake(rig: Rig) -> None:
    done = rig.submit("-n", "f", "--server", "")
    assert done.status == 64
    assert done.error == "an empty address was given"


def test_a_payload_may_be_exactly_as_large_as_allowed(lone_rig: Rig) -> None:
    lone_rig.env["FARM_SERVER"] = lone_rig.server("--max-job-size", "1M").address
    assert lone_rig.submit("-b", "f" * 500, "-u", "u" * 64, stdin=b"x" * 1024**2).status == 0
    assert lone_rig.submit("-b", "f", stdin=b"x" * (1024**2 + 1024)).status == 64
