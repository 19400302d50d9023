"""The server's settings, checked. Every limit has a name, a default and a reason."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

from farm.protocol.address import Address
from farm.protocol.limits import PAYLOAD_PACKET_MAX

FD_RESERVE = 64  # descriptors kept for listeners, the log, the store and what libraries open
FD_SHARE = 0.8  # of what is left may be connections


@dataclass
class ServerConfig:
    """What `farm server` was told. Times in seconds, sizes in bytes."""

    listen: list[Address] = field(default_factory=lambda: [Address("127.0.0.1", 4730)])
    insecure: bool = False
    max_job_size: int = PAYLOAD_PACKET_MAX
    stop_grace_s: float = 10.0  # running foreground jobs may end, and output be read, for so long after SIGTERM
    stall_s: float = 30.0  # without a byte inside a packet: the peer hangs or is an attack
    linger_s: float = (
        2.0  # after an ERROR, what still comes in is read and dropped, or a reset would overtake the ERROR
    )
    out_high: int = 1024 * 1024  # a reader this far behind stops those who send to it
    out_low: int = 256 * 1024  # until it is this near again
    backlog: int = 1024
    connections_max: int = 0  # 0: what the limit of file descriptors allows

    def connection_limit(self) -> int:
        """How many connections may be open at once."""
        if self.connections_max:
            return self.connections_max
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(8, int((soft - FD_RESERVE) * FD_SHARE))
