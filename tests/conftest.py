"""What holds for all tests."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# A machine that stalls for half a second is no fault of the example that was just tried.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def default_signals() -> None:
    """Tests send SIGINT and SIGHUP. A test run in the background of a script has them ignored, and so would all that it
    starts; with a handler here they are the default there."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
