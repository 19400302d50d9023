"""A command that does not mind TERM, with real servers and workers: what is ordered after it does not run beside it."""

from __future__ import annotations

import json

from tests.cli.rig import Rig
from tests.support import wait_until

STUBBORN = b"trap '' TERM; echo $$ > pid; exec sleep 600"  # what is ignored stays so
# A worker reaps its command before it reports: a process of this number is that command.
FOLLOWER = b"if kill -0 $(cat pid) 2> /dev/null; then echo beside; else echo alone; fi"


def submit(rig: Rig, function: str, script: bytes, *options: str) -> str:
    """In the background; returns the handle."""
    done = rig.submit("-b", function, *options, stdin=script)
    assert (done.status, done.err) == (0, "")
    return done.out.decode().strip()


def test_what_is_ordered_after_a_job_waits_until_its_command_is_gone(rig: Rig, function: str) -> None:
    """A dependent and the job that replaces it; its end is told at once all the same."""
    rig.worker(function, "-j", "3", "--", "sh", count=3)
    first = submit(rig, function, STUBBORN, "--unique", "k")
    dependent = submit(rig, function, FOLLOWER, "--after", f"any:{first}")
    rig.wait_file("pid")
    second = submit(rig, function, FOLLOWER, "--unique", "k", "--if-exists", "replace")
    assert rig.run("wait", first).status == 130
    shown = rig.run("show", first).out.decode()
    assert "cancelled: replaced by another job with its key" in shown
    assert "its command is still being stopped on worker " in shown
    assert "its command is still being stopped on worker " in rig.run("explain", first).out.decode()
    told = rig.run("explain", second).out.decode()
    assert f"it waits for {first}: its command is still being stopped on worker " in told
    for follower in (dependent, second):
        assert rig.run("wait", follower).status == 0
        assert rig.run("result", follower).out == b"alone\n"
    job = json.loads(rig.run("show", first, "--json").out)["job"]
    assert (job["state"], job["stopping"]) == ("cancelled", None)
    assert job["cpu_s"] > 0
    assert job["attempts_list"][0]["peak_bytes"] > 0


def test_a_worker_that_is_killed_with_its_command_holds_up_nobody(rig: Rig, function: str) -> None:
    worker = rig.worker(function, "--", "sh")
    first = submit(rig, function, STUBBORN)
    rig.wait_file("pid")
    assert rig.run("cancel", first).out.decode() == f"{first}\ttold\n"
    dependent = submit(rig, function, b"", "--after", f"any:{first}")
    rig.worker(function, "--", "sh", count=2)
    assert rig.run("show", dependent, "--json").out.find(b'"waiting"') > 0
    worker.kill()
    assert rig.run("wait", dependent, "--timeout", "3s").status == 0
    wait_until(lambda: json.loads(rig.run("show", first, "--json").out)["job"]["stopping"] is None, what="it is over")
