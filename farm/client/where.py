"""A small language that says which jobs are meant: `run > 10s and exit != 0`. Pure; `farm/docs/jobs.md` explains it.

    expression  = term { "or" term }
    term        = factor { "and" factor }
    factor      = "not" factor | "(" expression ")" | field operator value
    operator    = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"

A field of which nothing is known (the exit code of a job that runs) compares false with everything.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from farm.client.records import STATES, Record
from farm.errors import UsageError

TEXT, NUMBER, SECONDS, BYTES, YES_OR_NO = "text", "number", "time", "size", "yes or no"

LENGTH_MAX = 4000  # letters: nobody types more
DEPTH_MAX = 40  # of brackets and nots: the parser calls itself for each

PRIORITIES = ("high", "normal", "low")

Test = Callable[[Record, float], bool]  # a job, and the time now


class Field(NamedTuple):
    """What may be asked of a job. value: from the job's record and the time now (seconds since 1970), None: unknown."""

    kind: str
    meaning: str
    value: Callable[[Record, float], Any]
    choices: tuple[str, ...] = ()


def _plain(name: str) -> Callable[[Record, float], Any]:
    return lambda job, now: job[name]


def _since(name: str) -> Callable[[Record, float], Any]:
    return lambda job, now: None if job[name] is None else now - job[name]


def _waited(job: Record, now: float) -> float:
    """From when it could have run until it did, or until now, or until it ended without."""
    until = next((job[name] for name in ("started_at", "ended_at") if job[name] is not None), now)
    waited: float = until - max(job["created_at"], job["due_at"] or 0.0)
    return max(0.0, waited)


FIELDS = {
    "id": Field(TEXT, "its handle", _plain("id")),
    "function": Field(TEXT, "the function's name", _plain("function")),
    "state": Field(TEXT, "one of " + ", ".join(STATES), _plain("state"), STATES),
    "reason": Field(TEXT, "why it is in that state, in a few words", _plain("reason")),
    "unique": Field(TEXT, "its unique key", _plain("unique")),
    "priority": Field(TEXT, "one of high, normal, low", _plain("priority"), PRIORITIES),
    "background": Field(YES_OR_NO, "whether nobody waits for it (farm submit -b)", _plain("background")),
    "worker": Field(TEXT, "the name of the worker that ran it last", _plain("worker")),
    "exit": Field(NUMBER, "the exit code of its command's last run", _plain("exit_code")),
    "attempts": Field(NUMBER, "how often it has begun to run", _plain("attempts")),
    "failures": Field(NUMBER, "how often it failed since farm retry ran it again", _plain("failures")),
    "losses": Field(NUMBER, "how often its worker was lost since then", _plain("losses")),
    "retries": Field(NUMBER, "how often it may be tried again", _plain("retries")),
    "run": Field(SECONDS, "how long its last run took, or has taken until now", _plain("run_s")),
    "queued": Field(SECONDS, "how long it waited, or has waited, before its last run", _waited),
    "age": Field(SECONDS, "since it was submitted", _since("created_at")),
    "ended": Field(SECONDS, "since it ended", _since("ended_at")),
    "timeout": Field(SECONDS, "how long a run may take", _plain("timeout_s")),
    "cpu": Field(SECONDS, "processor time of its last run", _plain("cpu_s")),
    "memory": Field(BYTES, "the most memory that its last run used", _plain("peak_bytes")),
    "payload": Field(BYTES, "the size of its payload", _plain("payload_bytes")),
    "result": Field(BYTES, "the size of its result", _plain("result_bytes")),
    "log": Field(BYTES, "the size of what it wrote to stderr", _plain("log_bytes")),
}

_TOKEN = re.compile(
    r"""\s*(?: (?P<operator><=|>=|!=|==|[=<>~])
             | (?P<bracket>[()])
             | (?P<quoted>"[^"]*"|'[^']*')
             | (?P<word>[^\s()=!<>~"']+)
             )""",
    re.X,
)
_AMOUNT = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw]))+|[0-9]+(?:\.[0-9]+)?", re.I)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw]|)", re.I)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)i?b?", re.I)
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?")

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def parse(text: str) -> Test:
    """What tells for a job whether it is meant. Raises UsageError, which says where the text is wrong."""
    parser = _Parser(text)
    test = parser.expression(0)
    if parser.token.kind != "end":
        parser.wrong(parser.token, f"expected 'and' or 'or', not {parser.token.text!r}")
    return test


def seconds(text: str) -> float | None:
    """A duration: `90`, `10s`, `2h30m`, `1.5d`. None: it is none."""
    if len(text) > 40 or not _AMOUNT.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(text))


def size(text: str) -> float | None:
    """A number of bytes: `10M`, `1.5GiB`. None: it is none."""
    found = _SIZE.fullmatch(text) if len(text) <= 40 else None
    return float(found[1]) * _BYTES[found[2].lower()] if found else None


