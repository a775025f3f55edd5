"""Where the camera goes: hover, orbit, survey, follow; a drone that sways in the wind, a gimbal that wobbles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..records import F64

Height = Callable[[float, float], float]


def look_at(position: F64, yaw_rad: float, down_rad: float, roll_rad: float = 0.0) -> F64:
    """``world_from_camera`` (4, 4) of a camera heading ``yaw_rad`` (from east, left is positive), ``down_rad`` down."""
    c, s, cd, sd = np.cos(yaw_rad), np.sin(yaw_rad), np.cos(down_rad), np.sin(down_rad)
    forward = np.array([c * cd, s * cd, -sd])
    right = np.array([s, -c, 0.0])
    down = np.cross(forward, right)
    cr, sr = np.cos(roll_rad), np.sin(roll_rad)
    m = np.eye(4)
    m[:3, :3] = np.stack([cr * right + sr * down, cr * down - sr * right, forward], 1)
    m[:3, 3] = position
    return m


@dataclass
class Pilot:
    """Flies one trajectory around ``focus`` at ``altitude_m`` above the ground there, looking ``down_rad`` down.

    ``target`` (x, y) is given at every step; only ``follow`` uses it. Speeds in m/s.
    """

    kind: str
    focus: F64
    altitude_m: float
    down_rad: float
    speed_m_s: float
    heading_rad: float
    height: Height
    rng: np.random.Generator
    _aim: F64 | None = field(default=None, init=False)

    KINDS = ("hover", "orbit", "survey", "follow")

    def __post_init__(self) -> None:
        self._phase = self.rng.uniform(0, 2 * np.pi, 8)
        self._ground = self.height(*self.focus)

    def pose(self, time_s: float, dt_s: float, target: F64) -> F64:
        """``world_from_camera`` at ``time_s``; call in order, ``dt_s`` after the last."""
        back = self.altitude_m / np.tan(self.down_rad)  # from the point looked at, level
        yaw = self.heading_rad
        if self.kind == "follow":
            goal = np.asarray(target, np.float64)
            self._aim = goal if self._aim is None else self._aim + (goal - self._aim) * (1 - np.exp(-dt_s / 1.2))
            yaw += 0.06 * time_s
            aim = self._aim
        elif self.kind == "orbit":
            yaw += self.speed_m_s * time_s / max(back, 12.0)
            aim = self.focus
        elif self.kind == "survey":
            along = self.speed_m_s * (time_s - 5.0)
            aim = self.focus + along * np.array([np.cos(yaw), np.sin(yaw)])
        else:
            aim = self.focus
        p, t = self._phase, time_s
        sway = 0.25 * np.array(
            [
                np.sin(0.9 * t + p[0]) + 0.4 * np.sin(2.3 * t + p[1]),
                np.sin(0.7 * t + p[2]) + 0.4 * np.sin(2.7 * t + p[3]),
            ]
        )
        wobble = np.radians([0.35, 0.3, 0.25]) * np.sin(np.array([1.3, 1.7, 2.9]) * t + p[4:7])
        position = np.array([*(aim - back * np.array([np.cos(yaw), np.sin(yaw)]) + sway), 0.0])
        position[2] = self._ground + self.altitude_m + 0.3 * np.sin(0.5 * t + p[7])
        return look_at(position, yaw + wobble[0], self.down_rad + wobble[1], wobble[2])
