"""`farm store`: what a person or a script does with the jobs that a server keeps on disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from farm.cli.main import cannot_write, say
from farm.cli.options import Values
from farm.cli.server import MEMORY, default_directory
from farm.errors import EXIT_DATA, EXIT_OK, EXIT_UNAVAILABLE, InputError, UsageError
from farm.protocol.limits import STORED_PAYLOAD_MAX
from farm.protocol.names import shown
from farm.store import backup as copies
from farm.store.check import Damage, Report, check, sound_ends, sound_jobs
from farm.store.contract import StoreError
from farm.store.gearmand import adopt_queue, has_queue, source_of
from farm.store.jsonl import from_lines, to_line
from farm.store.place import FILE, keep_owner, reading
from farm.store.repair import Repaired, repair
from farm.store.schema import must_be_a_store
from farm.store.sqlite import SqliteStore

CHECK_SCHEMA, IMPORT_SCHEMA = "farm.store.check/1", "farm.store.import/1"
LINE_MAX = 6 * STORED_PAYLOAD_MAX + (1 << 20)  # of an import: JSON takes up to six bytes for one
_KINDS = {
    "job": "job",
    "ended": "result",
    "progress": "progress of job",
    "attempt": "attempt of job",
    "setting": "settings of function",
    "unique_until": "unique key",
    "cron": "cron entry",
    "cron_payload": "payload of cron entry",
}
_SIZES = ("B", "KiB", "MiB", "GiB")


def run_check(values: Values) -> int:
    """Is it sound? Repairs it when told to."""
    directory = _directory(values)
    done = None
    if values["repair"]:
        done, report = repair(directory)
    else:
        report = check(directory)
    if values["json"]:
        _print(_json(_as_json(report, done)))
    else:
        _print([*_repaired(directory, done), *_told(report)] if done else _told(report))
    return EXIT_OK if report.sound else EXIT_DATA


def run_backup(values: Values) -> int:
    """Copy it, whole or not at all."""
    report = copies.backup(_directory(values), str(values["destination"]))
    _print(_json(_as_json(report, None)) if values["json"] else _told(report))
    return EXIT_OK if report.sound else EXIT_DATA


def run_vacuum(values: Values) -> int:
    """Make its file smaller."""
    directory = _directory(values)
    before, after = copies.vacuum(directory)
    _print([f"{directory}: {_size(before)} before, {_size(after)} now"])
    return EXIT_OK


def run_export(values: Values) -> int:
    """Print its jobs. Damaged ones are left out and said."""
    directory = _directory(values)
    damaged: list[Damage] = []
    with reading(directory) as database:
        must_be_a_store(database, os.path.join(directory, FILE))
        try:
            for save in sound_jobs(database, damaged):
                sys.stdout.buffer.write(to_line(save))
            if values["ended"]:
                for save, end in sound_ends(database, damaged):
                    sys.stdout.buffer.write(to_line(save, end))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cannot_write(error) from error
    for damage in damaged:
        say(f"warning: left out: {_words(damage)}")
    return EXIT_DATA if damaged else EXIT_OK


def run_import(values: Values) -> int:
    """Take jobs in, all or none."""
    directory, file = _directory(values), values["gearmand"]
    if not file and sys.stdin.isatty():
        raise UsageError("nothing to import: stdin is a terminal", "farm store import < jobs.jsonl")
    skipped: list[str] = []
    store = SqliteStore(directory)
    try:
        if file:
            already = _open_for_queue(store, str(file), str(values["table"]), again=bool(values["again"]))
            new = 0 if already else adopt_queue(store, str(file), str(values["table"]), skipped.append)
            known = 0
            if already:
                skipped.append("was imported already, and has not changed since; nothing was done")
        else:
            _open(store)
            known_and_new = _Counted()
            new = store.adopt(from_lines(known_and_new.lines()))
            known = known_and_new.count - new
    finally:
        store.close()
        if os.path.isdir(directory):
            keep_owner(directory)
    for words in skipped:
        say(f"warning: {file}: {words}")
    if values["json"]:
        _print(_json({"schema": IMPORT_SCHEMA, "store": directory, "imported": new, "known": known}))
    else:
        _print([f"{directory}: {new} jobs imported" + (f", {known} were there already" if known else "")])
    return EXIT_OK


RUN = {
    "store check": run_check,
    "store backup": run_backup,
    "store vacuum": run_vacuum,
    "store export": run_export,
    "store import": run_import,
}


def _open(store: SqliteStore) -> None:
    try:
        store.open()
    except StoreError as error:
        if error.status == EXIT_UNAVAILABLE:
            raise StoreError(error.message, "stop the server first", error.status) from error
        raise


def _open_for_queue(store: SqliteStore, file: str, table: str, *, again: bool) -> bool:
    """Open it, once the queue is known to be one. Returns whether it was taken in as it is now."""
    if not has_queue(file, table):
        raise StoreError(f"{file} has no table {table}", "farm store import --table NAME", EXIT_DATA)
    _open(store)
    source = source_of(file)
    mark = store.imported(source.path)
    if mark and mark != source.mark and not again:  # which of its jobs were there before cannot be told
        raise StoreError(
            f"{file} was imported already, and has changed since; nothing was imported",
            "--again imports all of it once more",
            EXIT_DATA,
        )
    return mark == source.mark


class _Counted:
    """The lines of stdin, and how many of them were not empty."""

    def __init__(self) -> None:
        self.count = 0

    def lines(self) -> Iterator[bytes]:
        """One after the other."""
        try:
            while line := sys.stdin.buffer.readline(LINE_MAX):
                self.count += bool(line.strip())
                yield line
        except OSError as error:
            raise InputError(f"cannot read stdin: {(error.strerror or str(error)).lower()}") from error


def _directory(values: Values) -> str:
    path = values["path"]
    if path == MEMORY:
        raise UsageError("a store in memory has no directory", "name the directory: farm store ... PATH")
    return str(path) if path else default_directory()


# -- what is printed


def _as_json(report: Report, done: Repaired | None) -> dict[str, object]:
    functions = [
        {"function": shown(name), "jobs": jobs, "ended": ended}
        for name, (jobs, ended) in sorted(report.functions.items())
    ]
    fields: dict[str, object] = {
        "schema": CHECK_SCHEMA,
        "store": report.directory,
        "sound": report.sound,
        "store_schema": report.schema,
        "bytes": report.size,
        "jobs": report.jobs,
        "ended": report.ended,
        "functions": functions,
        "faults": report.faults,
        "damaged": [_damage_as_json(damage) for damage in report.damaged],
        "put_aside": report.aside,
        "notes": report.notes,
    }
    if done:
        aside = [_damage_as_json(damage) for damage in done.aside]
        fields["repair"] = {"kept_as": done.kept_as or None, "put_aside": aside, "lost": done.lost}
    return fields


def _damage_as_json(damage: Damage) -> dict[str, object]:
    return {
        "table": damage.table,
        "handle": damage.handle,
        "function": shown(damage.function),
        "reason": damage.reason,
    }


def _told(report: Report) -> list[str]:
    lines = [
        f"{report.directory}: {'sound' if report.sound else 'damaged'}; schema {report.schema}, {_size(report.size)},"
        f" {report.jobs} jobs, {report.ended} ended ones kept"
    ]
    if report.aside:
        lines.append(f"{report.aside} damaged ones were put aside earlier, and do not run")
    lines += [f"note: {words}" for words in report.notes]
    lines += [f"damaged file: {fault}" for fault in report.faults]
    lines += [f"damaged {_KINDS.get(damage.table, 'row')}: {_words(damage)}" for damage in report.damaged]
    if report.functions:
        lines.append("FUNCTION\tJOBS\tENDED")
        lines += [f"{shown(name)}\t{jobs}\t{ended}" for name, (jobs, ended) in sorted(report.functions.items())]
    if not report.sound:
        lines.append(f"repair it, with the server stopped: farm store check --repair {report.directory}")
    return lines


def _repaired(directory: str, done: Repaired) -> list[str]:
    lines = [f"put aside: {_words(damage)}" for damage in done.aside]
    lines += [f"lost: {words}" for words in done.lost]
    if done.kept_as:
        lines.append(f"the damaged file is kept as {done.kept_as}")
    return lines or [f"{directory}: nothing to repair"]


def _words(damage: Damage) -> str:
    return f"{damage.handle} {shown(damage.function)}".strip() + f": {damage.reason}"


def _size(size: float) -> str:
    unit = 0
    while size >= 1024 and unit < len(_SIZES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_SIZES[unit]}" if unit == 0 or size >= 10 else f"{size:.1f} {_SIZES[unit]}"


def _json(fields: dict[str, object]) -> list[str]:
    return [json.dumps(fields, indent=2)]


def _print(lines: list[str]) -> None:
    try:
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(error) from error
