"""What a stage did and how long it took: counts and percentiles in constant memory."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

STEP = 0.02  # relative width of a histogram bin: percentiles are exact to 1 %
FLOOR_MS = 0.001


class Histogram:
    """Durations in logarithmic bins from 1 microsecond up; constant memory however long the flight."""

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self.count = 0

    def add(self, ms: float) -> None:
        """Count one duration, in ms."""
        index = round(math.log(max(ms, FLOOR_MS) / FLOOR_MS) / STEP)
        self._bins[index] = self._bins.get(index, 0) + 1
        self.count += 1

    def percentile(self, percent: float) -> float | None:
        """The duration in ms below which ``percent`` of all lie (nearest rank); None when empty."""
        rank, seen = max(1, math.ceil(self.count * percent / 100)), 0
        for index in sorted(self._bins):
            seen += self._bins[index]
            if seen >= rank:
                return FLOOR_MS * math.exp(index * STEP)
        return None

    def bins(self) -> list[tuple[float, int]]:
        """(centre in ms, count) of every bin that is not empty, ascending."""
        return [(float(f"{FLOOR_MS * math.exp(i * STEP):.4g}"), n) for i, n in sorted(self._bins.items())]

    def summary(self) -> dict[str, float]:
        """p50, p95 and p99 in ms, rounded to the histogram's resolution; empty when nothing was counted."""
        values = {f"p{p}": self.percentile(p) for p in (50, 95, 99)}
        return {k: float(f"{v:.3g}") for k, v in values.items() if v is not None}


@dataclass
class StageStats:
    """Counters of one stage; every method may be called from any thread.

    ``age`` is from capture to publication (clock of the frames), ``work`` the stage's own time (monotonic clock).
    The rate comes from the stamps of the last few results, never from a count over wall time.
    """

    deadline_ms: float
    age: Histogram = field(default_factory=Histogram)
    work: Histogram = field(default_factory=Histogram)
    done: int = 0
    failed: int = 0
    deadline_misses: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    error: str = ""
    _stamps: deque[int] = field(default_factory=lambda: deque(maxlen=30))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def result(self, stamp_ns: int, now_ns: int, work_ns: int, **counts: int) -> None:
        """One result published at ``now_ns`` for the frame captured at ``stamp_ns``.

        A clock that stands at zero is a simulator's that was not heard yet: no age can be told.
        """
        age_ms = (now_ns - stamp_ns) * 1e-6
        with self._lock:
            self.done += 1
            self.error = ""
            if now_ns > 0:
                self.age.add(age_ms)
            self.work.add(work_ns * 1e-6)
            self.deadline_misses += age_ms > self.deadline_ms
            if self._stamps and stamp_ns <= self._stamps[-1]:
                self._stamps.clear()  # time went back: a bag was started again
            self._stamps.append(stamp_ns)
            for name, n in counts.items():
                self.counts[name] = self.counts.get(name, 0) + n

    def failure(self, message: str) -> None:
        """The stage failed on one frame; the message stays until a frame succeeds."""
        with self._lock:
            self.failed += 1
            self.error = message

    def rate_hz(self) -> float | None:
        """Results a second, from the stamps of the last results; None before the second one."""
        with self._lock:
            if len(self._stamps) < 2:
                return None
            return (len(self._stamps) - 1) / ((self._stamps[-1] - self._stamps[0]) * 1e-9)

    def snapshot(self) -> dict[str, Any]:
        """Plain values for diagnostics and reports."""
        rate = self.rate_hz()
        with self._lock:
            return {"done": self.done, "failed": self.failed, "deadline_misses": self.deadline_misses,
                    "rate_hz": None if rate is None else round(rate, 2), **self.counts,
                    "age_ms": self.age.summary(), "work_ms": self.work.summary()}
