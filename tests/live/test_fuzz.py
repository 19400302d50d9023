"""Recorded sessions, mutated: whatever comes in, a good pair on the same server goes on working."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time

import pytest

from farm.protocol import packets as p
from tests.live.conftest import Start
from tests.support import ServerProcess, do_one_job, req, worker_and_client


def sessions(handle: bytes) -> list[bytes]:
    """What a worker, a client and an administrator say in their lives."""
    return [
        # a worker's life
        req(p.SET_CLIENT_ID, b"me")
        + req(p.OPTION_REQ, b"farm-1")
        + req(p.OPTION_REQ, b"farm-heartbeat")
        + req(p.FARM_ALIVE)
        + req(p.CAN_DO, b"fuzz")
        + req(p.CAN_DO_TIMEOUT, b"fuzz2", b"1000")
        + req(p.PRE_SLEEP)
        + req(p.GRAB_JOB_ALL)
        + req(p.WORK_STATUS, handle, b"1", b"2")
        + req(p.WORK_DATA, handle, b"data")
        + req(p.WORK_WARNING, handle, b"")
        + req(p.WORK_EXCEPTION, handle, b"x")
        + req(p.WORK_FAIL, handle)
        + req(p.GRAB_JOB)
        + req(p.GRAB_JOB_UNIQ)
        + req(p.WORK_COMPLETE, handle, b"out")
        + req(p.CANT_DO, b"fuzz")
        + req(p.RESET_ABILITIES),
        # a client's
        req(p.ECHO_REQ, b"hello")
        + req(p.OPTION_REQ, b"exceptions")
        + req(p.SUBMIT_JOB, b"fuzz", b"u", b"payload" * 10)
        + req(p.SUBMIT_JOB_BG, b"fuzz", b"-", b"payload")
        + req(p.SUBMIT_JOB_HIGH, b"fuzz2", b"", b"")
        + req(p.SUBMIT_JOB_LOW_BG, b"fuzz2", b"u", b"\0\0")
        + req(p.SUBMIT_JOB_EPOCH, b"fuzz", b"", b"0", b"x")
        + req(p.SUBMIT_REDUCE_JOB, b"fuzz", b"", b"r", b"", b"x")
        + req(p.SUBMIT_JOB_SCHED, b"fuzz", b"", b"", b"", b"", b"", b"", b"x")
        + req(p.GET_STATUS, handle)
        + req(p.GET_STATUS_UNIQUE, b"u")
        + req(p.FARM_CANCEL, handle),
        # an administrator's
        b"status\nworkers\nversion\r\nprioritystatus\nshow jobs\nmaxqueue f 1\ncancel job H:1\n\n"
        + req(p.ECHO_REQ, b"\n"),
    ]


def mutated(session: bytes, chance: random.Random) -> bytes:
    """A session with a few bytes flipped, cut, doubled, moved or made extreme."""
    data = bytearray(session)
    for _ in range(chance.randint(0, 6)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[place : place + chance.randrange(20)]
            case 2:
                data[place:place] = data[place : place + chance.randrange(60)]
            case 3:
                data[place:place] = struct.pack(">I", chance.choice([0, 1, 255, 65536, 2**31, 2**32 - 1]))
            case 4:
                data[place:place] = chance.choice(sessions(b"H:1:1"))
            case 5:
                data[place:place] = chance.choice([b"\0", b"\n", b"\0REQ", b"\0RES", b"%s%n", b"\xff" * 8])
    return bytes(data)


def attack(server: ServerProcess, chance: random.Random, shard: int) -> None:
    """One connection: a mutated session in some pieces, read from or not, closed in one of several ways."""
    data = mutated(chance.choice(sessions(b"H:%x:%d" % (shard, chance.randrange(1, 30)))), chance)
    with socket.create_connection(server.where) as sock, contextlib.suppress(OSError):
        sock.settimeout(0.001)
        cut = chance.randrange(len(data) + 1)
        for piece in (data[:cut], data[cut:]):
            sock.sendall(piece)
            if chance.random() < 0.3:
                sock.recv(65536)
        match chance.randrange(4):
            case 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            case 1:
                sock.shutdown(socket.SHUT_WR)


def fuzz(server: ServerProcess, seconds: float) -> None:
    """The seed is printed where it fails, and FARM_FUZZ_SEED runs it again."""
    seed = int(os.environ.get("FARM_FUZZ_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    note = f"FARM_FUZZ_SEED={seed}"
    with worker_and_client(server, b"good") as (worker, client):
        shard = int(client.submit(b"nobody", number=p.SUBMIT_JOB_BG).split(b":")[1], 16)
        rounds, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(50):
                attack(server, chance, shard)
            assert server.process.poll() is None, note + "\n" + server.log()
            assert do_one_job(worker, client, b"good", b"%d" % rounds) < 5, note
            rounds += 1
        assert rounds > 2, note
        assert "Traceback" not in server.log(), note + "\n" + server.log()
    server.terminate()
    assert server.wait() == 0, note


def test_a_short_fuzz(start: Start) -> None:
    fuzz(start(stall_s=0.2, linger_s=0.1), seconds=2)


@pytest.mark.slow
def test_a_long_fuzz(start: Start) -> None:
    fuzz(start(stall_s=0.2, linger_s=0.1), seconds=20)


@pytest.mark.slow
def test_a_long_fuzz_that_is_narrated(start: Start) -> None:
    """At level info every job and every refusal is a line of the log."""
    fuzz(start(stall_s=0.2, linger_s=0.1, level="info"), seconds=10)
