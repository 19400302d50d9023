"""The commands that ask about jobs and change them, and those of `farm function`."""

from __future__ import annotations

from farm.cli.options import COMMON, COUNT, FLAG, FUNCTION, SECONDS, SECONDS_OR_0, VERBOSE, Argument, Command, Option

_WHICH = "its handle, a beginning that only it has, its last number, or last"

ID = Argument("id", "ID", f"The job: {_WHICH}.")
IDS = Argument("ids", "ID...", f"The jobs, each {_WHICH}; - reads them from stdin.", rest=True)

STATE = Option(
    "state",
    "--state",
    "Only jobs in these states; repeatable, or several with commas.",
    metavar="STATE",
    repeat=True,
)
WHERE = Option("where", "--where", "Only jobs that this is true of: 'run > 10s and exit != 0'.", metavar="EXPRESSION")


def json_of(schema: str) -> Option:
    """`--json`."""
    return Option("json", "--json", f"Print JSON (schema {schema}).", FLAG)


def _selecting(state: str) -> tuple[Option, ...]:
    """What a command has that takes IDs or --where."""
    return (
        WHERE,
        Option(
            "state",
            "--state",
            f"Jobs in these states (with --where alone: {state}); repeatable, or several with commas.",
            metavar="STATE",
            repeat=True,
        ),
        Option("yes", "--yes -y", "Do not ask before several jobs of --where or --state are changed.", FLAG),
        Option("dry_run", "--dry-run", "Only list the jobs that are meant, as farm jobs does.", FLAG),
    )


JOBS = Command(
    "jobs",
    "List jobs: first what waits and runs, the newest first, then what has ended, the newest end first.",
    (),
    (
        STATE,
        Option("function", "--function", "Only jobs of this function.", metavar="FUNCTION"),
        Option(
            "since",
            "--since",
            "Only jobs submitted since then: 10m or 2h ago, 17:00, yesterday, 2026-11-24 or 2026-11-24T17:00.",
            metavar="TIME",
        ),
        WHERE,
        Option(
            "sort", "--sort", "Order by a field of --where; with - before it the largest first.", metavar="[-]FIELD"
        ),
        Option("limit", "--limit", "List so many at most.", COUNT, metavar="N", default="50"),
        Option("all", "--all", "List all, however many there are.", FLAG),
        json_of("farm.jobs/1"),
        *COMMON,
    ),
    "farm jobs\n"
    "farm jobs --state dead --since yesterday\n"
    "farm jobs --where 'run > 10s and exit != 0' --sort -run\n"
    "farm jobs --all | awk -F'\\t' '$2 == \"dead\" { print $1 }'",
)

SHOW = Command(
    "show",
    "Show everything that is known of a job: its terms, its attempts, and what happened when.",
    (ID,),
    (json_of("farm.job/1"), *COMMON),
    "farm show last\nfarm show 12 --json | jq .job.state",
)

LOGS = Command(
    "logs",
    "Print what a job wrote to stderr.",
    (ID,),
    (
        Option(
            "follow",
            "--follow -f",
            "Go on until it ends, stdout to stdout and stderr to stderr, and exit as the job did.",
            FLAG,
        ),
        Option("attempt", "--attempt", "The end of this attempt's; default: all of the newest.", COUNT, metavar="N"),
        Option(
            "json",
            "--json",
            "Print JSON, of each attempt (schema farm.logs/1); with --follow a line for each piece (farm.follow/1).",
            FLAG,
        ),
        *COMMON,
    ),
    "farm logs last\nfarm logs -f last\nfarm logs 12 --attempt 1\nfarm logs 12 --json | jq '.attempts_list[-1].stderr'",
)

RESULT = Command(
    "result",
    "Write what a job wrote to stdout, and exit as the job did; 75: it has not ended, 65: only a part was kept.",
    (ID,),
    (json_of("farm.result/1"), *COMMON),
    "farm result last > small.jpg\nfarm wait 12 && farm result 12",
)

WAIT = Command(
    "wait",
    "Wait until jobs have ended, also while their server is started again, and exit as they did.",
    (IDS,),
    (
        Option("any", "--any", "Return when the first of them has ended.", FLAG),
        Option(
            "exit",
            "--exit",
            "Of several jobs, whose exit code: that of the first to end, or the highest.",
            metavar="first|max",
            default="max",
            choices=("first", "max"),
        ),
        Option("timeout", "--timeout", "Wait no longer than this (then exit 124); the jobs go on.", SECONDS, "TIME"),
        Option("json", "--json", "Print a line of JSON for each job that ends (schema farm.wait/1).", FLAG),
        VERBOSE,
        *COMMON,
    ),
    "farm wait last\nfarm wait 12 13 14 --any\nfarm jobs --state queued | cut -f1 | tail -n +2 | farm wait -",
)

