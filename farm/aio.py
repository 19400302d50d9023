"""farm for asyncio: `farm.aio.Client`. The names are here; the code is in `farm/client/aio.py`."""

from __future__ import annotations

from farm.client.aio import Client, Job

__all__ = ["Client", "Job"]
