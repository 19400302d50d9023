"""A worker on pygearman: PORT PREFIX. The functions that it offers are listed in ../packages.py."""

import sys

import gearman
from gearman.job import GearmanJob


class Fails(Exception):
    """The job is to fail without more words, as every exception does in pygearman as it comes."""


class Worker(gearman.GearmanWorker):
    """It sends an exception where a handler raised one."""

    def on_job_exception(self, current_job: GearmanJob, exc_info: tuple) -> bool:
        if exc_info[0] is Fails:
            return super().on_job_exception(current_job, exc_info)
        self.send_job_exception(current_job, str(exc_info[1]).encode())
        return False


def echo(worker: Worker, job: GearmanJob) -> bytes:
    return job.data


def stream(worker: Worker, job: GearmanJob) -> bytes:
    worker.send_job_data(job, b"one ")
    worker.send_job_data(job, b"two ")
    return b"three"


def warn(worker: Worker, job: GearmanJob) -> bytes:
    worker.send_job_warning(job, b"careful")
    return job.data


def status(worker: Worker, job: GearmanJob) -> bytes:
    worker.send_job_status(job, 1, 4)
    worker.send_job_status(job, 3, 4)
    return job.data


def fails(worker: Worker, job: GearmanJob) -> bytes:
    raise Fails


def raises(worker: Worker, job: GearmanJob) -> bytes:
    raise ValueError("it broke")


def unique(worker: Worker, job: GearmanJob) -> bytes:
    return job.unique


OFFERS = {
    "echo": echo,
    "größe": echo,
    "stream": stream,
    "warn": warn,
    "status": status,
    "fail": fails,
    "raise": raises,
    "unique": unique,
}

port, prefix = sys.argv[1:]
worker = Worker([f"127.0.0.1:{port}"])
worker.set_client_id(prefix)
for name, handler in OFFERS.items():
    worker.register_task(f"{prefix}-{name}".encode(), handler)
worker.work()
