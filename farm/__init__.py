"""farm: a Gearman job server, and a toolkit that makes any Unix command a worker.

The names of the library (`farm/docs/library.md`) are imported when they are first used: `import farm`, which every
command does, must cost nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from farm import aio as aio
    from farm.client.common import Handle as Handle
    from farm.client.common import Status as Status
    from farm.client.library import Client as Client
    from farm.client.library import Job as Job
    from farm.errors import FarmError as FarmError
    from farm.errors import JobCancelled as JobCancelled
    from farm.errors import JobException as JobException
    from farm.errors import JobFailed as JobFailed
    from farm.errors import JobLost as JobLost
    from farm.errors import NotGearman as NotGearman
    from farm.errors import NotPermitted as NotPermitted
    from farm.errors import Timeout as Timeout
    from farm.errors import TryAgain as TryAgain
    from farm.errors import Unavailable as Unavailable
    from farm.errors import UsageError as UsageError
    from farm.worker.library import TaskFailed as TaskFailed
    from farm.worker.library import Worker as Worker
    from farm.worker.library import WorkerJob as WorkerJob
else:
    _HOMES = {
        "farm.client.common": ("Handle", "Status"),
        "farm.client.library": ("Client", "Job"),
        "farm.errors": (
            "FarmError",
            "JobCancelled",
            "JobException",
            "JobFailed",
            "JobLost",
            "NotGearman",
            "NotPermitted",
            "Timeout",
            "TryAgain",
            "Unavailable",
            "UsageError",
        ),
        "farm.worker.library": ("TaskFailed", "Worker", "WorkerJob"),
    }

    def __getattr__(name):
        """Called for what the module does not have yet."""
        from importlib import import_module

        if name == "aio":
            return import_module("farm.aio")
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(home), name)
                return value
        raise AttributeError(f"module 'farm' has no attribute {name!r}")

    def __dir__():
        return sorted([*globals(), "aio", *(name for names in _HOMES.values() for name in names)])
