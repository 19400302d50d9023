"""Every command, option and argument of farm, once. The light parser, typer's help and completion, and the reference in
`farm/docs` are all made from this table, so they cannot drift apart.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

from farm.cli.values import COUNT as COUNT  # who fills the table finds the kinds here
from farm.cli.values import COUNT_OR_0 as COUNT_OR_0
from farm.cli.values import FLAG as FLAG
from farm.cli.values import SECONDS as SECONDS
from farm.cli.values import SECONDS_OR_0 as SECONDS_OR_0
from farm.cli.values import SIZE as SIZE
from farm.cli.values import TEXT as TEXT
from farm.cli.values import Value as Value
from farm.cli.values import convert, truth
from farm.errors import UsageError


class Option:
    """One option. kind: FLAG, TEXT, COUNT (a whole number above 0), COUNT_OR_0, SECONDS, SECONDS_OR_0 or SIZE.
    env: where it is read from when the command line does not say. default: as a person would type it."""

    __slots__ = ("choices", "default", "env", "flags", "help", "kind", "metavar", "name", "repeat")

    def __init__(
        self,
        name: str,
        flags: str,
        help: str,
        kind: str = TEXT,
        metavar: str = "",
        default: str = "",
        env: str = "",
        repeat: bool = False,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.flags = tuple(flags.split())
        self.help = help
        self.kind = kind
        self.metavar = metavar
        self.default = default
        self.env = env
        self.repeat = repeat
        self.choices = choices


class Argument:
    """One positional argument; `rest` takes all that are left. foreign: they are another program's command line, and
    what looks like an option in it may be that one's. optional: it may be left out, and `env` says it then."""

    __slots__ = ("env", "foreign", "help", "metavar", "name", "optional", "rest")

    def __init__(
        self,
        name: str,
        metavar: str,
        help: str,
        rest: bool = False,
        optional: bool = False,
        env: str = "",
        foreign: bool = False,
    ) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help
        self.rest = rest
        self.foreign = foreign
        self.optional = optional
        self.env = env


class Command:
    """One command of farm. name: one word, or two for a command of a group (GROUPS)."""

    __slots__ = ("arguments", "examples", "help", "name", "options")

    def __init__(
        self, name: str, help: str, arguments: tuple[Argument, ...], options: tuple[Option, ...], examples: str
    ) -> None:
        self.name = name
        self.help = help
        self.arguments = arguments
        self.options = options
        self.examples = examples


Values = dict[str, Value]

# An empty value mostly is a variable of a script that is not set, and must not mean what saying nothing means. With
# these it means something, or whoever reads it says what is wrong. (gearmand's options are as gearmand has them.)
_MAY_BE_EMPTY = ("server", "listen", "file", "reason", "prefix")

SERVER = Option(
    "server",
    "--server -s",
    "The server to talk to: HOST:PORT, [IPV6]:PORT or unix:PATH; repeatable, or several with commas.",
    metavar="ADDRESS",
    default="127.0.0.1:4730",
    env="FARM_SERVER",
    repeat=True,
)
INSECURE = Option(
    "insecure",
    "--insecure",
    "Allow addresses other than loopback, without encryption: for networks that you trust.",
    FLAG,
    env="FARM_INSECURE",
)
QUIET = Option("quiet", "--quiet -q", "Say nothing on stderr but errors.", FLAG)
VERBOSE = Option("verbose", "--verbose -v", "Say more on stderr.", FLAG)
FUNCTION = Argument("function", "FUNCTION", "The name that submitters and workers agree on.")

COMMON = (SERVER, INSECURE)  # also allowed before the command

# How often a failed job runs again: a submitter says it of its job, a worker of the jobs that do not say it.
RETRIES = (
    Option("retries", "--retries", "Run a job that failed again, at most so many times.", COUNT_OR_0, metavar="N"),
    Option(
        "retry_on",
        "--retry-on",
        "Which failures are worth that: exit codes and ranges (75,1-5), exit, signal, timeout, any. Default: any.",
        metavar="WORDS",
    ),
    Option(
        "backoff",
        "--backoff",
        "Wait so long before the first retry, twice as long before each further one. Default: 1s.",
        SECONDS_OR_0,
        metavar="TIME",
    ),
    Option("backoff_max", "--backoff-max", "But no longer than this. Default: 1h.", SECONDS_OR_0, metavar="TIME"),
)

