"""The commands of `farm cron`."""

from __future__ import annotations

from farm.cli.job_options import SETTINGS, json_of
from farm.cli.options import COMMON, COUNT, FLAG, FUNCTION, QUIET, Argument, Command, Option
from farm.cli.submit_options import PRIORITY

SCHEMA = "farm.cron/1"

_NAME = Argument("name", "NAME", "The entry's name.")
_JSON = json_of(SCHEMA)
_ZONE = Option(
    "zone", "--zone", "The time zone of its times, as Europe/Berlin; default: this machine's.", metavar="ZONE"
)
_REPLACE = Option("replace", "--replace", "Also instead of an entry of the same name.", FLAG)

# How an entry runs: the same for one that is added and for those of a crontab.
_RUNNING = (
    _ZONE,
    Option(
        "overlap",
        "--overlap",
        "When an earlier job of it has not ended: leave this one out, let it wait, or cancel the earlier one.",
        metavar="skip|queue|replace",
        default="skip",
        choices=("skip", "queue", "replace"),
    ),
    Option(
        "catch_up",
        "--catch-up",
        "Which times are made up for that were missed while the server was down: none, the last one, or all.",
        metavar="none|last|all",
        default="none",
        choices=("none", "last", "all"),
    ),
    PRIORITY,
    *SETTINGS,
)

_ALL = (
    Command(
        "cron add",
        "Submit a job again and again, at the times of a cron line; stdin is its payload each time.",
        (
            Argument("line", "LINE", "Minute, hour, day of the month, month, day of the week; or @daily and the like."),
            FUNCTION,
        ),
        (
            Option("name", "--name", "What the entry is called; default: as its function.", metavar="NAME"),
            Option("file", "--file -f", "Read the payload from a file instead of stdin; - is stdin.", metavar="FILE"),
            Option("no_input", "--no-input -n", "An empty payload; do not read stdin.", FLAG),
            Option("unique", "--unique -u", "The key of its jobs: they join one that lives already.", metavar="KEY"),
            _REPLACE,
            *_RUNNING,
            _JSON,
            *COMMON,
        ),
        "farm cron add '30 2 * * *' report < report.conf\n"
        "farm cron add '*/5 * * * *' poll --name poll-news --overlap skip --timeout 4m -n\n"
        "farm cron add @daily backup --zone UTC --catch-up last --retries 3 -n",
    ),
    Command(
        "cron list",
        "List the entries: when each comes next, and what became of its last time.",
        (),
        (_JSON, *COMMON),
        "farm cron list\nfarm cron list --json | jq -r '.entries[] | select(.paused) | .name'",
    ),
    Command(
        "cron show",
        "Show an entry and its ten newest runs.",
        (_NAME,),
        (_JSON, *COMMON),
        "farm cron show report",
    ),
    Command(
        "cron remove",
        "Remove an entry; its jobs go on.",
        (_NAME,),
        (_JSON, *COMMON),
        "farm cron remove report",
    ),
    Command(
        "cron pause",
        "Submit no more jobs of an entry until it is resumed.",
        (_NAME,),
        (_JSON, *COMMON),
        "farm cron pause report",
    ),
    Command(
        "cron resume",
        "Submit jobs of an entry again, from its next time on.",
        (_NAME,),
        (_JSON, *COMMON),
        "farm cron resume report",
    ),
    Command(
        "cron run",
        "Submit a job of an entry now, and print its handle.",
        (_NAME,),
        (_JSON, *COMMON),
        "farm wait $(farm cron run report)",
    ),
    Command(
        "cron next",
        "Print the next times of an entry, of all of them, or of a line.",
        (Argument("name", "NAME", "The entry's name; default: all of them.", optional=True),),
        (
            Option("line", "--line", "Of this cron line; no server is asked.", metavar="LINE"),
            Option("zone", "--zone", "The time zone of --line; default: this machine's.", metavar="ZONE"),
            Option("number", "--number -n", "So many of them.", COUNT, metavar="N", default="5"),
            _JSON,
            *COMMON,
        ),
        "farm cron next\nfarm cron next report -n 3\nfarm cron next --line '30 2 * * mon-fri' --zone Europe/Berlin",
    ),
    Command(
        "cron import",
        "Make entries of a crontab, all or none: each line's command is a payload for a worker that is a shell.",
        (Argument("crontab", "CRONTAB", "The file; - is stdin."),),
        (
            Option("function", "--function", "The function of all of them.", metavar="FUNCTION", default="sh"),
            Option("prefix", "--prefix", "Begin their names so.", metavar="TEXT"),
            Option("system", "--system", "Its lines have a user's name before the command, as /etc/crontab.", FLAG),
            Option("dry_run", "--dry-run", "Only print what would be added.", FLAG),
            _REPLACE,
            *_RUNNING,
            QUIET,
            _JSON,
            *COMMON,
        ),
        "crontab -l | farm cron import - --dry-run\ncrontab -l | farm cron import -\nfarm work sh -- sh",
    ),
)
CRON = {command.name: command for command in _ALL}
