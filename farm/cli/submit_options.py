"""The options of `farm submit`, for the table in `farm.cli.options`.

On its start-up path: it imports nothing slow.
"""

from __future__ import annotations

from farm.cli.options import COMMON, FUNCTION, QUIET, RETRIES, VERBOSE, Command, Option, Values
from farm.cli.values import FLAG, SECONDS, SECONDS_OR_0

PRIORITY = Option(
    "priority",
    "--priority -p",
    "Jobs of a higher priority run first.",
    metavar="high|normal|low",
    default="normal",
    choices=("high", "normal", "low"),
)

# What makes a job more than a function and a payload. farm/protocol/JOBS.md says what each means; a stock
# server knows none of them (but --in and --at of a background job).
TERMS = (
    Option("delay", "--in", "Do not run it before so long from now.", SECONDS_OR_0, metavar="TIME"),
    Option(
        "at",
        "--at",
        "Do not run it before this time: 17:00, 'tomorrow 9:00', '2026-12-01 09:30', 2026-12-01T09:30+01:00.",
        metavar="WHEN",
    ),
    Option(
        "expires",
        "--expires",
        "Give it up when its first run has not begun within so long; longer than --in or --at.",
        SECONDS,
        metavar="TIME",
    ),
    Option(
        "queue_timeout", "--queue-timeout", "Give it up when no worker took it for so long.", SECONDS, metavar="TIME"
    ),
    Option("timeout", "--timeout", "End a run that takes longer; that is a failure.", SECONDS, metavar="TIME"),
    *RETRIES,
    Option(
        "if_exists",
        "--if-exists",
        "What to do about a job with the same --unique key: join it, submit nothing and be content (exit 0) or not"
        " (exit 75), or cancel it.",
        metavar="attach|skip|fail|replace",
        default="attach",
        choices=("attach", "skip", "fail", "replace"),
    ),
    Option(
        "unique_for",
        "--unique-for",
        "The --unique key counts for so long, also when its job has ended.",
        SECONDS,
        metavar="TIME",
    ),
    Option(
        "after",
        "--after",
        "Run it when another job has ended: well (ok), badly (fail), either (any); repeatable. Else it is cancelled.",
        metavar="ok|any|fail:ID",
        repeat=True,
    ),
    Option(
        "keep_results",
        "--keep-results",
        "How long the server knows it after its end; default: as long as it knows every job.",
        SECONDS_OR_0,
        metavar="TIME",
    ),
)


def terms_given(values: Values) -> list[Option]:
    """Those of TERMS that were."""
    return [option for option in TERMS if values[option.name] not in (None, [], option.default)]


SUBMIT = Command(
    "submit",
    "Submit a job: stdin is its payload, stdout its result, the exit code the command's own.",
    (FUNCTION,),
    (
        Option("background", "--background -b", "Do not wait: print the job's handle and nothing else.", FLAG),
        Option(
            "json",
            "--json",
            "With --background: print a line of JSON instead of the bare handle (schema farm.submit/1).",
            FLAG,
        ),
        Option("file", "--file -f", "Read the payload from a file instead of stdin; - is stdin.", metavar="FILE"),
        Option("no_input", "--no-input -n", "Submit an empty payload; do not read stdin.", FLAG),
        Option(
            "unique",
            "--unique -u",
            "Join the job with the same key if there is one (--if-exists); auto: a key made of function and payload.",
            metavar="KEY|auto",
        ),
        PRIORITY,
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
            "Submit the job again, if need be to the next server, when a server is lost (with -b: before it said that"
            " it has the job).",
            FLAG,
        ),
        Option("no_wait", "--no-wait", "Fail at once (exit 69) when no worker offers the function.", FLAG),
        Option(
            "wait_timeout",
            "--wait-timeout",
            "Wait no longer than this for the job's end: then it is given up, as with Ctrl-C, and the exit code 124.",
            SECONDS,
            metavar="TIME",
        ),
        *TERMS,
        QUIET,
        VERBOSE,
        *COMMON,
    ),
    "farm submit resize < img.jpg > small.jpg\n"
    "id=$(farm submit -b report < data.csv)\n"
    "farm submit -s main:4730,spare:4730 --retry-lost report < data.csv\n"
    "farm submit -b --at 'tomorrow 6:00' --retries 5 --timeout 1h report < data.csv\n"
    "farm submit -b --unique nightly --if-exists skip backup -n\n"
    "farm submit -b --json report < data.csv | jq -r .id",
)
