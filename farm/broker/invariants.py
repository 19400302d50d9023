"""What is always true of a broker between two turns. Called by the simulator and tests after every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker.job import ABANDONED, DELAYED, QUEUED, RUNNING, WAITING, handle_of
from farm.broker.waiting import live

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.job import Job


def check(broker: Broker) -> None:
    """Raise AssertionError at the first thing that is not as it must be."""
    waiting = [job for function in broker.functions.values() for queue in function.queues for job in queue.waiting()]
    assert len(waiting) == len(set(map(id, waiting))), "a job is queued twice"
    queued = set(map(id, waiting))
    for handle, job in broker.jobs.items():
        assert job.handle == handle
        _check_job(broker, job, id(job) in queued)
    assert queued <= set(map(id, broker.jobs.values())), "a job is queued that nobody knows"
    held = sum(job.payload_size for job in broker.jobs.values() if job.background and job.payload is not None)
    assert broker.payload_memory == held, f"{held} bytes of stored payloads are held, {broker.payload_memory} counted"
    held = sum(job.payload_size for job in broker.jobs.values() if job.payload is not None)
    assert broker.memory == held, f"{held} bytes of payloads are held, {broker.memory} counted"
    _check_functions(broker)
    _check_peers(broker)
    _check_course(broker)
    _check_stops(broker)


def _check_course(broker: Broker) -> None:
    assert not broker.settling
    for id, jobs in broker.dependents.items():
        assert jobs, f"nobody waits for {id}"
        assert live(broker, handle_of(id)) or id in broker.stops.by_id, f"nobody will tell those that wait for {id}"
        for job in jobs:
            assert broker.jobs.get(job.handle) is job and job.course and id in job.course.after
    for job in broker.jobs.values():
        for peer in job.course.waiters if job.course else ():
            assert broker.peers.get(peer.id) is peer and peer.waits.get(job.handle) is job
    for peer in broker.peers.values():
        for handle, job in peer.waits.items():
            assert broker.jobs.get(handle) is job and job.course and not job.course.ended


def _check_stops(broker: Broker) -> None:
    stops = broker.stops
    times = [stop.until for stop in stops.by_id.values()]
    assert times == sorted(times), "not all commands that are being stopped are waited for as long"
    for id, stop in stops.by_id.items():
        assert broker.peers.get(stop.worker.id) is stop.worker, f"{id} is being stopped by a worker that has gone"
        job = broker.jobs.get(handle_of(id))
        assert job is None or job.state in (ABANDONED, DELAYED), f"{job} goes on while it is being stopped"
    for key, id in stops.by_key.items():
        assert stops.by_id[id].key == key, f"{id} holds the wrong key"


def _check_job(broker: Broker, job: Job, queued: bool) -> None:
    assert job.state in (WAITING, DELAYED, QUEUED, RUNNING, ABANDONED), f"{job} has ended and is still known"
    waits = bool(job.course and job.course.after)
    assert waits == (job.state == WAITING), f"{job} waits wrongly for other jobs"
    for id in job.course.after if job.course else ():
        assert job in broker.dependents[id], f"{job} would not hear of an end that it waits for"
    assert job not in broker.expiring or job.state in (WAITING, DELAYED, QUEUED), f"{job} can expire without waiting"
    assert (job in broker.delayed) == (job.state == DELAYED), f"{job} waits wrongly for its time"
    assert job not in broker.timeouts or job.worker is not None, f"{job} can time out without running"
    assert queued == (job.state == QUEUED), f"{job} queued: {queued}"
    assert (job.worker is None) == (job.state in (QUEUED, DELAYED, WAITING)), f"{job} worker: {job.worker}"
    if job.worker is not None:
        assert broker.peers.get(job.worker.id) is job.worker, f"{job} runs at a worker that has gone"
        assert job.worker.holds.get(job.handle) is job, f"{job} is not held by its worker"
    if job.state == ABANDONED:
        assert not job.background and not job.watchers, f"{job} is wanted"
        assert job.function.coalescing.get(job.key) is not job if job.key else True, f"{job} can be joined"
    else:
        assert job.background or job.watchers, f"{job} has nobody to wait for it"
    for watcher in job.watchers:
        assert broker.peers.get(watcher.id) is watcher, f"{job} is watched by a client that has gone"
        assert watcher.watches.get(job.handle) is job


def _check_functions(broker: Broker) -> None:
    _check_uniques(broker)
    assert len(broker.spellings) == len(broker.functions)
    for function in broker.functions.values():
        running = [job for job in broker.jobs.values() if job.function is function and job.worker is not None]
        assert function.running == len(running), f"{function} counts its running jobs wrongly"
        delayed = [job for job in broker.jobs.values() if job.function is function and job.state == DELAYED]
        assert function.delayed == len(delayed), f"{function} counts its delayed jobs wrongly"
        assert function.queued == sum(map(len, function.queues))
        others = [job for job in broker.jobs.values() if job.function is function and job.state == WAITING]
        assert function.waiting == len(others), f"{function} counts its waiting jobs wrongly"
        assert function.ready == (0 if function.paused else function.queued), f"{function} gives out the wrong jobs"
        for queue in function.queues:
            assert len(queue) == len(queue.waiting()), f"{function} counts its queued jobs wrongly"
        for key, job in function.coalescing.items():
            assert job.key == key and job.function is function and broker.jobs.get(job.handle) is job
        for peer in function.workers:
            assert function in peer.can_do and broker.peers.get(peer.id) is peer
        for peer in function.sleepers:
            assert peer.asleep and peer.woken_for is None and function in peer.can_do
        expected = [peer for peer in broker.peers.values() if peer.expected and peer.woken_for is function]
        assert function.wakes == len(expected), f"{function} counts the workers it expects wrongly"
        if function.sleepers and not broker.stopping:
            assert function.wakes >= function.ready, f"{function}: a job waits, a worker sleeps, nobody was woken"


def _check_uniques(broker: Broker) -> None:
    count = 0
    first: dict[bytes, Job] = {}
    for function in broker.functions.values():
        for key, job in function.coalescing.items():
            if isinstance(key, bytes):
                first.setdefault(key, job)
                count += 1
    assert len(broker.uniques) == count, "a job is found by its unique that may not be joined, or is not found"
    for key, job in first.items():
        assert broker.uniques.first(key) is job, f"{job} is the first of its unique and not found"


def _check_peers(broker: Broker) -> None:
    due = {(id(peer), deadline) for deadline, _, peer in broker.woken}
    for peer in broker.peers.values():
        assert not peer.expected or (id(peer), peer.expected) in due, f"{peer} is expected for ever"
        for function in peer.can_do:
            assert peer in function.workers
            sleeping = peer.asleep and peer.woken_for is None
            assert (peer in function.sleepers) == sleeping, f"{peer} is listed wrongly as asleep"
        for handle, job in peer.holds.items():
            assert broker.jobs.get(handle) is job and job.worker is peer
        for handle, job in peer.watches.items():
            assert broker.jobs.get(handle) is job and peer in job.watchers
