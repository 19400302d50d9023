"""What travels in each of the eight combinations: the words of WIRE.md's table, and what the tests hold them to.

`python -m tests.interop.measured` prints the table.
"""

from __future__ import annotations

from itertools import product

from tests.interop.ends import FARM, KINDS, STOCK, Result

Combination = tuple[str, str, str]  # whose client, server, worker
COMBINATIONS: list[Combination] = list(product(KINDS, KINDS, KINDS))

# Scripts, each an end that a command can have.
COMMANDS = {
    "exit 0": b"printf result",
    "silence": b":",
    "exit 3": b"printf result; exit 3",
    "killed": b"printf result; kill -TERM $$",
    "stderr": b"printf 'warning\\n' >&2",
    "both": b"printf result; printf 'warning\\n' >&2",
    "both, exit 3": b"printf result; printf 'warning\\n' >&2; exit 3",
}
_OUT = {name: b"result" if b"result" in script else b"" for name, script in COMMANDS.items()}
_ERR = {name: b"warning\n" if b"warning" in script else b"" for name, script in COMMANDS.items()}
_CODE = {name: 3 if "exit 3" in name else 143 if name == "killed" else 0 for name in COMMANDS}


def expected(client: str, worker: str, name: str) -> Result:
    """What the client leaves of a command; the server makes no difference."""
    out, err, code = _OUT[name], _ERR[name], _CODE[name]
    if worker == STOCK:  # its command's stderr is its own, and death by a signal is success to it
        err, code = b"", 1 if code == 3 else 0
        failed = b"farm: the job failed; its worker gave no exit code\n" if client == FARM else b"Job failed\n"
        return Result(code, out, failed if code else b"")
    if client == STOCK and code:
        return Result(1, out, err + b"farm: exit %d\nJob failed\n" % code)
    return Result(code, out, err)


_STDERR = {
    (FARM, FARM): "exact",
    (STOCK, FARM): "exact; after a failure also `farm: exit N` and `Job failed`",
    (FARM, STOCK): "stays at the worker",
    (STOCK, STOCK): "stays at the worker; after a failure `Job failed`",
}
_EXIT = {
    (FARM, FARM): "exact, 128+N for signal N",
    (STOCK, FARM): "0 or 1",
    (FARM, STOCK): "0 or 1; a command killed by a signal counts as 0",
    (STOCK, STOCK): "0 or 1; a command killed by a signal counts as 0",
}
_LOST = {
    (FARM, FARM): "runs again; a file holds one result, a pipe or terminal that has output already: exit 75",
    (STOCK, FARM): "runs again; what the lost attempt had streamed stays in the output",
    (FARM, STOCK): "runs again, one result (a stock worker sends its result whole)",
    (STOCK, STOCK): "runs again, one result (a stock worker sends its result whole)",
}


def _cancel(client: str, server: str, worker: str) -> str:
    if (server, worker) == (FARM, FARM):
        return "the command is ended" if client == FARM else "the command is ended when the client leaves"
    return "it runs on, and the client says so" if client == FARM else "it runs on"


def rows() -> list[str]:
    """The table in Markdown, a line each."""
    lines = [
        "| client | server | worker | stdout | stderr | exit code | cancel | worker lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for client, server, worker in COMBINATIONS:
        ends = client, worker
        cells = (
            "`farm submit`" if client == FARM else "`gearman`",
            "`farm server`" if server == FARM else "`gearmand`",
            "`farm work`" if worker == FARM else "`gearman -w`",
            "exact",
            _STDERR[ends],
            _EXIT[ends],
            _cancel(client, server, worker),
            _LOST[ends],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