WORK = Command(
    "work",
    "Make a command a worker: it runs once for each job, with the payload on stdin and its stdout as the result.",
    (
        FUNCTION,
        Argument(
            "command", "COMMAND...", "The command and its arguments, run without a shell.", rest=True, foreign=True
        ),
    ),
    (
        Option("cmd", "--cmd", "A shell line (run by sh -c) instead of COMMAND.", metavar="LINE"),
        Option("jobs", "--jobs -j", "Run so many jobs at once.", COUNT, metavar="N", default="1"),
        Option(
            "linger",
            "--linger",
            "After the command's end, wait so long in silence for what it left running with its output open.",
            SECONDS,
            metavar="TIME",
            default="10s",
        ),
        Option("collect", "--collect", "Send each result in one piece, for clients that ignore partial data.", FLAG),
        Option(
            "name", "--name", "What the server's list of workers shows; default: host and process id.", metavar="NAME"
        ),
        Option(
            "timeout",
            "--timeout",
            "End a command that takes longer (TERM to its group, KILL after 5 s); its job has failed with 124.",
            SECONDS,
            metavar="TIME",
        ),
        *RETRIES,
        QUIET,
        VERBOSE,
        *COMMON,
    ),
    "farm work resize -- convert - -resize 50% -\n"
    "farm work upper --cmd 'tr a-z A-Z | rev'\n"
    "farm work resize -j 4 -- convert - -resize 50% -\n"
    "farm work fetch --timeout 5m --retries 5 --retry-on 75,timeout --backoff 10s -- ./fetch.sh",
)

CONFIG = Option(
    "config", "--config -c", "Read settings from a TOML file, table [server].", metavar="FILE", env="FARM_CONFIG"
)


def _limit(name: str, help: str, kind: str, default: str) -> Option:
    metavar = {COUNT: "N", SIZE: "SIZE"}.get(kind, "TIME")
    return Option(name, "--" + name.replace("_", "-"), help, kind, metavar, default, "FARM_" + name.upper())


# Each with its reason in farm/server/config.py; `farm status --json` shows what is in force.
LIMITS = (
    _limit("max_job_size", "Refuse larger payloads and results.", SIZE, "1G"),
    _limit("max_jobs", "Refuse more jobs at once.", COUNT, "10000000"),
    _limit("max_memory", "Refuse jobs whose payloads would take more memory with all the others'.", SIZE, "2G"),
    _limit("max_functions", "Refuse more names of functions.", COUNT, "100000"),
    _limit("max_losses", "Run a job again after so many lost workers; after one more it is dead.", COUNT, "5"),
    _limit("max_line", "Refuse longer lines of the admin protocol.", SIZE, "4K"),
    _limit(
        "keep_results",
        "Keep how background jobs ended and what they wrote, while the disk has room; 0: not at all.",
        SECONDS_OR_0,
        "7d",
    ),
    _limit("keep_results_size", "How much of that to keep; the oldest goes first.", SIZE, "256M"),
    _limit("result_max", "How much to keep of what one background job wrote.", SIZE, "1M"),
    _limit(
        "payload_memory",
        "Payloads of queued background jobs beyond this stay in the store only; memory has no other place.",
        SIZE,
        "256M",
    ),
    _limit(
        "disk_reserve",
        "Take no new background jobs while less is free on the store's disk; default: 64M, on a small disk an eighth.",
        SIZE,
        "",
    ),
    _limit("max_connections", "Refuse more; default, and at most: what the limit of open files allows.", COUNT, ""),
    _limit("backlog", "Connections that may wait to be accepted.", COUNT, "1024"),
    _limit("first_packet", "Close a connection that says nothing at all for so long; 0: never.", SECONDS_OR_0, "0"),
    _limit("stall", "Close a connection that sends nothing for so long in the middle of a packet.", SECONDS, "30s"),
    _limit("linger", "Read on for so long after an ERROR that closes a connection.", SECONDS, "2s"),
    _limit("heartbeat", "How often farm's workers and the server show that they live; 0: never.", SECONDS_OR_0, "4s"),
    _limit("keepalive", "Ask the system to look after a connection that is silent for so long.", SECONDS, "30s"),
    _limit("output_high", "Hold up whoever feeds a reader that is so far behind.", SIZE, "1M"),
    _limit("output_low", "Let them go on when it is so near again.", SIZE, "256K"),
    _limit("output_stall", "Wait so long for a reader that takes nothing while others of its job do.", SECONDS, "10s"),
    _limit("output_max", "Then drop it when it is so far behind.", SIZE, "32M"),
    _limit(
        "stop_grace", "After SIGTERM, wait so long for running jobs; those that take longer run again.", SECONDS, "10s"
    ),
)

