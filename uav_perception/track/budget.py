"""Graceful degradation: work is shed when frames take too long, and taken back when there is room."""

from __future__ import annotations

MEMORY = 0.2  # weight of the newest frame in the load
ROOM = 0.5  # share of the budget below which there is room: not to flutter, well below it
BETWEEN = 0.75  # share of the budget that is assumed after a change


class Budget:
    """``budget_ms`` per frame; 0: no limit."""

    def __init__(self, budget_ms: float) -> None:
        self._budget_ms, self._load_ms = budget_ms, 0.0
        self.shed = 0  # level of degradation: 0 all, 1 no appearance, 2 coarser camera motion as well

    def took(self, ms: float) -> None:
        """A frame was worked on for so long."""
        if self._budget_ms <= 0:
            return
        self._load_ms += MEMORY * (ms - self._load_ms)
        too_long, room = self._load_ms > self._budget_ms, self._load_ms < ROOM * self._budget_ms
        change = int(too_long and self.shed < 2) - int(room and self.shed > 0)
        if change:
            self.shed, self._load_ms = self.shed + change, BETWEEN * self._budget_ms
