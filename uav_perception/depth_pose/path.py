"""odom -> base_link: the motions of a run strung together, and how unsure that is."""

from __future__ import annotations

import numpy as np

from ..geometry import quaternion_from_matrix, se3_inverse
from ..records import F64, EgoMotion, Pose, Scale
from .scale import MetricScale
from .structure import Step


class Path:
    """Where the vehicle is; ``resets`` counts how often what was said before ceased to be comparable.

    Args:
        mount: (4, 4) base from optical axes, m.
    """

    def __init__(self, mount: F64) -> None:
        self._mount = mount
        self._odom_from_camera = np.eye(4)  # optical axes of the first frame; metres when METRIC, else run units
        self._covariance = np.zeros((6, 6))
        self.resets = 0

    def lost(self) -> None:
        """What happened since the last frame is unknown."""
        self.resets += 1
        self._covariance = self._covariance + np.eye(6)

    def jumped(self) -> None:
        """The scale appeared, vanished, or is another."""
        self.resets += 1
        self._covariance = self._covariance * 2 + np.diag([0.25, 0.25, 0.25, 0, 0, 0])

    def change_unit(self, new_per_old: float) -> None:
        """Carry the path over from run units to metres, or back."""
        self._odom_from_camera[:3, 3] *= new_per_old

    def follow(self, step: Step, from_ns: int | None, to_ns: int, scale: MetricScale) -> EgoMotion | None:
        """Go on by ``step``; the motion between the stamps, None where that is not known."""
        if step.cur_from_prev is None or from_ns is None:
            return None
        metres = scale.metres_per_unit if scale.metres_per_unit is not None else 1.0
        if step.revision is not None:  # the first parallax tells how the frames before had really moved
            revision = step.revision.copy()
            revision[:3, 3] *= metres
            self._odom_from_camera = self._odom_from_camera @ revision
            self.resets += 1
        cur_from_prev = step.cur_from_prev.copy()
        cur_from_prev[:3, 3] *= metres
        covariance = step.covariance.copy()
        covariance[:3] *= metres
        covariance[:, :3] *= metres
        if scale.state is Scale.METRIC:
            covariance[:3, :3] += scale.relative_sigma**2 * np.outer(cur_from_prev[:3, 3], cur_from_prev[:3, 3])
        turn = np.zeros((6, 6))
        turn[:3, :3] = turn[3:, 3:] = self._mount[:3, :3] @ self._odom_from_camera[:3, :3]
        self._covariance = self._covariance + turn @ covariance @ turn.T
        self._odom_from_camera = self._odom_from_camera @ se3_inverse(cur_from_prev)
        return EgoMotion(from_ns, to_ns, cur_from_prev, covariance, scale.state, step.inliers)

    def pose(self, stamp_ns: int, state: Scale) -> Pose:
        """Of base_link in odom."""
        mount = self._mount.copy()
        if state is Scale.UNIT:
            mount[:3, 3] = 0.0  # a lever arm in metres has no meaning in run units
        base = mount @ self._odom_from_camera @ se3_inverse(mount)
        return Pose(stamp_ns, "odom", "base_link", base[:3, 3], quaternion_from_matrix(base[:3, :3]),
                    self._covariance.copy(), self.resets, state)
