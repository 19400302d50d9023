"""The server's settings, checked. Every limit has a name, a default and a reason."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

from farm.broker.broker import DEFAULT, WAKE_PATIENCE_S, Rules
from farm.net import KEEPALIVE_COUNT, KEEPALIVE_IDLE_S, keepalive_interval
from farm.protocol.address import Address
from farm.protocol.extension import HEARTBEAT_S, HEARTBEATS_MISSED
from farm.protocol.limits import (
    FUNCTION_NAME_MAX,
    PAYLOAD_PACKET_MAX,
    SMALL_PACKET_MAX,
    STORED_PAYLOAD_MAX,
    TEXT_LINE_MAX,
    UNIQUE_MAX,
)

CONNECTIONS_MIN = 8  # whatever the limit of descriptors: with fewer nobody could work
FD_RESERVE = 64  # descriptors kept for listeners, the log, the store and what libraries open
LISTED_MAX = 4 * 1024 * 1024  # of listings that one segment may ask for: `status` is 7 bytes, its answer megabytes
TURN_S = 0.02  # of taking packets in one turn; what one connection sends at once may be work for seconds
FD_SHARE = 0.8  # of what is left may be connections
# How long a connection may say nothing and still count as one that is about to. After that it gives its place to a new
# one when there is no other, so that a crowd of mute connections cannot lock the others out.
MUTE_S = 10.0


@dataclass
class ServerConfig:
    """What `farm server` was told. Times in seconds, sizes in bytes."""

    listen: list[Address] = field(default_factory=lambda: [Address("127.0.0.1", 4730)])
    insecure: bool = False
    remote_admin: bool = False  # commands that change something are else taken from this machine only
    rules: Rules = DEFAULT
    keep_results_s: float = 7 * 86400.0  # what background jobs wrote and how they ended; long enough for a holiday
    keep_results_size: int = 256 * 1024 * 1024  # of all of it
    max_job_size: int = PAYLOAD_PACKET_MAX
    line_max: int = TEXT_LINE_MAX
    stop_grace_s: float = 10.0  # running jobs may end, and output be read, for so long after SIGTERM
    # 0: never. gear's client connects when it is made and may have nothing to say for days, and so may pools of
    # connections; decision 9. What a silent one costs is its place, see MUTE_S.
    first_packet_s: float = 0.0
    stall_s: float = 30.0  # without a byte inside a packet: the peer hangs or is an attack
    linger_s: float = (
        2.0  # after an ERROR, what still comes in is read and dropped, or a reset would overtake the ERROR
    )
    heartbeat_s: float = HEARTBEAT_S  # between farm's own ends; 0: none
    keepalive_s: int = KEEPALIVE_IDLE_S  # stock peers send nothing of their own to show that they live
    out_high: int = 1024 * 1024  # a reader this far behind stops those who send to it
    out_low: int = 256 * 1024  # until it is this near again
    # A stock reader that takes nothing for so long, while others of its job would read on, is waited for no longer.
    out_stall_s: float = 10.0
    # And then it is dropped when it is so far behind. The packet that is being sent does not count.
    out_max: int = 32 * 1024 * 1024
    backlog: int = 1024
    connections_max: int = 0  # 0: what the limit of file descriptors allows

    def limits(self) -> dict[str, float]:
        """Every limit with its value in force, as `farm status --json` shows them."""
        return {
            "connections_max": self.connection_limit(),
            "descriptors_max": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "backlog": self.backlog,
            "packet_without_payload_bytes_max": SMALL_PACKET_MAX,
            "job_bytes_max": self.max_job_size,
            "background_job_bytes_max": min(self.max_job_size, STORED_PAYLOAD_MAX),
            "result_kept_bytes_max": self.rules.result_max,
            "results_kept_s": self.keep_results_s,
            "results_kept_bytes_max": self.keep_results_size,
            "payload_memory_bytes_max": self.rules.payload_memory_max,
            "memory_bytes_max": self.rules.memory_max,
            "text_line_bytes_max": self.line_max,
            "function_name_bytes_max": FUNCTION_NAME_MAX,
            "unique_bytes_max": UNIQUE_MAX,
            "functions_max": self.rules.functions_max,
            "jobs_max": self.rules.jobs_max,
            "worker_losses_max": self.rules.losses_max,
            "listings_at_once_bytes_max": LISTED_MAX,
            "turn_s": TURN_S,
            "output_high_bytes": self.out_high,
            "output_low_bytes": self.out_low,
            "output_stall_s": self.out_stall_s,
            "output_bytes_max": self.out_max,
            "first_packet_s": self.first_packet_s,
            "mute_s": MUTE_S,
            "stall_s": self.stall_s,
            "linger_s": self.linger_s,
            "stop_grace_s": self.stop_grace_s,
            "heartbeat_s": self.heartbeat_s,
            "heartbeats_missed_max": HEARTBEATS_MISSED,
            "keepalive_idle_s": self.keepalive_s,
            "keepalive_interval_s": keepalive_interval(self.keepalive_s),
            "keepalive_count": KEEPALIVE_COUNT,
            "wake_patience_s": WAKE_PATIENCE_S,
        }

    def connection_limit(self) -> int:
        """How many connections may be open at once: fewer than was asked for where there are not the descriptors, for
        the one after the last must still be told."""
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FD_RESERVE
        if self.connections_max:
            return min(self.connections_max, max(CONNECTIONS_MIN, room))
        return max(CONNECTIONS_MIN, int(room * FD_SHARE))

    def connections_note(self) -> str:
        """What to say where that is fewer than was asked for; else ""."""
        limit, soft = self.connection_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"only {limit}, for {soft} files may be open (ulimit -n)" if limit < self.connections_max else ""
