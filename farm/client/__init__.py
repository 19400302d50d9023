"""The submitting side: a blocking client on plain sockets. No asyncio: `farm submit` must start fast."""
