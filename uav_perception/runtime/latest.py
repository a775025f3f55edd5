"""Newest wins: a slot that holds at most one item, so that latency cannot grow however slow the reader is."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """One writer or many, one reader. An item not yet taken is replaced and counted in ``dropped``."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._item: T | None = None
        self.dropped = 0

    def put(self, item: T) -> None:
        """Hand ``item`` over; never blocks."""
        with self._ready:
            self.dropped += self._item is not None
            self._item = item
            self._ready.notify()

    def take(self, timeout_s: float) -> T | None:
        """The newest item, or None when none came within ``timeout_s`` (or ``clear`` woke the reader)."""
        with self._ready:
            if self._item is None:
                self._ready.wait(timeout_s)
            item, self._item = self._item, None
            return item

    def clear(self) -> None:
        """Give up an untaken item and wake the reader."""
        with self._ready:
            self._item = None
            self._ready.notify_all()
