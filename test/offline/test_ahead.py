"""Working ahead changes when things are computed, never what comes out."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from uav_perception.offline.ahead import ahead


class Source:
    """Counts up; remembers how far it was asked, by which threads, and whether it was closed."""

    def __init__(self, end: int, broken_at: int = -1) -> None:
        self.asked, self.threads, self.closed = 0, set[str](), False
        self._end, self._broken_at = end, broken_at

    def items(self) -> Generator[int, None, None]:
        try:
            for i in range(self._end):
                self.asked, self.threads = i + 1, self.threads | {threading.current_thread().name}
                if i == self._broken_at:
                    raise ValueError("broken")
                yield i
        finally:
            self.closed = True


def doubled(items: Generator[int, None, None]) -> Generator[int, None, None]:
    for item in items:
        yield 2 * item


def test_everything_comes_in_order_through_any_number_of_threads() -> None:
    source = Source(50)
    assert list(ahead(doubled(ahead(source.items(), 3)), 2)) == [2 * i for i in range(50)]
    assert source.threads == {"ahead_0"} and source.closed


def test_no_more_is_computed_ahead_than_allowed() -> None:
    source = Source(50)
    items = ahead(source.items(), 3)
    for taken in range(1, 6):
        next(items)
        assert source.asked <= taken + 3
    items.close()
    assert source.closed and source.asked <= 9


def test_an_error_comes_where_its_item_would_have() -> None:
    source, got = Source(50, broken_at=7), []
    with pytest.raises(ValueError, match="broken"):
        for item in ahead(ahead(source.items(), 4), 4):
            got.append(item)
    assert got == list(range(7)) and source.closed
