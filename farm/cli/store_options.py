"""The commands of `farm store`."""

from __future__ import annotations

from farm.cli.options import FLAG, Argument, Command, Option

_PATH = Argument(
    "path",
    "PATH",
    "The store's directory; default: as for farm server --store.",
    optional=True,
    env="FARM_STORE",
)

_ALL = (
    Command(
        "store check",
        "Read all of a store and say whether it is sound and what is in it; exit code 65: something is damaged.",
        (_PATH,),
        (
            Option(
                "repair",
                "--repair",
                "Put damaged jobs aside, and save what can be read of a damaged file; the server must be stopped.",
                FLAG,
            ),
            Option("json", "--json", "Print JSON (schema farm.store.check/1).", FLAG),
        ),
        "farm store check\nfarm store check --repair /var/lib/farm\nfarm store check --json | jq .sound",
    ),
    Command(
        "store backup",
        "Copy a store into a new directory, which farm server --store takes; the server may be running.",
        (Argument("destination", "DEST", "The new directory."), _PATH),
        (Option("json", "--json", "Print JSON (schema farm.store.check/1).", FLAG),),
        "farm store backup /backup/farm-$(date +%F)\nfarm server --store /backup/farm-2026-11-24",
    ),
    Command(
        "store vacuum",
        "Give the room that ended jobs have left in a store's file back to the disk; the server must be stopped.",
        (_PATH,),
        (),
        "farm store vacuum",
    ),
    Command(
        "store export",
        "Print each job as a line of JSON (schema farm.store/1); the server may be running.",
        (_PATH,),
        (Option("ended", "--ended", "Also jobs that have ended, with what is kept of them.", FLAG),),
        "farm store export > jobs.jsonl\nfarm store export | jq -r .handle",
    ),
    Command(
        "store import",
        "Take in jobs that farm store export printed, or gearmand's queue; the server must be stopped.",
        (_PATH,),
        (
            Option(
                "gearmand",
                "--gearmand",
                "Instead of lines on stdin, take in the queue of gearmand -q libsqlite3; the file stays as it is.",
                metavar="FILE",
            ),
            Option("table", "--table", "The queue's table in that file.", metavar="NAME", default="gearman_queue"),
            Option("again", "--again", "Take all of that file in once more, where it has changed since.", FLAG),
            Option("json", "--json", "Print JSON (schema farm.store.import/1).", FLAG),
        ),
        "farm store import < jobs.jsonl\nfarm store import --gearmand /var/lib/gearman/queue.db",
    ),
)
STORE = {command.name: command for command in _ALL}
