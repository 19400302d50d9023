"""Every difference that is left between gearmand 1.1.20 and farm, with its reason, and the script that shows it.

The steps of a script that are not in `differs` are answered alike; those in it are answered exactly so. AGREED has
scripts of corners in which the two agree. `python -P -m tests.interop.differential` renders the table for people.
"""

from __future__ import annotations

from typing import NamedTuple

FARM = "farm is right"
GEARMAND = "gearmand is wrong"
UNSPECIFIED = "unspecified"
ANY = ["..."]


class Difference(NamedTuple):
    """gearmand, farm: what each does, in words. differs: for a step's number what gearmand and what farm sent, made
    normal; ANY: whatever differs."""

    name: str
    gearmand: str
    farm: str
    verdict: str
    reason: str
    script: list[str]
    differs: dict[int, tuple[list[str], list[str]]]


DIFFERENCES = (
    Difference(
        "create-lf",
        "`create function xyz` with a bare LF creates `xy`",
        "creates `xyz`",
        GEARMAND,
        "it counts on CR LF and cuts two bytes",
        [
            "a: create function xyz",
            "a: status",
        ],
        {
            2: (["a: xy\\t0\\t0\\t0\\n", "a: .\\n"], ["a: xyz\\t0\\t0\\t0\\n", "a: .\\n"]),
        },
    ),
    Difference(
        "sleeper-registers",
        "a sleeping worker that registers for a function with waiting jobs is not woken",
        "woken",
        GEARMAND,
        "the job waits though a worker is there",
        [
            "c SUBMIT_JOB_BG f|u|x",
            "w CAN_DO g",
            "w PRE_SLEEP",
            "w CAN_DO f",
        ],
        {
            4: ([], ["w NOOP"]),
        },
    ),
    Difference(
        "sleeps-again",
        "a woken worker that finds nothing to do and sends PRE_SLEEP without a grab is never woken again",
        "woken by the next job",
        GEARMAND,
        "the wake-up is lost until the worker grabs",
        [
            "w CAN_DO f",
            "w PRE_SLEEP",
            "v CAN_DO f",
            "c SUBMIT_JOB_BG f||1",
            "v GRAB_JOB",
            "w PRE_SLEEP",
            "c SUBMIT_JOB_BG f||2",
        ],
        {
            7: (["c JOB_CREATED #2"], ["c JOB_CREATED #2", "w NOOP"]),
        },
    ),
    Difference(
        "exception-as-fail",
        "the WORK_FAIL made of an exception ends in NUL",
        "the bare handle",
        GEARMAND,
        "libgearman's clients wait for ever on it",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_EXCEPTION #1|why",
        ],
        {
            4: (["c WORK_FAIL #1\\x00"], ["c WORK_FAIL #1"]),
        },
    ),
    Difference(
        "fail-nul",
        "a worker's WORK_FAIL with a trailing NUL is passed on with it",
        "the bare handle",
        GEARMAND,
        "libgearman's clients wait for ever on it",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_FAIL #1|",
        ],
        {
            4: (["c WORK_FAIL #1\\x00"], ["c WORK_FAIL #1"]),
        },
    ),
    Difference(
        "background-lost",
        "a background job is lost when a foreground client that joined it leaves",
        "it stays",
        GEARMAND,
        "it was acknowledged",
        [
            "b SUBMIT_JOB_BG f|u|x",
            "c SUBMIT_JOB f|u|y",
            "c closes",
            "a: status",
            "w CAN_DO f",
            "w GRAB_JOB",
            "a: status",
        ],
        {
            6: (["w NO_JOB"], ["w JOB_ASSIGN #1|f|x"]),
            7: (["a: f\\t0\\t0\\t1\\n", "a: .\\n"], ["a: f\\t1\\t1\\t1\\n", "a: .\\n"]),
        },
    ),
    Difference(
        "background-joins",
        "a background submission that joins a foreground job is lost when the foreground client leaves",
        "the job becomes a background job",
        GEARMAND,
        "it was acknowledged",
        [
            "c SUBMIT_JOB f|u|x",
            "b SUBMIT_JOB_BG f|u|x",
            "a: show jobs",
            "c closes",
            "w CAN_DO f",
            "w GRAB_JOB",
        ],
        {
            3: (["a: #1\\t0\\t0\\t0\\n", "a: .\\n"], ["a: #1\\t0\\t0\\t1\\n", "a: .\\n"]),
            6: (["w NO_JOB"], ["w JOB_ASSIGN #1|f|x"]),
        },
    ),
    Difference(
        "attach-abandoned",
        "a submission with the key of an abandoned job gets the dead job's handle and is never run",
        "a job of its own",
        GEARMAND,
        "it would wait for ever",
        [
            "c SUBMIT_JOB f|u|x",
            "c closes",
            "d SUBMIT_JOB f|u|y",
            "w CAN_DO f",
            "w GRAB_JOB",
            "a: status",
        ],
        {
            3: (["d JOB_CREATED #1"], ["d JOB_CREATED #2"]),
            5: (["w NO_JOB"], ["w JOB_ASSIGN #2|f|y"]),
            6: (["a: f\\t0\\t0\\t1\\n", "a: .\\n"], ["a: f\\t1\\t1\\t1\\n", "a: .\\n"]),
        },
    ),
    Difference(
        "abandoned-counted",
        "a foreground job whose client left stays in every listing until a worker looks",
        "gone at once",
        GEARMAND,
        "without a worker it stays for ever",
        [
            "c SUBMIT_JOB f|u|x",
            "c closes",
            "a: status",
            "a: prioritystatus",
            "a: show jobs",
            "a: show unique jobs",
            "b GET_STATUS #1",
            "w CAN_DO f",
            "w PRE_SLEEP",
            "a: status",
        ],
        {
            3: (["a: f\\t1\\t0\\t0\\n", "a: .\\n"], ["a: f\\t0\\t0\\t0\\n", "a: .\\n"]),
            4: (["a: f\\t0\\t1\\t0\\t0\\n", "a: .\\n"], ["a: f\\t0\\t0\\t0\\t0\\n", "a: .\\n"]),
            5: (["a: #1\\t0\\t1\\t0\\n", "a: .\\n"], ["a: .\\n"]),
            6: (["a: u\\n", "a: .\\n"], ["a: .\\n"]),
            7: (["b STATUS_RES #1|1|0|0|0"], ["b STATUS_RES #1|0|0|0|0"]),
        },
    ),
    Difference(
        "abandoned-limit",
        "and counts against maxqueue",
        "does not",
        GEARMAND,
        "clients that left keep others out",
        [
            "a: create function f\\r",
            "a: maxqueue f 1",
            "c SUBMIT_JOB f||x",
            "c closes",
            "d SUBMIT_JOB f||y",
        ],
        {
            5: (["d ERROR QUEUE_ERROR|Job queue is full"], ["d JOB_CREATED #2"]),
        },
    ),
    Difference(
        "cancel-queued",
        "a cancelled queued job stays in the listings, can be cancelled again and be joined",
        "gone at once",
        GEARMAND,
        "who joins it waits for ever",
        [
            "c SUBMIT_JOB f|u|x",
            "a: cancel job #1",
            "a: show jobs",
            "a: status",
            "a: cancel job #1",
            "d SUBMIT_JOB f|u|y",
        ],
        {
            3: (["a: #1\\t0\\t1\\t0\\n", "a: .\\n"], ["a: .\\n"]),
            4: (["a: f\\t1\\t0\\t0\\n", "a: .\\n"], ["a: f\\t0\\t0\\t0\\n", "a: .\\n"]),
            5: (["a: OK\\r\\n", "c WORK_FAIL #1"], ["a: ERR UNKNOWN_JOB\\r\\n"]),
            6: (["d JOB_CREATED #1"], ["d JOB_CREATED #2"]),
        },
    ),
    Difference(
        "cancel-running",
        "the clients of a cancelled running job are told of its failure, and then get its output and its end too",
        "only the failure",
        GEARMAND,
        "a job ends once",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f|u|x",
            "w GRAB_JOB",
            "a: cancel job #1",
            "a: show jobs",
            "a: cancel job #1",
            "w WORK_DATA #1|d",
            "w WORK_COMPLETE #1|r",
            "a: status",
        ],
        {
            6: (["a: OK\\r\\n", "c WORK_FAIL #1"], ["a: ERR UNKNOWN_JOB\\r\\n"]),
            7: (["c WORK_DATA #1|d"], []),
            8: (["c WORK_COMPLETE #1|r"], []),
        },
    ),
    Difference(
        "registered-twice",
        "CAN_DO twice counts as two workers",
        "as one",
        GEARMAND,
        "`status` misleads",
        [
            "w CAN_DO f",
            "w CAN_DO f",
            "a: status",
            "a: workers",
            "w CANT_DO f",
            "a: status",
        ],
        {
            3: (["a: f\\t0\\t0\\t2\\n", "a: .\\n"], ["a: f\\t0\\t0\\t1\\n", "a: .\\n"]),
            4: (
                ["a: FD ADDRESS - : f f\\n", "a: FD ADDRESS - :\\n", "a: .\\n"],
                ["a: FD ADDRESS - : f\\n", "a: FD ADDRESS - :\\n", "a: .\\n"],
            ),
        },
    ),
    Difference(
        "epoch-future",
        "a future job is counted as queued, and hides every LOW job of its function",
        "counted in `status` alone, and hides nothing",
        GEARMAND,
        "workers grab in vain, again and again",
        [
            "c SUBMIT_JOB_EPOCH f|u|4102444800|x",
            "a: prioritystatus",
            "a: status",
            "a: show jobs",
            "c SUBMIT_JOB_LOW f||low",
            "w CAN_DO f",
            "w PRE_SLEEP",
            "w GRAB_JOB",
        ],
        {
            2: (["a: f\\t0\\t1\\t0\\t0\\n", "a: .\\n"], ["a: f\\t0\\t0\\t0\\t0\\n", "a: .\\n"]),
            8: (["w NO_JOB"], ["w JOB_ASSIGN #2|f|low"]),
        },
    ),
    Difference(
        "epoch-due",
        "sleepers are woken when a future job is submitted, and not when it is due",
        "when it is due",
        GEARMAND,
        "the job waits until something else wakes a worker",
        [
            "w CAN_DO f",
            "w PRE_SLEEP",
            "c SUBMIT_JOB_EPOCH f|u|@+2|x",
            "w GRAB_JOB",
            "w PRE_SLEEP",
            "sleep 2.2",
            "w GRAB_JOB",
        ],
        {
            3: (["c JOB_CREATED #1", "w NOOP"], ["c JOB_CREATED #1"]),
            6: ([], ["w NOOP"]),
        },
    ),
    Difference(
        "reduce-unique",
        "a key of more than 64 bytes is taken for a reduce job",
        "ARGUMENT_TOO_LARGE",
        GEARMAND,
        "it later sends bytes of its memory to the worker",
        [
            "c SUBMIT_REDUCE_JOB f|" + "u" * 65 + "|r||x",
        ],
        {
            1: (["c JOB_CREATED #1"], ["c ERROR ARGUMENT_TOO_LARGE|Unique value too large"]),
        },
    ),
    Difference(
        "unique-64",
        "a key of 64 bytes is cut to 63, a NUL comes before the workload, and GET_STATUS_UNIQUE closes the connection",
        "kept whole",
        GEARMAND,
        "the job is damaged",
        [
            "c SUBMIT_JOB_BG f|" + "u" * 64 + "|x",
            "c GET_STATUS_UNIQUE " + "u" * 64,
            "a: show unique jobs",
            "w CAN_DO f",
            "w GRAB_JOB_UNIQ",
        ],
        {
            2: ([], ["c STATUS_RES_UNIQUE " + "u" * 64 + "|1|0|0|0|0"]),
            3: (["a: " + "u" * 63 + "\\n", "a: .\\n"], ["a: " + "u" * 64 + "\\n", "a: .\\n"]),
            5: (["w JOB_ASSIGN_UNIQ #1|f|" + "u" * 63 + "|\\x00x"], ["w JOB_ASSIGN_UNIQ #1|f|" + "u" * 64 + "|x"]),
        },
    ),
    Difference(
        "drop-queued",
        "`drop function` with queued jobs answers OK and leaves them as orphans",
        "refused",
        GEARMAND,
        "acknowledged jobs would be lost",
        [
            "c SUBMIT_JOB_BG f|u|x",
            "a: drop function f",
        ],
        {
            2: (["a: OK\\r\\n"], ["a: ERR there are still connected workers or executing clients\\r\\n"]),
        },
    ),
    Difference(
        "status-wraps",
        "a long numerator wraps in GET_STATUS",
        "as it was sent",
        GEARMAND,
        "the number is wrong",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_STATUS #1|123456789012|1",
            "c GET_STATUS #1",
        ],
        {
            5: (["c STATUS_RES #1|1|1|3197704724|1"], ["c STATUS_RES #1|1|1|123456789012|1"]),
        },
    ),
    Difference(
        "four-gib",
        "a header that claims 4 GiB gets them reserved",
        "ERROR, and closed",
        GEARMAND,
        "memory of the server for 12 bytes of a stranger",
        [
            "c raw \\x00REQ\\x00\\x00\\x00\\x07\\xff\\xff\\xff\\xff",
        ],
        {
            1: (
                ["c silent"],
                ["c ERROR ARGUMENT_TOO_LARGE|SUBMIT_JOB of 4294967295 bytes: at most 1073742848", "c closed"],
            ),
        },
    ),
    Difference(
        "drop-two-answers",
        "`drop function` ignores case and answers once for every function that fits",
        "once",
        GEARMAND,
        "the second answer is taken for the next command's",
        [
            "c SUBMIT_JOB_BG f||x",
            "w CAN_DO F",
            "w GRAB_JOB",
            "a: status",
            "a: drop function F",
        ],
        {
            5: (
                ["a: ERR there are still connected workers or executing clients\\r\\n", "a: OK\\r\\n"],
                ["a: ERR there are still connected workers or executing clients\\r\\n"],
            ),
        },
    ),
    Difference(
        "lf-in-id",
        "a line end in a client id forges lines of `workers`",
        "escaped",
        GEARMAND,
        "anybody can forge them",
        [
            "w SET_CLIENT_ID a : f\\n99 10.0.0.1 b",
            "a: workers",
        ],
        {
            2: (
                ["a: 99 10.0.0.1 b :\\n", "a: FD ADDRESS - :\\n", "a: FD ADDRESS a : f\\n", "a: .\\n"],
                [
                    "a: FD ADDRESS - :\\n",
                    "a: FD ADDRESS a\\\\x20:\\\\x20f\\\\x0a99\\\\x2010.0.0.1\\\\x20b :\\n",
                    "a: .\\n",
                ],
            ),
        },
    ),
    Difference(
        "timeout-second-job",
        "the timeout of a worker's second job is not enforced",
        "enforced",
        GEARMAND,
        "one timer a connection, for the first job only",
        [
            "w CAN_DO_TIMEOUT f|1000",
            "c SUBMIT_JOB f||1",
            "c SUBMIT_JOB f||2",
            "w GRAB_JOB",
            "w WORK_COMPLETE #1|r",
            "w GRAB_JOB",
            "sleep 1.4",
            "a: status",
            "w WORK_COMPLETE #2|r",
        ],
        {
            9: (["c WORK_COMPLETE #2|r"], []),
        },
    ),
    Difference(
        "abandoned-worker-lost",
        "a job that nobody waits for stays queued after its worker was lost",
        "gone",
        GEARMAND,
        "it stays for ever without a worker",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f|u|x",
            "w GRAB_JOB",
            "c closes",
            "a: show jobs",
            "a: status",
            "w closes",
            "a: show jobs",
            "a: status",
        ],
        {
            8: (["a: #1\\t1\\t1\\t0\\n", "a: .\\n"], ["a: .\\n"]),
            9: (["a: f\\t1\\t0\\t0\\n", "a: .\\n"], ["a: f\\t0\\t0\\t0\\n", "a: .\\n"]),
        },
    ),
    Difference(
        "maxqueue-four-words",
        "`maxqueue f 1 2` is OK and means `maxqueue f 1`",
        "INVALID_ARGUMENTS",
        FARM,
        "one limit is missing: OK would hide the mistake",
        [
            "a: maxqueue f 1 2",
        ],
        {
            1: (
                ["a: OK\\r\\n"],
                ["a: ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+maxqueue\\r\\n"],
            ),
        },
    ),
    Difference(
        "fail-after-exception",
        "WORK_FAIL after WORK_EXCEPTION is answered ERROR",
        "absorbed",
        FARM,
        "Perl workers send both, and die of the ERROR",
        [
            "w CAN_DO f",
            "c OPTION_REQ exceptions",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_EXCEPTION #1|why",
            "w WORK_FAIL #1",
        ],
        {
            6: (["w ERROR JOB_NOT_FOUND|Job given in work result not found"], []),
        },
    ),
    Difference(
        "timeout-late",
        "a report that comes after its job's timeout is answered ERROR",
        "dropped, until the worker reported the end",
        FARM,
        "the worker loops of libgearman, PHP and Perl end on the ERROR",
        [
            "w CAN_DO_TIMEOUT f|1000",
            "c SUBMIT_JOB f|u|x",
            "w GRAB_JOB",
            "sleep 1.3",
            "a: status",
            "a: show jobs",
            "w WORK_DATA #1|late",
            "w WORK_COMPLETE #1|late",
            "w WORK_COMPLETE #1|again",
            "w GRAB_JOB",
            "w WORK_COMPLETE #1|r",
        ],
        {
            7: (["w ERROR JOB_NOT_FOUND|Job does not exist on server"], []),
            8: (["w ERROR JOB_NOT_FOUND|Job given in work result not found"], []),
        },
    ),
    Difference(
        "cannot-do-holding",
        "CANT_DO while the worker runs such a job gives the job to another",
        "the worker may end it",
        FARM,
        "it would run twice",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w CANT_DO f",
            "a: status",
            "w WORK_COMPLETE #1|r",
        ],
        {
            5: (["a: f\\t1\\t0\\t0\\n", "a: .\\n"], ["a: f\\t1\\t1\\t0\\n", "a: .\\n"]),
            6: (["w ERROR JOB_NOT_FOUND|Job given in work result not found"], ["c WORK_COMPLETE #1|r"]),
        },
    ),
    Difference(
        "reset-holding",
        "and so does RESET_ABILITIES",
        "the worker may end it",
        FARM,
        "it would run twice",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w RESET_ABILITIES",
            "w WORK_COMPLETE #1|r",
        ],
        {
            5: (["w ERROR JOB_NOT_FOUND|Job given in work result not found"], ["c WORK_COMPLETE #1|r"]),
        },
    ),
    Difference(
        "lost-order",
        "a lost worker's jobs go to the tail, last one first",
        "to the front, in their order",
        FARM,
        "they have waited already",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||1",
            "c SUBMIT_JOB f||2",
            "c SUBMIT_JOB f||3",
            "w GRAB_JOB",
            "w GRAB_JOB",
            "w closes",
            "v CAN_DO f",
            "v GRAB_JOB",
            "v GRAB_JOB",
            "v GRAB_JOB",
        ],
        {
            9: (["v JOB_ASSIGN #3|f|3"], ["v JOB_ASSIGN #1|f|1"]),
            11: (["v JOB_ASSIGN #1|f|1"], ["v JOB_ASSIGN #3|f|3"]),
        },
    ),
    Difference(
        "status-long-handle",
        "GET_STATUS with a handle of more than 63 bytes gets no answer",
        "an unknown job",
        FARM,
        "nobody waits silently",
        [
            "c GET_STATUS " + "h" * 64,
        ],
        {
            1: ([], ["c STATUS_RES " + "h" * 64 + "|0|0|0|0"]),
        },
    ),
    Difference(
        "status-long-unique",
        "GET_STATUS_UNIQUE with more than 64 bytes gets no answer",
        "an unknown job",
        FARM,
        "nobody waits silently",
        [
            "c GET_STATUS_UNIQUE " + "h" * 65,
        ],
        {
            1: ([], ["c STATUS_RES_UNIQUE " + "h" * 65 + "|0|0|0|0|0"]),
        },
    ),
    Difference(
        "short-packet",
        "a packet that lacks arguments swallows the next one and closes the connection",
        "INVALID_PACKET, and closed",
        FARM,
        "the sender is told why",
        [
            "c raw \\x00REQ\\x00\\x00\\x00\\x07\\x00\\x00\\x00\\x03f\\x00u",
        ],
        {
            1: (["c closed"], ["c ERROR INVALID_PACKET|SUBMIT_JOB lacks arguments: unique", "c closed"]),
        },
    ),
    Difference(
        "short-reduce",
        "and so with a reduce job",
        "INVALID_PACKET, and closed",
        FARM,
        "the sender is told why",
        [
            "c SUBMIT_REDUCE_JOB f|u|r",
        ],
        {
            1: (["c closed"], ["c ERROR INVALID_PACKET|SUBMIT_REDUCE_JOB lacks arguments: reducer, empty", "c closed"]),
        },
    ),
    Difference(
        "short-complete",
        "and so with WORK_COMPLETE",
        "taken as a result without data",
        FARM,
        "Perl's worker leaves the NUL out where the result is empty",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_COMPLETE #1",
            "w ECHO_REQ x",
        ],
        {
            4: (["w closed"], ["c WORK_COMPLETE #1|"]),
        },
    ),
    Difference(
        "short-status",
        "WORK_STATUS that lacks a number waits for ever",
        "INVALID_PACKET, and closed",
        FARM,
        "nobody waits silently",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_STATUS #1|1",
        ],
        {
            4: (["w silent"], ["w ERROR INVALID_PACKET|WORK_STATUS lacks arguments: denominator", "w closed"]),
        },
    ),
    Difference(
        "short-timeout",
        "CAN_DO_TIMEOUT that lacks its number waits for ever",
        "INVALID_PACKET, and closed",
        FARM,
        "nobody waits silently",
        [
            "w CAN_DO_TIMEOUT f",
            "a: status",
        ],
        {
            1: (["w silent"], ["w ERROR INVALID_PACKET|CAN_DO_TIMEOUT lacks arguments: timeout", "w closed"]),
        },
    ),
    Difference(
        "wrong-magic",
        "a wrong magic: closed",
        "ERROR, and closed",
        FARM,
        "the sender is told why",
        [
            "c raw \\x00XYZ\\x00\\x00\\x00\\x07\\x00\\x00\\x00\\x00",
        ],
        {
            1: (["c closed"], ["c ERROR INVALID_MAGIC|Not a Gearman packet", "c closed"]),
        },
    ),
    Difference(
        "type-0",
        "type 0: closed",
        "ERROR, and closed",
        FARM,
        "the sender is told why",
        [
            "c raw \\x00REQ\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00",
        ],
        {
            1: (["c closed"], ["c ERROR INVALID_COMMAND|Unknown packet type 0", "c closed"]),
        },
    ),
    Difference(
        "type-43",
        "a type that is not in the table: closed",
        "ERROR, and closed",
        FARM,
        "the sender is told why",
        [
            "c raw \\x00REQ\\x00\\x00\\x00\\x2b\\x00\\x00\\x00\\x00",
        ],
        {
            1: (["c closed"], ["c ERROR INVALID_COMMAND|Unknown packet type 43", "c closed"]),
        },
    ),
    Difference(
        "huge-small-packet",
        "a packet without payload may claim any length",
        "ERROR above 64 KiB, and closed",
        FARM,
        "nobody waits silently",
        [
            "c raw \\x00REQ\\x00\\x00\\x00\\x0f\\x00\\x10\\x00\\x00",
        ],
        {
            1: (["c silent"], ["c ERROR ARGUMENT_TOO_LARGE|GET_STATUS of 1048576 bytes: at most 65536", "c closed"]),
        },
    ),
    Difference(
        "empty-function",
        "an empty function name is taken",
        "ERROR, and closed",
        FARM,
        "nobody can name it in an admin command",
        [
            "c SUBMIT_JOB |u|x",
            "a: status",
        ],
        {
            1: (["c JOB_CREATED #1"], ["c ERROR INVALID_FUNCTION_NAME|Empty function name", "c closed"]),
            2: (["a: \\t1\\t0\\t0\\n", "a: .\\n"], ["a: .\\n"]),
        },
    ),
    Difference(
        "blank-in-function",
        "blanks in a function's name are taken",
        "ERROR, and closed",
        FARM,
        "it breaks `workers` and cannot be named in an admin command",
        [
            "c SUBMIT_JOB_BG two words|u|x",
            "a: status",
        ],
        {
            1: (
                ["c JOB_CREATED #1"],
                ["c ERROR INVALID_FUNCTION_NAME|Blank or control character in function name", "c closed"],
            ),
            2: (["a: two words\\t1\\t0\\t0\\n", "a: .\\n"], ["a: .\\n"]),
        },
    ),
    Difference(
        "lf-in-function",
        "a line end in a function's name is taken",
        "ERROR, and closed",
        FARM,
        "it forges lines of `status`",
        [
            "c SUBMIT_JOB_BG f\\n.|u|x",
        ],
        {
            1: (
                ["c JOB_CREATED #1"],
                ["c ERROR INVALID_FUNCTION_NAME|Blank or control character in function name", "c closed"],
            ),
        },
    ),
    Difference(
        "nul-in-function",
        "a NUL in a function's name is taken, and shown as its end",
        "ERROR, and closed",
        FARM,
        "two functions look like one",
        [
            "w CAN_DO f\\x00g",
            "a: status",
        ],
        {
            1: ([], ["w ERROR INVALID_FUNCTION_NAME|Blank or control character in function name", "w closed"]),
            2: (["a: f\\t0\\t0\\t1\\n", "a: .\\n"], ["a: .\\n"]),
        },
    ),
    Difference(
        "tab-in-function",
        "a TAB in a function's name is shown as it is",
        "as `\\t`",
        FARM,
        "it forges columns of `status`",
        [
            "c SUBMIT_JOB_BG a\\tb|u|x",
            "w CAN_DO a\\tb",
            "a: status",
            "a: workers",
        ],
        {
            3: (["a: a\\tb\\t1\\t0\\t1\\n", "a: .\\n"], ["a: a\\\\tb\\t1\\t0\\t1\\n", "a: .\\n"]),
            4: (
                ["a: FD ADDRESS - : a\\tb\\n", "a: FD ADDRESS - :\\n", "a: FD ADDRESS - :\\n", "a: .\\n"],
                ["a: FD ADDRESS - : a\\\\tb\\n", "a: FD ADDRESS - :\\n", "a: FD ADDRESS - :\\n", "a: .\\n"],
            ),
        },
    ),
    Difference(
        "function-513",
        "a function's name may be as long as 8 KiB",
        "512 bytes, as libgearman has it",
        FARM,
        "libgearman's workers could not serve it",
        [
            "c SUBMIT_JOB_BG " + "f" * 513 + "|u|x",
        ],
        {
            1: (
                ["c JOB_CREATED #1"],
                ["c ERROR INVALID_FUNCTION_NAME|Function name longer than 512 bytes", "c closed"],
            ),
        },
    ),
    Difference(
        "function-9000",
        "a longer one closes the connection",
        "ERROR, and closed",
        FARM,
        "the sender is told why",
        [
            "c SUBMIT_JOB_BG " + "f" * 9000 + "|u|x",
        ],
        {
            1: (["c closed"], ["c ERROR INVALID_FUNCTION_NAME|Function name longer than 512 bytes", "c closed"]),
        },
    ),
    Difference(
        "blank-in-id",
        "blanks in a client id are shown as they are",
        "escaped",
        FARM,
        "it forges columns of `workers`",
        [
            "w SET_CLIENT_ID a b",
            "a: workers",
        ],
        {
            2: (
                ["a: FD ADDRESS - :\\n", "a: FD ADDRESS a b :\\n", "a: .\\n"],
                ["a: FD ADDRESS - :\\n", "a: FD ADDRESS a\\\\x20b :\\n", "a: .\\n"],
            ),
        },
    ),
    Difference(
        "empty-id",
        "an empty client id is shown as nothing",
        "as `-`",
        FARM,
        "the columns stay",
        [
            "w SET_CLIENT_ID",
            "a: workers",
        ],
        {
            2: (
                ["a: FD ADDRESS  :\\n", "a: FD ADDRESS - :\\n", "a: .\\n"],
                ["a: FD ADDRESS - :\\n", "a: FD ADDRESS - :\\n", "a: .\\n"],
            ),
        },
    ),
    Difference(
        "lf-in-unique",
        "a line end in a unique forges lines of `show unique jobs`",
        "escaped",
        FARM,
        "one job, one line",
        [
            "c SUBMIT_JOB_BG f|a\\nb|x",
            "a: show unique jobs",
        ],
        {
            2: (["a: a\\n", "a: b\\n", "a: .\\n"], ["a: a\\\\x0ab\\n", "a: .\\n"]),
        },
    ),
    Difference(
        "six-words",
        "a line of six words closes the connection",
        "INVALID_ARGUMENTS",
        FARM,
        "the sender is told why",
        [
            "a: maxqueue f 1 2 3 4",
        ],
        {
            1: (
                ["a closed"],
                ["a: ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+maxqueue\\r\\n"],
            ),
        },
    ),
    Difference(
        "line-8k",
        "a longer line closes the connection",
        "ERROR, and closed",
        FARM,
        "the sender is told why",
        [
            "a: " + "x" * 9000,
        ],
        {
            1: (["a closed"], ["a ERROR INVALID_COMMAND|Line too long", "a closed"]),
        },
    ),
    Difference(
        "epoch-overflow",
        "a time of more than 64 bits: no answer, and the connection closes with the next packet but one",
        "ERROR, and closed",
        FARM,
        "the sender is told why",
        [
            "c SUBMIT_JOB_EPOCH f|u|99999999999999999999999|x",
        ],
        {
            1: ([], ["c ERROR INVALID_PACKET|Epoch too long", "c closed"]),
        },
    ),
    Difference(
        "timeout-long",
        "a timeout of more than 20 characters: no answer, and the connection closes later",
        "ERROR, and closed",
        FARM,
        "the sender is told why",
        [
            "w CAN_DO_TIMEOUT f|000000000000000000001000",
            "a: status",
        ],
        {
            1: ([], ["w ERROR INVALID_PACKET|Timeout too long", "w closed"]),
        },
    ),
    Difference(
        "nul-in-line",
        "an unknown command is repeated up to a NUL",
        "escaped",
        FARM,
        "one answer, one line",
        [
            "a: sta\\x00tus",
        ],
        {
            1: (
                ["a: ERR UNKNOWN_COMMAND Unknown+server+commandsta\\r\\n"],
                ["a: ERR UNKNOWN_COMMAND Unknown+server+commandsta\\\\x00tus\\r\\n"],
            ),
        },
    ),
    Difference(
        "control-in-line",
        "and with its control characters",
        "its first word, escaped",
        FARM,
        "a terminal would obey them",
        [
            "a: \\r",
            "a: status\\r",
            "a: a\\tb\\x1b[m",
            "a: \\tstatus",
        ],
        {
            3: (
                ["a: ERR UNKNOWN_COMMAND Unknown+server+commanda\\tb\\x1b[m\\r\\n"],
                ["a: ERR UNKNOWN_COMMAND Unknown+server+commanda\\\\tb\\\\x1b[m\\r\\n"],
            ),
            4: (
                ["a: ERR UNKNOWN_COMMAND Unknown+server+command\\tstatus\\r\\n"],
                ["a: ERR UNKNOWN_COMMAND Unknown+server+command\\\\tstatus\\r\\n"],
            ),
        },
    ),
    Difference(
        "create-bad-name",
        "`create function` takes any name",
        "the names that a job may have",
        FARM,
        "it breaks listings",
        [
            "a: create function " + "x" * 600 + "\\r",
            "a: create function a\\x01b\\r",
            "a: status",
        ],
        {
            1: (["a: OK\\r\\n"], ["a: ERR INVALID_FUNCTION_NAME Function+name+longer+than+512+bytes\\r\\n"]),
            2: (["a: OK\\r\\n"], ["a: ERR INVALID_FUNCTION_NAME Blank+or+control+character+in+function+name\\r\\n"]),
            3: (["a: a\\x01b\\t0\\t0\\t0\\n", "a: " + "x" * 600 + "\\t0\\t0\\t0\\n", "a: .\\n"], ["a: .\\n"]),
        },
    ),
    Difference(
        "joined-twice",
        "a connection that submits the same key twice gets every WORK packet twice",
        "once",
        UNSPECIFIED,
        "libgearman's client gives both to its first task and waits for ever either way",
        [
            "c SUBMIT_JOB f|u|x",
            "c SUBMIT_JOB f|u|x",
            "w CAN_DO f",
            "w GRAB_JOB",
            "w WORK_DATA #1|d",
            "w WORK_COMPLETE #1|r",
            "c GET_STATUS #1",
        ],
        {
            5: (["c WORK_DATA #1|d", "c WORK_DATA #1|d"], ["c WORK_DATA #1|d"]),
            6: (["c WORK_COMPLETE #1|r", "c WORK_COMPLETE #1|r"], ["c WORK_COMPLETE #1|r"]),
        },
    ),
    Difference(
        "joined-twice-counted",
        "and counts as two clients in STATUS_RES_UNIQUE",
        "as one",
        UNSPECIFIED,
        "it is one connection",
        [
            "c SUBMIT_JOB f|u|x",
            "c SUBMIT_JOB f|u|x",
            "c GET_STATUS_UNIQUE u",
        ],
        {
            3: (["c STATUS_RES_UNIQUE u|1|0|0|0|2"], ["c STATUS_RES_UNIQUE u|1|0|0|0|1"]),
        },
    ),
    Difference(
        "reduce-reducer",
        "a reducer's name of more than 64 bytes is called a too large unique",
        "too, but by its name",
        UNSPECIFIED,
        "the code is the same",
        [
            "c SUBMIT_REDUCE_JOB f|u|" + "r" * 65 + "||x",
        ],
        {
            1: (
                ["c ERROR ARGUMENT_TOO_LARGE|Unique value too large"],
                ["c ERROR ARGUMENT_TOO_LARGE|Reducer value too large"],
            ),
        },
    ),
    Difference(
        "unique-two-functions",
        "GET_STATUS_UNIQUE of a key in two functions answers for one by chance of a hash",
        "for the function that was mentioned first",
        UNSPECIFIED,
        "the packet has no function",
        [
            "c SUBMIT_JOB f|u|x",
            "d SUBMIT_JOB f|u|x",
            "c SUBMIT_JOB_BG g|u|x",
            "c GET_STATUS_UNIQUE u",
        ],
        {
            4: (["c STATUS_RES_UNIQUE u|1|0|0|0|0"], ["c STATUS_RES_UNIQUE u|1|0|0|0|2"]),
        },
    ),
    Difference(
        "status-numbers",
        "numbers of WORK_STATUS are kept as 32 bits of whatever they begin with",
        "digits are kept as they are, up to 20; anything else is kept as 0, and passed on",
        UNSPECIFIED,
        "nobody should send them; GET_STATUS shows what was sent or nothing",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_STATUS #1|-1|7",
            "c GET_STATUS #1",
            "w WORK_STATUS #1|1.5|2",
            "c GET_STATUS #1",
            "w WORK_STATUS #1|007|x",
            "c GET_STATUS #1",
            "w WORK_STATUS #1| 4|4294967297",
            "c GET_STATUS #1",
        ],
        {
            5: (["c STATUS_RES #1|1|1|4294967295|7"], ["c STATUS_RES #1|1|1|0|7"]),
            7: (["c STATUS_RES #1|1|1|1|2"], ["c STATUS_RES #1|1|1|0|2"]),
            9: (["c STATUS_RES #1|1|1|7|0"], ["c STATUS_RES #1|1|1|007|0"]),
            11: (["c STATUS_RES #1|1|1|4|1"], ["c STATUS_RES #1|1|1|0|4294967297"]),
        },
    ),
    Difference(
        "status-long-denominator",
        "a WORK_STATUS with a denominator of more than 11 characters is not passed on, and closes the connection",
        "passed on",
        GEARMAND,
        "the job would be lost",
        ["w CAN_DO f", "c SUBMIT_JOB f||x", "w GRAB_JOB", "w WORK_STATUS #1|1|123456789012"],
        {
            4: ([], ["c WORK_STATUS #1|1|123456789012"]),
        },
    ),
    Difference(
        "status-four-numbers",
        "a fourth argument of WORK_STATUS is cut off",
        "counts as part of the denominator, which is then no number",
        UNSPECIFIED,
        "nobody should send it",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f||x",
            "w GRAB_JOB",
            "w WORK_STATUS #1|1|2|3",
            "c GET_STATUS #1",
        ],
        {
            5: (["c STATUS_RES #1|1|1|1|2"], ["c STATUS_RES #1|1|1|1|0"]),
        },
    ),
    Difference(
        "fail-long-handle",
        "WORK_FAIL with a handle of more than 63 bytes: an error of its own",
        "JOB_NOT_FOUND",
        UNSPECIFIED,
        "there is no such job either way",
        [
            "w WORK_FAIL " + "h" * 64,
            "w WORK_COMPLETE " + "h" * 70 + "|x",
        ],
        {
            1: (
                [
                    "w ERROR ARGUMENT_TOO_LARGE|Error occurred due to GEARMAND_JOB_HANDLE_SIZE"
                    " being too small from snprintf"
                ],
                ["w ERROR JOB_NOT_FOUND|Job given in work result not found"],
            ),
        },
    ),
    Difference(
        "extension-packet",
        "a packet of farm's extension: closed",
        "an ERROR, unless the extension was asked for",
        UNSPECIFIED,
        "gearmand knows no extension",
        [
            "c raw \\x00REQ\\x00\\x00\\x03\\xe9\\x00\\x00\\x00\\x00",
        ],
        {
            1: (["c closed"], ["c ERROR INVALID_COMMAND|Command not expected"]),
        },
    ),
    Difference(
        "line-4k",
        "a line may be 8 KiB long",
        "4 KiB; then ERROR, and closed",
        UNSPECIFIED,
        "a command is a few words",
        [
            "a: " + "x" * 5000,
        ],
        {
            1: (
                ["a: ERR UNKNOWN_COMMAND Unknown+server+command" + "x" * 5000 + "\\r\\n"],
                ["a ERROR INVALID_COMMAND|Line too long", "a closed"],
            ),
        },
    ),
    Difference(
        "extension-option",
        "the option `farm-1`: UNKNOWN_OPTION",
        "taken",
        UNSPECIFIED,
        "that is how farm's ends find each other",
        [
            "c OPTION_REQ farm-1",
        ],
        {
            1: (["c ERROR UNKNOWN_OPTION|Server does not recognize given option"], ["c OPTION_RES farm-1"]),
        },
    ),
    Difference(
        "epoch-junk",
        "a time with junk behind it counts up to the junk",
        "is no number, and means now",
        UNSPECIFIED,
        "nobody should send it",
        [
            "c SUBMIT_JOB_EPOCH f|u|4102444800x|x",
            "w CAN_DO f",
            "w GRAB_JOB",
        ],
        {
            3: (["w NO_JOB"], ["w JOB_ASSIGN #1|f|x"]),
        },
    ),
    Difference(
        "limits",
        "`limits` is no command",
        "farm's own: its limits",
        UNSPECIFIED,
        "gearmand has nothing like it",
        [
            "a: limits",
        ],
        {
            1: (["a: ERR UNKNOWN_COMMAND Unknown+server+commandlimits\\r\\n"], ANY),
        },
    ),
    Difference(
        "join-abandoned-running",
        "a submission may join a running job that nobody waited for any more",
        "a job of its own",
        UNSPECIFIED,
        "farm's workers were told to give it up",
        [
            "w CAN_DO f",
            "c SUBMIT_JOB f|u|x",
            "w GRAB_JOB",
            "c closes",
            "d SUBMIT_JOB f|u|x",
            "w WORK_COMPLETE #1|r",
            "a: status",
        ],
        {
            5: (["d JOB_CREATED #1"], ["d JOB_CREATED #2"]),
            6: (["d WORK_COMPLETE #1|r"], []),
            7: (["a: f\\t0\\t0\\t1\\n", "a: .\\n"], ["a: f\\t1\\t0\\t1\\n", "a: .\\n"]),
        },
    ),
    Difference(
        "maxqueue-junk",
        "a limit counts up to the first letter: `1x` is 1, `x` is none",
        "INVALID_ARGUMENTS",
        FARM,
        "OK would hide the mistake",
        [
            "a: create function f\\r",
            "a: maxqueue f 1x",
            "c SUBMIT_JOB f||x",
            "c SUBMIT_JOB f||x",
            "a: maxqueue f x",
        ],
        {
            2: (
                ["a: OK\\r\\n"],
                ["a: ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+maxqueue\\r\\n"],
            ),
            4: (["c ERROR QUEUE_ERROR|Job queue is full"], ["c JOB_CREATED #2"]),
            5: (
                ["a: OK\\r\\n"],
                ["a: ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+maxqueue\\r\\n"],
            ),
        },
    ),
    Difference(
        "maxqueue-wraps",
        "a limit of more than 32 bits wraps",
        "the largest is 2147483647",
        GEARMAND,
        "it limits to something else",
        [
            "a: create function f\\r",
            "a: maxqueue f 4294967297",
            "c SUBMIT_JOB f||x",
            "c SUBMIT_JOB f||x",
        ],
        {
            4: (["c ERROR QUEUE_ERROR|Job queue is full"], ["c JOB_CREATED #2"]),
        },
    ),
)

