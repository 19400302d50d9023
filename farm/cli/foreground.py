"""`farm submit` that waits: a job as a pipe, what signals and lost servers do to it, and the time it may take.

On the start-up path: it imports nothing slow.
"""

from __future__ import annotations

import signal

from farm.cli.main import Leave
from farm.cli.options import Values
from farm.cli.servers import Servers
from farm.client.request import Request
from farm.client.submit import Foreground
from farm.errors import EXIT_SIGNAL_BASE, EXIT_TIMEOUT, FarmError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs a millisecond
    from collections.abc import Callable

WAIT_MAX_S = 1e9  # thirty years: what the system's timer can count


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end, or its time is up (SIGALRM). Not an Exception, so that nothing on the way
    takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """The first signal raises Interrupted, and the job is given up. While the server's word on that is awaited, a
    second one detaches: it ends this process at once. (The server notices that too.)

    One that comes while it is held back is raised as soon as it is let (farm.client.connection.Holder); a second one
    does not wait for that either."""

    def __init__(self) -> None:
        self._caught: list[int] = []
        self._over = False
        self._holding = False
        self._held = 0  # the signal that came meanwhile

    def catch(self, *numbers: int) -> None:
        """From now on."""
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background shells mean it
                self._caught.append(number)
                signal.signal(number, self._interrupt)

    def set_timer(self, seconds: float) -> None:
        """Interrupted (SIGALRM) after so long."""
        signal.signal(signal.SIGALRM, self._interrupt)
        signal.setitimer(signal.ITIMER_REAL, min(seconds, WAIT_MAX_S))

    def stop_timer(self) -> None:
        """The time does not count any more, also if it has just run out."""
        self._over = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def hold(self) -> None:
        """Raise nothing from now on."""
        self._holding = True

    def let(self) -> None:
        """Raise at once again, also what was held back."""
        self._holding = False
        if self._held:
            number, self._held = self._held, 0
            raise Interrupted(number)

    def _interrupt(self, number: int, frame: object) -> None:
        if number == signal.SIGALRM and self._over:
            return
        self.stop_timer()
        for each in self._caught:
            signal.signal(each, signal.SIG_DFL)
        if self._holding:
            self._held = number
        else:
            raise Interrupted(number)


def run(wanted: Request, values: Values, servers: Servers, notify: Callable[[str, str], None]) -> int:
    """Submit, and leave with the job's exit code. Raises Leave, FarmError and Exists."""
    signals = Signals()
    limit_s = values["wait_timeout"]
    job: Foreground | None = None
    try:
        if isinstance(limit_s, float):
            signals.set_timer(limit_s)
        connection = servers.connect_for(wanted.function, bool(values["no_wait"]))
        connection.holder = signals
        job = Foreground(connection, wanted, notify, verbose=bool(values["verbose"]))
        signals.catch(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        status = _run(job, servers, notify)
    except Interrupted as interrupted:
        _, words = _give_up(job, early=True)
        if words:
            notify(words, "")
        if interrupted.number == signal.SIGALRM:
            words = f"the job has not ended within {limit_s:.15g}s (--wait-timeout)"
            raise FarmError(words, status=EXIT_TIMEOUT) from None
        raise Leave(EXIT_SIGNAL_BASE + interrupted.number, signal=interrupted.number) from None
    except (BrokenPipeError, FarmError) as error:
        signals.stop_timer()
        ends, words = _give_up(job)
        if not ends:  # where it ends nothing is said, as in any pipe whose reader leaves
            notify(words, "")
        if isinstance(error, FarmError):
            raise
        raise Leave(EXIT_SIGNAL_BASE + signal.SIGPIPE, signal=signal.SIGPIPE) from None
    finally:
        signals.stop_timer()
    raise Leave(status, job.origin)


def _run(job: Foreground, servers: Servers, notify: Callable[[str, str], None]) -> int:
    """Run it, and where a server that goes away does not matter (`--retry-lost`), run it again through the next."""
    while True:
        try:
            return job.run()
        except Unavailable as lost:
            job.move_to(servers.connect_again(job.connection, lost, notify))


def _give_up(job: Foreground | None, early: bool = False) -> tuple[bool, str]:
    """Cancel; a second signal does not wait for the server's word."""
    try:
        return job.cancel(early) if job else (True, "")
    except Interrupted:
        return True, ""
