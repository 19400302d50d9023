"""Of items with one key the first, whatever comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.broker.earliest import Earliest

KEYS = [b"a", b"b"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 9))))
def test_it_is_the_lowest(steps: list[tuple[bytes, int]]) -> None:
    """A step adds what is not there, and drops what is."""
    earliest: Earliest[int] = Earliest(lambda item: item % 10)
    there: set[tuple[bytes, int]] = set()
    for key, rank in steps:
        item = rank + 10 * KEYS.index(key)
        if (key, item) in there:
            there.discard((key, item))
            earliest.drop(key, item)
        else:
            there.add((key, item))
            earliest.add(key, item)
        assert len(earliest) == len(there)
        for wanted in KEYS:
            assert earliest.first(wanted) == min((item for k, item in there if k == wanted), default=None)
