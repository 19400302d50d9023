"""Which packages are tried, and what each of them can do: the table behind farm/docs/compatibility.md.

A client driver is called with PORT ACTION NAME PRIORITY UNIQUE WHEN and the payload on stdin. It writes results to
stdout as they come, and on stderr one line for each event: `warning TEXT`, `status N/D`, `exception TEXT`, `fail`. It
exits 0, or 1 when a job failed. Its actions:

    run            one foreground job
    exceptions     the same, with the option `exceptions` set before
    parallel       one foreground job for each line of the payload, all under way at once
    background     prints the handle
    epoch          a background job for later, prints the handle
    query          GET_STATUS of the handle NAME: prints known, running, numerator, denominator
    query-unique   the same by the key UNIQUE
    echo           ECHO_REQ: prints `echoed`
    admin          prints the function's jobs, running jobs and workers
    cancel         `cancel job` of the handle NAME: prints what it was told

A worker driver is called with PORT PREFIX, and offers PREFIX-echo, which returns the payload, and of these what its
package can do:

    größe          as echo, under a name in UTF-8
    stream         `one `, `two ` as WORK_DATA, then completes with `three`
    warn           the warning `careful`, then as echo
    status         1/4 and 3/4, then as echo
    fail           fails
    raise          an exception `it broke`
    unique         returns the key
    late           registered with a timeout of 1; waits until the file that the payload names is there, then as echo
"""

from __future__ import annotations

from dataclasses import dataclass

C, PERL, PHP, GEAR, PYGEARMAN, NODE = "C", "Perl", "PHP", "Python (gear)", "Python (pygearman)", "Node"

CLIENT_FEATURES = {
    "empty": "nothing in, nothing out",
    "run": "foreground",
    "background": "background",
    "priority": "priorities",
    "unique": "unique",
    "data": "data",
    "warning": "warning",
    "status": "status",
    "fail": "fail",
    "exceptions": "exception",
    "parallel": "parallel",
    "query": "GET_STATUS",
    "query-unique": "by unique",
    "epoch": "epoch",
    "echo": "echo",
    "admin": "admin",
}

WORKER_FEATURES = {
    "echo": "result",
    "größe": "UTF-8 name",
    "stream": "data",
    "warn": "warning",
    "status": "status",
    "fail": "fail",
    "raise": "exception",
    "unique": "unique",
    "late": "timeout",
    "id": "id",
}


@dataclass(frozen=True)
class Package:
    """One package. needs: the programs without which it cannot be tried. client, worker: what it can do as one."""

    name: str
    version: str
    language: str
    needs: tuple[str, ...]
    command: tuple[str, ...]
    client: str
    worker: str

    def can(self, end: str, feature: str) -> bool:
        """Whether it has this feature as `client` or `worker`."""
        return feature in getattr(self, end).split()


_NODE = (("node", "npm"), ("node", "{here}/node/{name}_{end}.js"))

PACKAGES = [
    Package(
        "libgearman",
        "1.1.20",
        C,
        ("cc",),
        ("{build}/{end}",),
        "empty run background priority unique data warning status fail exceptions parallel"
        " query query-unique epoch echo",
        "echo größe stream warn status fail raise unique late id",
    ),
    Package(
        "Gearman::Client",
        "2.004.015",
        PERL,
        ("perl",),
        ("perl", "{here}/perl/{end}.pl"),
        "empty run background priority unique data warning status fail exceptions parallel query admin",
        "echo größe stream warn status fail raise late id",
    ),
    Package(
        "pecl-gearman",
        "2.1.0",
        PHP,
        ("php",),
        ("php", "-d", "display_errors=stderr", "{here}/php/{end}.php"),
        "run background priority unique data warning status fail exceptions parallel query query-unique echo",
        "echo größe stream warn status fail raise unique late id",
    ),
    Package(
        "gear",
        "0.16.0",
        GEAR,
        (),
        ("{venv}/bin/python", "{here}/python/gear_{end}.py"),
        "empty run background priority unique data warning status fail exceptions parallel admin cancel",
        "echo größe stream warn status fail raise unique late id",
    ),
    Package(
        "pygearman",
        "0.2.6",
        PYGEARMAN,
        (),
        ("{venv}/bin/python", "{here}/python/pygearman_{end}.py"),
        "empty run background priority unique data warning status fail parallel own-status admin cancel",
        "echo größe stream warn status fail raise unique id",
    ),
    Package(
        "gearmanode",
        "0.9.2",
        NODE,
        *_NODE,
        "empty run background priority unique data warning status fail exceptions parallel own-status echo",
        "echo stream warn status fail raise unique late id",
    ),
    Package(
        "abraxas",
        "2.1.10",
        NODE,
        *_NODE,
        "empty run background priority unique data warning status fail exceptions parallel query epoch echo admin",
        "echo größe stream warn status raise unique late id",
    ),
    Package(
        "node-gearman",
        "0.2.2",
        NODE,
        *_NODE,
        "empty run background priority unique data fail parallel",
        "echo größe stream fail",
    ),
]

NAMES = [package.name for package in PACKAGES]


def package(name: str) -> Package:
    """The package of this name."""
    return next(package for package in PACKAGES if package.name == name)


def able(end: str, feature: str) -> list[str]:
    """The names of all packages that have this feature as `client` or `worker`."""
    return [package.name for package in PACKAGES if package.can(end, feature)]
