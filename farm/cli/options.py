"""Every command, option and argument of farm, once. The light parser, typer's help and completion, and the reference in
`farm/docs` are all made from this table, so they cannot drift apart.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

from farm.errors import UsageError

FLAG, TEXT, COUNT, SECONDS, SECONDS_OR_0, SIZE = "flag", "text", "count", "seconds", "seconds or 0", "size"

_LEAST = 1e-9  # of what must be above 0
_SIZE_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SECONDS_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Option:
    """One option. kind: FLAG, TEXT, COUNT (a whole number above 0), SECONDS, SECONDS_OR_0 or SIZE.
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
    """One positional argument; `rest` takes all that are left. optional: it may be left out, and `env` says it then."""

    __slots__ = ("env", "help", "metavar", "name", "optional", "rest")

    def __init__(
        self, name: str, metavar: str, help: str, rest: bool = False, optional: bool = False, env: str = ""
    ) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help
        self.rest = rest
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


Value = str | int | float | bool | list[str] | dict[str, str] | None
Values = dict[str, Value]

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

SUBMIT = Command(
    "submit",
    "Submit a job: stdin is its payload, stdout its result, the exit code the command's own.",
    (FUNCTION,),
    (
        Option("background", "--background -b", "Do not wait: print the job's handle and nothing else.", FLAG),
        Option("file", "--file -f", "Read the payload from a file instead of stdin; - is stdin.", metavar="FILE"),
        Option("no_input", "--no-input -n", "Submit an empty payload; do not read stdin.", FLAG),
        Option("unique", "--unique -u", "Join the job with the same key if one is queued or running.", metavar="KEY"),
        Option(
            "priority",
            "--priority -p",
            "Jobs of a higher priority run first.",
            metavar="high|normal|low",
            default="normal",
            choices=("high", "normal", "low"),
        ),
        Option(
            "order",
            "--order",
            "Which of several servers: the first named that works, or any that works, so that the load is spread.",
            metavar="ordered|random",
            default="ordered",
            choices=("ordered", "random"),
            env="FARM_ORDER",
        ),
        Option(
            "retry_lost",
            "--retry-lost",
            "Submit the job again, if need be to the next server, when a server is lost.",
            FLAG,
        ),
        Option("no_wait", "--no-wait", "Fail at once (exit 69) when no worker offers the function.", FLAG),
        QUIET,
        VERBOSE,
        *COMMON,
    ),
    "farm submit resize < img.jpg > small.jpg\n"
    "id=$(farm submit -b report < data.csv)\n"
    "farm submit -s main:4730,spare:4730 --retry-lost report < data.csv",
)

WORK = Command(
    "work",
    "Make a command a worker: it runs once for each job, with the payload on stdin and its stdout as the result.",
    (FUNCTION, Argument("command", "COMMAND...", "The command and its arguments, run without a shell.", rest=True)),
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
        QUIET,
        VERBOSE,
        *COMMON,
    ),
    "farm work resize -- convert - -resize 50% -\n"
    "farm work upper --cmd 'tr a-z A-Z | rev'\n"
    "farm work resize -j 4 -- convert - -resize 50% -",
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
    _limit("max_line", "Refuse longer lines of the admin protocol.", SIZE, "4K"),
    _limit("keep_results", "Keep how background jobs ended and what they wrote; 0: not at all.", SECONDS_OR_0, "7d"),
    _limit("keep_results_size", "How much of that to keep; the oldest goes first.", SIZE, "256M"),
    _limit("result_max", "How much to keep of what one background job wrote.", SIZE, "1M"),
    _limit(
        "payload_memory",
        "Payloads of queued background jobs beyond this stay in the store only; memory has no other place.",
        SIZE,
        "256M",
    ),
    _limit("disk_reserve", "Take no new background jobs while less is free on the store's disk.", SIZE, "64M"),
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

_COMMANDS = {command.name: command for command in (SERVE, WORK, SUBMIT, STATUS)}

GROUPS = {"store": "Check, back up, shrink, export and import the jobs that farm server keeps on disk."}


def find(name: str) -> Command | None:
    """The command of this name; None: there is none."""
    if name == "gearmand":  # a long table that nothing else needs
        from farm.cli.gearmand_options import GEARMAND

        return GEARMAND
    if name.startswith("store "):
        from farm.cli.store_options import STORE

        return STORE.get(name)
    return _COMMANDS.get(name)


def commands() -> list[Command]:
    """All of them."""
    from farm.cli.store_options import STORE

    return [command for name in (*_COMMANDS, *STORE, "gearmand") if (command := find(name))]


def complete(command: Command, given: Values, environment: dict[str, str]) -> Values:
    """The values that a command runs with: what was given, else the environment's, else the configuration file's (of a
    command that has one), else the default; checked.

    given: strings as typed, lists of them for repeatable options, True for flags; None, [] or False where not given.
    "sources" says where each value came from. Raises UsageError and InputError.
    """
    values: Values = {argument.name: given.get(argument.name) for argument in command.arguments}
    for argument in command.arguments:
        if argument.env and values[argument.name] is None:
            values[argument.name] = environment.get(argument.env)
    file: Values = {}
    sources: dict[str, str] = {}
    values["sources"] = sources
    if CONFIG in command.options:
        path = given.get("config") or environment.get(CONFIG.env)
        if path:
            from farm.cli.config import read

            file = read(str(path), command)
    for option in command.options:
        value = given.get(option.name)
        source = option.flags[0]
        if value in (None, False, []) and option.env and environment.get(option.env):
            source, text = option.env, environment[option.env]
            value = [text] if option.repeat else text
        if value in (None, False, []) and option.name in file:
            source, value = f"{option.name} in the configuration file", file[option.name]
        sources[option.name] = "default" if value in (None, False, []) else source
        if option.kind == FLAG:
            values[option.name] = value is True or (isinstance(value, str) and _truth(source, value))
        elif isinstance(value, str):
            values[option.name] = _convert(option, source, value)
        elif value:
            values[option.name] = value
        elif option.repeat:
            values[option.name] = [option.default]
        else:
            values[option.name] = _convert(option, source, option.default) if option.default else None
    return values


def _truth(source: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{source} is neither yes nor no: {text!r}", "write 1 or 0")


def _convert(option: Option, source: str, text: str) -> Value:
    if option.choices and text not in option.choices:
        raise UsageError(f"{source} cannot be {text!r}", f"one of: {', '.join(option.choices)}")
    if option.kind == COUNT:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
            raise UsageError(f"{source} is not a whole number above 0: {text!r}")
        return int(text)
    if option.kind == SECONDS:
        return _measure(source, text, _SECONDS_UNITS, "a time", "write 10s, 500ms, 5m or 2h")
    if option.kind == SECONDS_OR_0:
        return _measure(source, text, _SECONDS_UNITS, "a time", "write 10s, 500ms, 5m or 2h, or 0", least=0.0)
    if option.kind == SIZE:
        upper = text.upper().removesuffix("B").removesuffix("I")
        size = int(_measure(source, upper, _SIZE_UNITS, "a size", "write 64M or 1G"))
        if not size:
            raise UsageError(f"{source} is not a size above 0: {text!r}")
        return size
    return text


def _measure(
    source: str, text: str, units: dict[str, float] | dict[str, int], what: str, hint: str, least: float = _LEAST
) -> float:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(number) :]
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        raise UsageError(f"{source} is not {what}: {text!r}", hint) from None
    if not least <= value < 1e15:
        above = " above 0" if least else ""
        raise UsageError(f"{source} is not {what}{above}: {text!r}", hint)
    return value
