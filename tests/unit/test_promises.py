"""What waits for the journal, and what is said when it never comes to be."""

from __future__ import annotations

from farm.server.promises import Promises

NO = b"no"


def test_each_promise_is_refused_and_no_answer_overtakes_another() -> None:
    promises = Promises()
    assert promises.take([(1, b"a"), (1, b"b"), (2, b"c"), (2, b"d"), (2, b"e")], [0, 1, 2, 4], 7) == []
    assert promises.take([(3, b"f")], [], 7) == [(3, b"f")]
    turn = [(1, b"g"), (3, b"h"), (4, b"i"), (4, b"j"), (5, 6)]
    assert promises.refuse(NO, turn, [0, 3]) == [(1, NO)] * 3 + [(2, NO)]
    assert promises.release(8) == []
    assert promises.refuse(NO, [], []) == []
