"""A worker on gear: PORT PREFIX. The functions that it offers are listed in ../packages.py."""

import os
import sys
import time

import gear


def stream(job: gear.WorkerJob) -> None:
    job.sendWorkData(b"one ")
    job.sendWorkData(b"two ")
    job.sendWorkComplete(b"three")


def warn(job: gear.WorkerJob) -> None:
    job.sendWorkWarning(b"careful")
    job.sendWorkComplete(job.arguments)


def status(job: gear.WorkerJob) -> None:
    job.sendWorkStatus(1, 4)
    job.sendWorkStatus(3, 4)
    job.sendWorkComplete(job.arguments)


def late(job: gear.WorkerJob) -> None:
    while not os.path.exists(job.arguments):
        time.sleep(0.005)
    job.sendWorkComplete(job.arguments)


OFFERS = {
    "echo": lambda job: job.sendWorkComplete(job.arguments),
    "größe": lambda job: job.sendWorkComplete(job.arguments),
    "stream": stream,
    "warn": warn,
    "status": status,
    "fail": lambda job: job.sendWorkFail(),
    "raise": lambda job: job.sendWorkException(b"it broke"),
    "unique": lambda job: job.sendWorkComplete(job.unique),
    "late": late,
}

port, prefix = sys.argv[1:]
worker = gear.Worker(prefix)
worker.addServer("127.0.0.1", int(port))
worker.waitForServer(30)
for offer in OFFERS:
    worker.registerFunction(f"{prefix}-{offer}", b"1" if offer == "late" else None)
while True:
    assigned = worker.getJob()
    OFFERS[assigned.name.removeprefix(prefix + "-")](assigned)