AGREED: dict[str, list[str]] = {
    "workers-order": [
        "w CAN_DO f",
        "w CAN_DO g",
        "w CAN_DO h",
        "w CANT_DO g",
        "w CAN_DO g",
        "a: workers",
    ],
    "status-unique-dash": [
        "c SUBMIT_JOB f|-|x",
        "c SUBMIT_JOB f||x",
        "c GET_STATUS_UNIQUE -",
        "c GET_STATUS_UNIQUE",
    ],
    "status-unique-payload": [
        "c SUBMIT_JOB f|-|x",
        "c SUBMIT_JOB f|-|",
        "c GET_STATUS_UNIQUE x",
    ],
    "drop-running": [
        "w CAN_DO f",
        "c SUBMIT_JOB_BG f|u|x",
        "w GRAB_JOB",
        "a: drop function f",
    ],
    "type-5": [
        "c raw \\x00REQ\\x00\\x00\\x00\\x05\\x00\\x00\\x00\\x00",
    ],
    "drop-ignores-case": [
        "a: create function Abc\\r",
        "a: drop function aBC",
        "a: status",
    ],
    "long-id": [
        "w SET_CLIENT_ID " + "i" * 200,
        "a: workers",
    ],
    "epoch-max": [
        "c SUBMIT_JOB_EPOCH f|u|9223372036854775807|x",
        "a: status",
    ],
    "extra-words": [
        "a: status now please",
        "a: version 1",
        "a: getpid x",
        "a: verbose x",
        "a: workers x",
        "a: prioritystatus x",
        "a: shutdown now",
        "a: show jobs now",
        "a: show unique",
        "a: show unique jobs now",
        "a: cancel job a b",
        "a: create function a b",
        "a: drop function a b",
    ],
    "http": [
        "c raw GET / HTTP/1.0\\r\\n\\r\\n",
    ],
    "body-on-grab": [
        "w raw \\x00REQ\\x00\\x00\\x00\\x09\\x00\\x00\\x00\\x05hello",
    ],
    "reducer": [
        "c SUBMIT_REDUCE_JOB f|u|red||x",
        "c SUBMIT_REDUCE_JOB_BACKGROUND f|v|red||x",
        "w CAN_DO f",
        "w GRAB_JOB",
        "w GRAB_JOB_ALL",
        "a: show jobs",
    ],
    "worker-lost": [
        "w CAN_DO f",
        "c SUBMIT_JOB f|u|x",
        "w GRAB_JOB",
        "w WORK_STATUS #1|3|4",
        "c GET_STATUS #1",
        "w closes",
        "c GET_STATUS #1",
        "a: show jobs",
        "v CAN_DO f",
        "v PRE_SLEEP",
        "v GRAB_JOB_UNIQ",
    ],
    "maxqueue": [
        "a: create function f\\r",
        "a: maxqueue f 1",
        "c SUBMIT_JOB f|u|x",
        "d SUBMIT_JOB f|u|x",
        "d SUBMIT_JOB f|v|x",
        "d SUBMIT_JOB_HIGH f|w|x",
        "d SUBMIT_JOB_EPOCH f|z|0|x",
    ],
    "maxqueue-unknown-function": [
        "a: maxqueue f 1",
        "a: status",
        "c SUBMIT_JOB f||x",
        "c SUBMIT_JOB f||x",
    ],
    "registered-anew": [
        "w CAN_DO f",
        "w CAN_DO g",
        "w CAN_DO f",
        "c SUBMIT_JOB g||x",
        "c SUBMIT_JOB f||x",
        "w GRAB_JOB",
        "w GRAB_JOB",
    ],
    "long-option": [
        "c OPTION_REQ " + "o" * 64,
        "c OPTION_REQ " + "o" * 4000,
    ],
    "tab-in-name": [
        "a: create function a\\tb\\r",
        "a: maxqueue a\\tb 1",
        "c SUBMIT_JOB a\\tb|u|x",
        "c SUBMIT_JOB a\\tb||x",
        "a: drop function a\\tc",
    ],
    "order-of-registration": [
        "w CAN_DO f",
        "w CAN_DO g",
        "c SUBMIT_JOB_LOW g||x",
        "c SUBMIT_JOB_HIGH f||x",
        "w GRAB_JOB",
        "w GRAB_JOB",
    ],
    "response": [
        "c raw \\x00RES\\x00\\x00\\x00\\x07\\x00\\x00\\x00\\x05f\\x00u\\x00x",
    ],
    "sched-and-all-yours": [
        "c SUBMIT_JOB_SCHED f|u|1|2|3|4|5|x",
        "c ALL_YOURS",
    ],
    "jobs-of-others": [
        "w CAN_DO f",
        "c SUBMIT_JOB f||x",
        "w GRAB_JOB",
        "v WORK_COMPLETE #1|r",
        "v WORK_STATUS #1|1|2",
        "v WORK_EXCEPTION #1|r",
        "v WORK_WARNING #1|r",
        "v WORK_FAIL #1",
    ],
}