class _Token(NamedTuple):
    kind: str  # operator, bracket, quoted, word or end
    text: str
    column: int  # from 1


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > LENGTH_MAX:
            raise UsageError(f"--where is {len(text)} letters long (at most {LENGTH_MAX})")
        self._position = 0
        self.token = self._read()

    def expression(self, depth: int) -> Test:
        """Up to a closing bracket or the end."""
        tests = [self._term(depth)]
        while self._take("or"):
            tests.append(self._term(depth))
        return tests[0] if len(tests) == 1 else lambda job, now: any(test(job, now) for test in tests)

    def wrong(self, token: _Token, what: str, hint: str = "") -> NoReturn:
        """Raise it."""
        raise UsageError(f"--where, column {token.column}: {what}", hint or "for example: run > 10s and exit != 0")

    def _term(self, depth: int) -> Test:
        tests = [self._factor(depth)]
        while self._take("and"):
            tests.append(self._factor(depth))
        return tests[0] if len(tests) == 1 else lambda job, now: all(test(job, now) for test in tests)

    def _factor(self, depth: int) -> Test:
        if depth > DEPTH_MAX:
            self.wrong(self.token, f"more than {DEPTH_MAX} brackets and nots within each other")
        if self._take("not"):
            negated = self._factor(depth + 1)
            return lambda job, now: not negated(job, now)
        opening = self.token
        if self._take("("):
            inner = self.expression(depth + 1)
            if not self._take(")"):
                self.wrong(opening, "this bracket is not closed")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        name = self.token
        field = FIELDS.get(name.text.lower()) if name.kind == "word" else None
        if field is None:
            self._no_field(name)
        operator = self._next()
        if operator.kind != "operator":
            self.wrong(
                operator, f"after {name.text!r} comes one of = != < <= > >= ~, not {operator.text or 'the end'!r}"
            )
        value = self._next()
        if value.kind not in ("word", "quoted"):
            self.wrong(value, f"a value is missing after {operator.text!r}")
        test = self._test(name.text, field, operator, value)
        self._next()
        return test

    def _no_field(self, token: _Token) -> NoReturn:
        if token.kind == "end":
            self.wrong(token, "something is missing at the end" if self._text.strip() else "it is empty")
        close = difflib.get_close_matches(token.text.lower(), FIELDS, n=1) if token.kind == "word" else []
        guess = f"did you mean {close[0]!r}? " if close else ""
        self.wrong(token, f"{token.text!r} is no field of a job", f"{guess}The fields are {', '.join(FIELDS)}")

    def _test(self, name: str, field: Field, operator: _Token, value: _Token) -> Test:
        if operator.text == "~":
            return self._search(name, field, value)
        if field.kind in (TEXT, YES_OR_NO) and operator.text not in ("=", "!="):
            self.wrong(
                operator, f"{name!r} is {field.kind} and cannot be compared with {operator.text!r}", "use = != or ~"
            )
        wanted, compare, get = self._value(name, field, value), _ORDER[operator.text], field.value

        def test(job: Record, now: float) -> bool:
            found = get(job, now)
            return found is not None and compare(found, wanted)

        return test

    def _search(self, name: str, field: Field, value: _Token) -> Test:
        if field.kind != TEXT:
            self.wrong(value, f"{name!r} is a {field.kind}: ~ is for text", "use = != < <= > >=")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what may mean something else in a later Python still means this
                search = re.compile(value.text).search
        except (re.error, OverflowError, RecursionError) as error:
            self.wrong(value, f"not a regular expression: {error}", "quote it: function ~ '^re(size|port)$'")
        get = field.value

        def test(job: Record, now: float) -> bool:
            found = get(job, now)
            return found is not None and search(found) is not None

        return test

    def _value(self, name: str, field: Field, value: _Token) -> Any:
        text = value.text
        if field.kind == TEXT:
            if field.choices and text not in field.choices:
                self.wrong(value, f"{name!r} is never {text!r}", f"one of: {', '.join(field.choices)}")
            return text
        found: float | bool | None
        if field.kind == YES_OR_NO:
            found = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(text.lower())
        elif field.kind == SECONDS:
            found = seconds(text)
        elif field.kind == BYTES:
            found = size(text)
        else:
            found = float(text) if _NUMBER.fullmatch(text) else None
        if found is None:
            self.wrong(value, f"{name!r} is a {field.kind}, and {text!r} is none", _EXAMPLES[field.kind])
        return found

    def _take(self, text: str) -> bool:
        """Is it here? Then go on behind it."""
        token = self.token
        if token.kind not in ("word", "bracket") or token.text.lower() != text:
            return False
        self._next()
        return True

    def _next(self) -> _Token:
        self.token = self._read()
        return self.token

    def _read(self) -> _Token:
        found = _TOKEN.match(self._text, self._position)
        if not found or not found.lastgroup:
            rest = self._text[self._position :]
            column = self._position + len(rest) - len(rest.lstrip()) + 1
            if not rest.strip():
                return _Token("end", "", column)
            what = (
                "this quotation does not end"
                if rest.lstrip()[0] in "\"'"
                else f"{rest.lstrip()[0]!r} means nothing here"
            )
            self.wrong(_Token("", "", column), what)
        self._position = found.end()
        kind, text = found.lastgroup, found[found.lastgroup]
        if kind == "quoted":
            text = text[1:-1]
        return _Token(kind, "=" if text == "==" and kind == "operator" else text, found.start(kind) + 1)


_EXAMPLES = {
    NUMBER: "write 3 or -1",
    SECONDS: "write 10s, 5m, 2h30m or 1d",
    BYTES: "write 512K, 10M or 2G",
    YES_OR_NO: "write yes or no",
}