SERVE = Command(
    "server",
    "Run the job server, in the foreground with its log on stderr.",
    (),
    (
        Option(
            "listen",
            "--listen -l",
            "Where to listen: HOST:PORT, [IPV6]:PORT or unix:PATH; repeatable, or several with commas.",
            metavar="ADDRESS",
            default="127.0.0.1:4730",
            env="FARM_LISTEN",
            repeat=True,
        ),
        Option(
            "store",
            "--store",
            "The directory where background jobs are kept; memory: they last as long as the server."
            " Default: $XDG_STATE_HOME/farm, and as root /var/lib/farm.",
            metavar="PATH|memory",
            env="FARM_STORE",
        ),
        Option(
            "order",
            "--order",
            "Which job a worker gets: priority first and functions in turns, or gearmand 1.1's order of registration.",
            metavar="priority|registration",
            default="priority",
            choices=("priority", "registration"),
        ),
        Option(
            "wakeup",
            "--wakeup",
            "How many sleeping workers a queued job wakes: as many as needed, or all, as gearmand does.",
            metavar="needed|all",
            default="needed",
            choices=("needed", "all"),
        ),
        Option("exceptions", "--exceptions", "Send WORK_EXCEPTION also to clients that did not ask for it.", FLAG),
        Option(
            "remote_admin", "--remote-admin", "Take admin commands that change something from other machines.", FLAG
        ),
        Option("detach", "--detach -d", "Return once it listens; it goes on in the background.", FLAG),
        Option(
            "log_file", "--log-file", "Append the log to a file instead of stderr.", metavar="FILE", env="FARM_LOG_FILE"
        ),
        Option(
            "log_level",
            "--log-level",
            "How much to log; info has a line for each start and end of a job.",
            metavar="LEVEL",
            default="notice",
            choices=("critical", "error", "warning", "notice", "info", "debug"),
            env="FARM_LOG_LEVEL",
        ),
        Option(
            "log_format",
            "--log-format",
            "How the log is written.",
            metavar="text|json",
            default="text",
            choices=("text", "json"),
            env="FARM_LOG_FORMAT",
        ),
        Option("syslog", "--syslog", "Log to the system's log instead of stderr.", FLAG),
        CONFIG,
        Option("check", "--check", "Check and print the settings and where each comes from; do not serve.", FLAG),
        Option("pid_file", "--pid-file", "Write the process id to a file while running.", metavar="FILE"),
        *LIMITS,
        INSECURE,
    ),
    "farm server\nfarm server --detach --log-file farm.log --listen 127.0.0.1:4730 --listen unix:/run/farm.sock",
)

STATUS = Command(
    "status",
    "Show each function's queued and running jobs and its workers.",
    (),
    (
        Option("json", "--json", "Print JSON (schema farm.status/1).", FLAG),
        Option("watch", "--watch -w", "Show it live until Ctrl-C or q.", FLAG),
        Option("every", "--every", "How often to refresh with --watch.", SECONDS, metavar="TIME", default="1s"),
        *COMMON,
    ),
    "farm status\nfarm status -w\nfarm status --json | jq '.servers[0].functions'",
)

