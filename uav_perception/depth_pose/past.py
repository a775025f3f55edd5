"""Earlier pictures of a run, and from where they were taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np

from ..geometry import se3_inverse
from ..records import F64

T = TypeVar("T")


class Past(Generic[T]):
    """What was kept of earlier frames; ``reset`` when the motion since then becomes unknown.

    Args:
        every_s: no more is kept than one in this time.
        keep_s: and nothing that is older.
    """

    def __init__(self, every_s: float, keep_s: float) -> None:
        self._every_ns, self._keep_ns = every_s * 1e9, keep_s * 1e9
        self.reset()

    def reset(self) -> None:
        self._kept: deque[tuple[int, T, F64]] = deque()
        self._world_from_camera = np.eye(4)

    def move(self, cur_from_prev: F64) -> None:
        """The camera moved: (4, 4) in run units."""
        self._world_from_camera = self._world_from_camera @ se3_inverse(cur_from_prev)

    def keep(self, stamp_ns: int, what: T) -> None:
        """Keep ``what`` the present frame shows, if it is time."""
        if not self._kept or stamp_ns - self._kept[-1][0] >= self._every_ns:
            self._kept.append((stamp_ns, what, self._world_from_camera))

    def before(self, stamp_ns: int) -> Iterator[tuple[float, T, F64]]:
        """Oldest first: age in seconds, what was kept, and ``past_from_cur`` (4, 4)."""
        while self._kept and stamp_ns - self._kept[0][0] > self._keep_ns:
            self._kept.popleft()
        for then_ns, what, world_from_past in self._kept:
            yield (stamp_ns - then_ns) / 1e9, what, se3_inverse(world_from_past) @ self._world_from_camera
