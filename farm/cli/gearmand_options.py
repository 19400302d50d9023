"""The options of gearmand 1.1.20, so that `farm gearmand` can be put in its place by changing one word."""

from __future__ import annotations

from farm.cli.options import COUNT, FLAG, Command, Option

_TUNES = "Accepted; it only tunes gearmand."
_REFUSED = "Refused: farm has no such thing, and leaving it out would lose jobs or service."

LEVELS = ("FATAL", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")

# name -> what farm does instead; for the warning
TUNING = {
    "threads": "one thread serves all connections",
    "hashtable_buckets": "tables grow by themselves",
    "job_handle_prefix": "handles are farm's own, and never repeat",
    "store_queue_on_shutdown": "every background job is stored before it is acknowledged",
    "coredump": "the system's limit holds",
    "keepalive": "keepalive is always on",
    "keepalive_idle": "keepalive is always on",
    "keepalive_interval": "keepalive is always on",
    "keepalive_count": "keepalive is always on",
}
REFUSED = {
    "protocol": "farm has no HTTP",
    "http_port": "farm has no HTTP",
    "ssl": "farm has no TLS yet; use an ssh tunnel or stunnel",
    "ssl_ca_file": "farm has no TLS yet; use an ssh tunnel or stunnel",
    "ssl_certificate": "farm has no TLS yet; use an ssh tunnel or stunnel",
    "ssl_key": "farm has no TLS yet; use an ssh tunnel or stunnel",
}
DURABLE = "libsqlite3"
QUEUES = ("builtin", DURABLE)
DURABLE_OPTIONS = ("libsqlite3_db", "libsqlite3_table", "store_queue_on_shutdown")
_MODULES = (
    "libpq-conninfo",
    "libpq-table",
    "redis-server",
    "redis-port",
    "redis-password",
    "redis-prefix",
    "mysql-host",
    "mysql-port",
    "mysql-user",
    "mysql-password",
    "mysql-db",
    "mysql-table",
    "libmemcached-servers",
    "libmemcached-prefix",
)
MODULE_OPTIONS = tuple(name.replace("-", "_") for name in _MODULES)

GEARMAND = Command(
    "gearmand",
    "Run the server with gearmand's own options and signals, in place of gearmand 1.1.20.",
    (),
    (
        Option("backlog", "--backlog -b", "Connections that may wait to be accepted.", COUNT, metavar="N"),
        Option("daemon", "--daemon -d", "Return once it listens; it goes on in the background.", FLAG),
        Option("exceptions", "--exceptions", "Send WORK_EXCEPTION also to clients that did not ask for it.", FLAG),
        Option("file_descriptors", "--file-descriptors -f", "Limit of open files.", COUNT, metavar="N"),
        Option(
            "job_retries",
            "--job-retries -j",
            "Fail a job after so many lost workers; 0: never.",
            metavar="N",
            default="0",
        ),
        Option("job_handle_prefix", "--job-handle-prefix", _TUNES, metavar="TEXT"),
        Option("hashtable_buckets", "--hashtable-buckets", _TUNES, metavar="N"),
        Option("keepalive", "--keepalive", _TUNES, FLAG),
        Option("keepalive_idle", "--keepalive-idle", _TUNES, metavar="N"),
        Option("keepalive_interval", "--keepalive-interval", _TUNES, metavar="N"),
        Option("keepalive_count", "--keepalive-count", _TUNES, metavar="N"),
        Option("log_file", "--log-file -l", "Append the log to a file; also `stderr` and `none`.", metavar="FILE"),
        Option(
            "listen",
            "--listen -L",
            "The address to listen on; default, as in gearmand: all of this machine's.",
            metavar="ADDRESS",
        ),
        Option("pid_file", "--pid-file -P", "Write the process id to a file while running.", metavar="FILE"),
        Option("protocol", "--protocol -r", _REFUSED, metavar="NAME"),
        Option(
            "remote_admin",
            "--remote-admin",
            "Take admin commands that change something from other machines, as gearmand does (farm's own option).",
            FLAG,
        ),
        Option("round_robin", "--round-robin -R", "Functions of a worker take turns, priority first.", FLAG),
        Option(
            "queue_type",
            "--queue-type -q",
            "builtin: jobs last as long as the server; libsqlite3: they are kept in farm's own durable store.",
            metavar="NAME",
            default="builtin",
        ),
        Option("config_file", "--config-file", "Read more of these options from a file.", metavar="FILE"),
        Option("syslog", "--syslog", "Log to the system's log.", FLAG),
        Option("coredump", "--coredump", _TUNES, FLAG),
        Option("threads", "--threads -t", _TUNES, metavar="N"),
        Option("user", "--user -u", "Become this user once it listens.", metavar="NAME"),
        Option("verbose", "--verbose", "How much to log.", metavar="LEVEL", default="ERROR", choices=LEVELS),
        Option(
            "worker_wakeup",
            "--worker-wakeup -w",
            "0: a job wakes all sleeping workers; otherwise as many as are needed.",
            metavar="N",
            default="1",
        ),
        Option("check_args", "--check-args", "Check these options; do not serve.", FLAG),
        Option("http_port", "--http-port", _REFUSED, metavar="N"),
        Option("port", "--port -p", "The port to listen on.", metavar="N", default="4730", env="GEARMAND_PORT"),
        Option("ssl", "--ssl", _REFUSED, FLAG),
        Option("ssl_ca_file", "--ssl-ca-file", _REFUSED, metavar="FILE"),
        Option("ssl_certificate", "--ssl-certificate", _REFUSED, metavar="FILE"),
        Option("ssl_key", "--ssl-key", _REFUSED, metavar="FILE"),
        *(
            Option(name.replace("-", "_"), f"--{name}", "Of a queue module; see --queue-type.", metavar="TEXT")
            for name in _MODULES
        ),
        Option(
            "libsqlite3_db",
            "--libsqlite3-db",
            "With -q libsqlite3: jobs are kept in FILE.farm; what gearmand left in FILE is taken in once.",
            metavar="FILE",
        ),
        Option(
            "libsqlite3_table", "--libsqlite3-table", "gearmand's table in that file (gearman_queue).", metavar="NAME"
        ),
        Option("store_queue_on_shutdown", "--store-queue-on-shutdown", _TUNES, FLAG),
        Option("version", "--version -V", "Print the version.", FLAG),
    ),
    "farm gearmand -d -L 127.0.0.1 -p 4730 -P /run/gearmand.pid -l /var/log/gearmand.log -j 3",
)