_COMMANDS = {command.name: command for command in (SERVE, WORK, STATUS)}
_NAMES = ("server", "work", "submit", "status")  # in the order of the help

GROUPS = {
    "cron": "Submit jobs again and again, by the clock.",
    "function": "List functions, and set what holds for their jobs.",
    "store": "Check, back up, shrink, export and import the jobs that farm server keeps on disk.",
}


def find(name: str) -> Command | None:
    """The command of this name; None: there is none."""
    if name == "submit":
        from farm.cli.submit_options import SUBMIT

        return SUBMIT
    if name == "gearmand":  # a long table that nothing else needs
        from farm.cli.gearmand_options import GEARMAND

        return GEARMAND
    if name.startswith("store "):
        from farm.cli.store_options import STORE

        return STORE.get(name)
    if name.startswith("cron "):
        from farm.cli.cron_options import CRON

        return CRON.get(name)
    if name in _COMMANDS:
        return _COMMANDS[name]
    from farm.cli.job_options import JOB_COMMANDS

    return JOB_COMMANDS.get(name)


def commands() -> list[Command]:
    """All of them."""
    from farm.cli.cron_options import CRON
    from farm.cli.job_options import JOB_COMMANDS
    from farm.cli.store_options import STORE

    return [command for name in (*_NAMES, *JOB_COMMANDS, *CRON, *STORE, "gearmand") if (command := find(name))]


def complete(command: Command, given: Values, environment: dict[str, str]) -> Values:
    """The values that a command runs with: what was given, else the environment's, else the configuration file's (of a
    command that has one), else the default; checked.

    given: strings as typed, lists of them for repeatable options, True for flags; None, [] or False where not given.
    "sources" says where each value came from. Raises UsageError and InputError.
    """
    values = _arguments(command, given, environment)
    file = _configured(command, given, environment)
    sources: dict[str, str] = {}
    values["sources"] = sources
    for option in command.options:
        value = given.get(option.name)
        source = option.flags[0]
        if value in (None, False, []) and option.env and environment.get(option.env):
            source, text = option.env, environment[option.env]
            value = [text] if option.repeat else text
        if value in (None, False, []) and option.name in file:
            source, value = f"{option.name} in the configuration file", file[option.name]
        sources[option.name] = "default" if value in (None, False, []) else source
        if command.name != "gearmand":
            _refuse_empty(option, source, value)
        if option.kind == FLAG:
            values[option.name] = value is True or (isinstance(value, str) and truth(source, value))
        elif isinstance(value, str):
            values[option.name] = _convert(option, source, value)
        elif value:
            values[option.name] = value
        elif option.repeat:
            values[option.name] = [option.default] if option.default else []
        else:
            values[option.name] = _convert(option, source, option.default) if option.default else None
    return values


def _arguments(command: Command, given: Values, environment: dict[str, str]) -> Values:
    values: Values = {}
    for argument in command.arguments:
        value = given.get(argument.name)
        if argument.optional and value == "":
            raise _empty(argument.metavar)
        values[argument.name] = environment.get(argument.env) if argument.env and value is None else value
    return values


def _configured(command: Command, given: Values, environment: dict[str, str]) -> Values:
    """What the configuration file says."""
    path = CONFIG in command.options and (given.get("config") or environment.get(CONFIG.env))
    if not path:
        return {}
    from farm.cli.config import read

    return read(str(path), command)


def _refuse_empty(option: Option, source: str, value: Value) -> None:
    empty = value == "" or (isinstance(value, list) and "" in value)
    if empty and option.kind == TEXT and not option.choices and option.name not in _MAY_BE_EMPTY:
        raise _empty(source)


def _empty(source: str) -> UsageError:
    return UsageError(f"{source} is empty", "is a variable of the script not set?")


def _convert(option: Option, source: str, text: str) -> Value:
    if option.choices and text not in option.choices:
        raise UsageError(f"{source} cannot be {text!r}", f"one of: {', '.join(option.choices)}")
    return convert(option.kind, source, text)