CANCEL = Command(
    "cancel",
    "Cancel jobs: those that wait never run, those that run are ended at their worker.",
    (IDS,),
    (
        Option("reason", "--reason", "Why, for whoever looks at them later.", metavar="TEXT"),
        json_of("farm.cancel/1"),
        *COMMON,
    ),
    "farm cancel last\nfarm cancel 12 13 --reason 'wrong input'",
)

RETRY = Command(
    "retry",
    "Run jobs that have failed again.",
    (IDS,),
    (*_selecting("dead"), json_of("farm.retry/1"), *COMMON),
    "farm retry last\nfarm retry --where 'function = resize and ended < 1h'",
)

PURGE = Command(
    "purge",
    "Forget jobs that have ended, with their results and logs.",
    (IDS,),
    (*_selecting("done, dead, cancelled, expired"), json_of("farm.purge/1"), *COMMON),
    "farm purge 12\nfarm purge --where 'state = dead and ended > 7d' --yes",
)

EXPLAIN = Command(
    "explain",
    "Say why a job is not running, and what could be done about it.",
    (ID,),
    (json_of("farm.explain/1"), *COMMON),
    "farm explain last",
)

PAUSE = Command(
    "pause",
    "Start no more jobs of a function; those that run go on, and new ones are queued.",
    (FUNCTION,),
    (json_of("farm.function/1"), *COMMON),
    "farm pause resize",
)

RESUME = Command(
    "resume",
    "Start jobs of a paused function again.",
    (FUNCTION,),
    (json_of("farm.function/1"), *COMMON),
    "farm resume resize",
)

FUNCTION_LIST = Command(
    "function list",
    "List functions with their jobs, workers and settings.",
    (),
    (json_of("farm.functions/1"), *COMMON),
    "farm function list",
)

FUNCTION_SHOW = Command(
    "function show",
    "Show a function's settings.",
    (FUNCTION,),
    (json_of("farm.function/1"), *COMMON),
    "farm function show resize",
)

# The option's name is the setting's; `farm/protocol/JOBS.md` says what each means.
SETTINGS = (
    Option(
        "retries",
        "--retries",
        "Run a job again so often after it failed; 0: not even if its worker says so.",
        metavar="N",
    ),
    Option(
        "retry_on",
        "--retry-on",
        "Which failures are worth another try: exit codes, ranges (1-5), exit, signal, timeout, any; with commas.",
        metavar="WHICH",
    ),
    Option(
        "backoff",
        "--backoff",
        "How long before the first retry; doubled for each further one.",
        SECONDS,
        metavar="TIME",
    ),
    Option("backoff_max", "--backoff-max", "Before no retry longer than this.", SECONDS, metavar="TIME"),
    Option("timeout", "--timeout", "A run may take so long; then its command is ended.", SECONDS, metavar="TIME"),
    Option(
        "queue_timeout",
        "--queue-timeout",
        "Waiting for a worker may take so long; then it expires.",
        SECONDS,
        metavar="TIME",
    ),
    Option(
        "expires",
        "--expires",
        "It must begin within so long after it was submitted; or it expires.",
        SECONDS,
        metavar="TIME",
    ),
    Option("keep_results", "--keep-results", "How long its end and its output are kept.", SECONDS_OR_0, metavar="TIME"),
)

FUNCTION_SET = Command(
    "function set",
    "Set what holds for a function's jobs that do not say otherwise, those of stock clients among them.",
    (FUNCTION,),
    (
        *SETTINGS,
        Option(
            "unset",
            "--unset",
            "Take a setting back, by its option's name; repeatable, or several with commas.",
            metavar="NAME",
            repeat=True,
        ),
        json_of("farm.function/1"),
        *COMMON,
    ),
    "farm function set resize --retries 5 --timeout 60s --keep-results 1d\nfarm function set resize --unset timeout",
)

_ALL = (
    JOBS,
    SHOW,
    LOGS,
    RESULT,
    WAIT,
    CANCEL,
    RETRY,
    PURGE,
    EXPLAIN,
    PAUSE,
    RESUME,
    FUNCTION_LIST,
    FUNCTION_SHOW,
    FUNCTION_SET,
)
JOB_COMMANDS = {command.name: command for command in _ALL}
