"""`farm submit --retry-lost`: a server that goes away while a foreground job is out."""

from __future__ import annotations

from tests.cli.rig import Rig


def test_the_job_goes_to_the_next_server(lone_rig: Rig) -> None:
    first, second = lone_rig.server(), lone_rig.server()
    both = f"{first.address},{second.address}"
    lone_rig.fifo("gate")
    lone_rig.env["FARM_SERVER"] = first.address
    lone_rig.worker("f", "--cmd", "echo begun; read x < gate; echo never")
    with (lone_rig.home / "result").open("wb") as result:
        job = lone_rig.start("submit", "-n", "--retry-lost", "-s", both, "f", stdout=result)
        lone_rig.wait_file("result", "begun\n")
        lone_rig.env["FARM_SERVER"] = second.address
        lone_rig.worker("f", "--cmd", "echo again")
        first.kill()
        done = job.wait()
    assert done.status == 0
    assert (lone_rig.home / "result").read_text() == "again\n"
    assert "submitting it again" in done.err


def test_the_same_server_may_come_back(lone_rig: Rig) -> None:
    server = lone_rig.server()
    lone_rig.env["FARM_SERVER"] = server.address
    job = lone_rig.start("submit", "-n", "--retry-lost", "f")
    lone_rig.wait_counts("f", 1)
    server.kill()
    job.wait_for("submitting it again")
    lone_rig.server("--listen", server.address)
    lone_rig.worker("f", "--cmd", "echo result")
    assert job.wait().out == b"result\n"


def test_without_it_the_job_is_not_submitted_twice(lone_rig: Rig) -> None:
    first, second = lone_rig.server(), lone_rig.server()
    job = lone_rig.start("submit", "-n", "-s", f"{first.address},{second.address}", "f")
    lone_rig.env["FARM_SERVER"] = first.address
    lone_rig.wait_counts("f", 1)
    first.kill()
    done = job.wait()
    assert done.status == 69
    assert "it may have run or not" in done.error
    assert lone_rig.counts("f", second.address) == (0, 0, 0)


def test_output_that_cannot_be_taken_back_ends_it(lone_rig: Rig) -> None:
    first, second = lone_rig.server(), lone_rig.server()
    lone_rig.env["FARM_SERVER"] = first.address
    lone_rig.fifo("gate")
    lone_rig.worker("f", "--cmd", "echo begun; read x < gate")
    job = lone_rig.terminal("submit", "-n", "--retry-lost", "-s", f"{first.address},{second.address}", "f")
    job.expect("begun")
    first.kill()
    job.expect("which it would repeat: its server was lost")
    job.expect("hint: ")
    job.wait()
    assert job.exitstatus == 75
