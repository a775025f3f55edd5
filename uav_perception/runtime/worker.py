"""A stage's own thread: takes the newest item, works, says what went wrong, goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import UavPerceptionError
from .latest import Latest

T = TypeVar("T")
IDLE_S = 0.5  # how often a waiting worker looks whether it should stop


class Worker(Generic[T]):
    """Calls ``work(item)`` on a thread of its own, between ``start`` and ``stop``, for the newest item ``put``.

    An exception is one bad frame, not the end: it goes to ``failed`` as one line and the next item is taken.
    """

    def __init__(self, name: str, work: Callable[[T], None], failed: Callable[[str], None]) -> None:
        self._name, self._work, self._failed = name, work, failed
        self._inbox: Latest[T] = Latest()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Items replaced by newer ones before they were taken, since the beginning."""
        return self._inbox.dropped

    def put(self, item: T) -> None:
        """Hand the newest item over; never blocks."""
        self._inbox.put(item)

    def start(self) -> None:
        """Begin to work; what was put before is forgotten."""
        self._inbox.clear()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name=self._name, daemon=True)
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            item = self._inbox.take(IDLE_S)
            if item is None:
                continue
            try:
                self._work(item)
            except UavPerceptionError as e:
                self._failed(str(e))
            except Exception as e:  # a defect in a stage must not end the graph, and must not be silent
                self._failed(f"{type(e).__name__}: {e}")

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread after the item it is working on; waits at most ``timeout_s``."""
        self._stop.set()
        self._inbox.clear()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
