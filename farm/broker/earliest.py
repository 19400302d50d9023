"""Of several things with the same key the one of the lowest rank, found without looking at the others."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Earliest(Generic[Item]):
    """Items by key. rank: its number, no two of one key have the same.

    Nearly always there is one for a key, and then it costs a place in a dict and no more; of many, adding and dropping
    move pointers in a list.
    """

    __slots__ = ("_items", "_rank")

    def __init__(self, rank: Callable[[Item], int]) -> None:
        self._rank = rank
        self._items: dict[bytes, Item | list[Item]] = {}

    def __len__(self) -> int:
        return sum(len(there) if isinstance(there, list) else 1 for there in self._items.values())

    def add(self, key: bytes, item: Item) -> None:
        """It must not be there yet."""
        there = self._items.setdefault(key, item)
        if isinstance(there, list):
            insort(there, item, key=self._rank)
        elif there is not item:
            self._items[key] = sorted((there, item), key=self._rank)

    def drop(self, key: bytes, item: Item) -> None:
        """It must be there."""
        there = self._items[key]
        if isinstance(there, list):
            position = bisect_left(there, self._rank(item), key=self._rank)
            assert there[position] is item
            del there[position]
            if len(there) == 1:
                self._items[key] = there[0]
            return
        assert there is item
        del self._items[key]
        if not self._items:
            self._items.clear()  # gives back its room

    def first(self, key: bytes) -> Item | None:
        """The one of the lowest rank; None: there is none."""
        there = self._items.get(key)
        return there[0] if isinstance(there, list) else there
