"""What only the asyncio client does: tasks that share it, and that are cancelled."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

import farm
from tests.live.library_rig import Gate, address, jobs_of, wait_working, working
from tests.support import PATIENCE_S, ServerProcess, wait_until


@pytest.fixture
def name(function: bytes) -> str:
    """A function's name of the test's own."""
    return function.decode()


@pytest.fixture
def gate(server: ServerProcess, name: str) -> Iterator[Gate]:
    """A worker whose jobs wait in the middle."""
    gate = Gate()
    worker = farm.Worker(address(server))
    worker.register(name, gate)
    with working(worker):
        wait_working(server, name)
        yield gate
        gate.open.set()


async def until(condition: Callable[[], object]) -> None:
    """`wait_until`, while the event loop goes on."""
    await asyncio.to_thread(wait_until, condition)


def in_loop(server: ServerProcess, story: Callable[[farm.aio.Client], Awaitable[None]]) -> None:
    """A story with a client of its own."""

    async def tell() -> None:
        async with asyncio.timeout(PATIENCE_S), farm.aio.Client(address(server)) as client:
            await story(client)

    asyncio.run(tell(), debug=True)


def test_tasks_share_a_connection(server: ServerProcess, name: str, gate: Gate) -> None:
    gate.open.set()

    async def story(client: farm.aio.Client) -> None:
        results = await asyncio.gather(*(client.run(name, b"%d" % number) for number in range(100)))
        assert results == [b"%d" % number for number in range(100)]
        assert len(client._links._links) == 1

    in_loop(server, story)


@pytest.mark.parametrize("how", ["result", "data", "run", "timeout"])
def test_a_cancelled_task_cancels_its_job(server: ServerProcess, name: str, how: str) -> None:
    entered, seen = threading.Event(), threading.Event()
    worker = farm.Worker(address(server))

    @worker.task(name)
    def wait_for_cancel(job: farm.WorkerJob) -> None:
        entered.set()
        wait_until(lambda: job.cancelled)
        seen.set()

    async def story(client: farm.aio.Client) -> None:
        async def task() -> None:
            if how == "run":
                await client.run(name)
            job = await client.submit(name)
            if how == "result":
                await job.result()
            async for _ in job.data:
                pass

        running = asyncio.create_task(task())
        await until(entered.is_set)
        if how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await running
        else:
            running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        await until(seen.is_set)
        assert await client.echo() == b"farm"

    with working(worker):
        in_loop(server, story)


def test_a_task_cancelled_before_a_worker_came(server: ServerProcess, name: str) -> None:
    async def story(client: farm.aio.Client) -> None:
        running = asyncio.create_task(client.run(name))
        await until(lambda: jobs_of(server, name) == (1, 0))
        running.cancel()
        await asyncio.wait([running])
        await until(lambda: jobs_of(server, name) == (0, 0))

    in_loop(server, story)


def test_a_task_cancelled_before_the_server_answered(server: ServerProcess, name: str) -> None:
    async def story(client: farm.aio.Client) -> None:
        await client.echo()
        running = asyncio.create_task(client.run(name))
        for _ in range(20):  # at every point on the way
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait([running])
            running = asyncio.create_task(client.run(name))
        running.cancel()
        await asyncio.wait([running])
        await client.echo()
        await until(lambda: jobs_of(server, name) == (0, 0))

    in_loop(server, story)


def test_a_job_ends_with_the_last_task_that_waits_for_it(server: ServerProcess, name: str, gate: Gate) -> None:
    async def story(client: farm.aio.Client) -> None:
        job = await client.submit(name, b"kept", unique="k")
        twin = await client.submit(name, b"other", unique="k")
        tasks = [asyncio.create_task(waiting.result()) for waiting in (job, job, twin)]
        await until(gate.entered.is_set)
        for task in tasks[::2]:
            task.cancel()
            await asyncio.wait([task])
        gate.open.set()
        assert await tasks[1] == b"kept"

    in_loop(server, story)


def test_two_tasks_with_one_key_while_there_is_no_connection(server: ServerProcess, name: str, gate: Gate) -> None:
    gate.open.set()

    async def story(client: farm.aio.Client) -> None:
        tasks = [asyncio.create_task(client.run(name, b"%d" % number, unique="k")) for number in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # the one that connects
        results = await asyncio.gather(*tasks[1:])
        assert results == [b"0", b"0"]

    in_loop(server, story)


def test_a_reader_that_falls_behind_is_not_sent_everything(server: ServerProcess, name: str) -> None:
    """Nobody waits while the program does something else: what comes then stays on the way, and the worker waits."""
    sent = 0
    worker = farm.Worker(address(server))

    @worker.task(name)
    def pour(job: farm.WorkerJob) -> None:
        nonlocal sent
        for _ in range(64):
            job.send_data(bytes(1024 * 1024))
            sent += 1

    async def story(client: farm.aio.Client) -> None:
        job = await client.submit(name)
        pieces = job.data
        size = len(await anext(pieces))
        before = -1
        while before != sent:  # until it does not get on any more
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 40
        async for piece in pieces:
            size += len(piece)
        assert size == 64 * 1024 * 1024

    with working(worker):
        in_loop(server, story)


def test_a_timeout_keeps_the_job(server: ServerProcess, name: str, gate: Gate) -> None:
    async def story(client: farm.aio.Client) -> None:
        job = await client.submit(name, b"slow")
        with pytest.raises(farm.Timeout):
            await job.result(0.05)
        gate.open.set()
        assert await job.result() == b"slow"

    in_loop(server, story)


@pytest.mark.parametrize("seed", [1, 2])
def test_tasks_cancelled_at_any_moment_leave_nothing_behind(server: ServerProcess, name: str, seed: int) -> None:
    chance = random.Random(seed)
    worker = farm.Worker(address(server))

    @worker.task(name)
    def reverse(job: farm.WorkerJob) -> bytes:
        job.send_data(job.payload[:0:-1])
        if job.payload.endswith(b"7"):
            raise farm.TaskFailed
        return job.payload[:1]

    async def one(client: farm.aio.Client, number: int) -> str:
        payload, unique = b"p%d" % number, f"k{number % 7}" if number % 3 == 0 else ""
        try:
            async with asyncio.timeout(chance.random() * 0.05):
                result = await client.run(name, payload, unique=unique)
        except (TimeoutError, farm.JobFailed, farm.TryAgain) as error:
            return type(error).__name__
        assert unique or result == payload[::-1]
        return "done"

    async def story(client: farm.aio.Client) -> None:
        outcomes: set[str] = set()
        for _ in range(10):
            outcomes.update(await asyncio.gather(*(one(client, chance.randrange(10**6)) for _ in range(40))))
        assert outcomes >= {"TimeoutError", "JobFailed", "done"}
        await client.echo()
        await until(lambda: jobs_of(server, name) == (0, 0))
        assert client._links.current
        session = client._links.current.session
        assert (session.idle, session.jobs, session._keys) == (True, {}, {})

    with working(worker):
        in_loop(server, story)
