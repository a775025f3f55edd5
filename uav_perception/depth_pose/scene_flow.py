"""How fast what is tracked goes over the ground, in metres per second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry import se3_inverse
from ..records import F64, CameraModel, DepthMap, EgoMotion, Track

SMOOTHED_S = 0.5


class SceneFlow:
    """Velocities of tracked objects, smoothed over ``SMOOTHED_S``."""

    def __init__(self) -> None:
        self._known: dict[int, F64] = {}  # track id -> m/s in the camera frame, as of the frame before

    def reset(self) -> None:
        self._known = {}

    def __call__(self, depth: DepthMap, ego: EgoMotion, camera: CameraModel, tracks: Sequence[Track]) -> dict[int, F64]:
        """(3,) m/s by track id, in the current optical frame. ``depth`` and ``ego`` are of this frame, in metres;
        ``camera`` is that of the tracks' pixels."""
        dt_s = (ego.to_ns - ego.from_ns) * 1e-9
        sy, sx = depth.depth.shape[0] / camera.height_px, depth.depth.shape[1] / camera.width_px
        now: dict[int, F64] = {}
        for t in tracks:
            x1, y1, x2, y2 = t.xyxy_px.astype(np.float64)
            patch = depth.depth[max(0, int(y1 * sy)):int(y2 * sy) + 1, max(0, int(x1 * sx)):int(x2 * sx) + 1]
            if not patch.size:
                continue
            centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
            found = object_velocity(centre, t.velocity_px_s.astype(np.float64), float(np.median(patch)), camera,
                                    ego.to_from, dt_s)
            before = self._known.get(t.id, found)
            now[t.id] = before + min(1.0, dt_s / SMOOTHED_S) * (found - before)
        self._known = now
        return dict(now)


def object_velocity(centre_px: F64, velocity_px_s: F64, depth_m: float, camera: CameraModel, cur_from_prev: F64,
                    dt_s: float) -> F64:
    """Velocity (3,) m/s over ground of an object, in the current optical frame, as if it kept its depth.

    ``velocity_px_s`` is its image velocity; what the camera's own motion (metres) does to a resting point there is
    taken off, and the rest is lifted to metres at ``depth_m``.
    """
    ray = np.linalg.inv(camera.K) @ np.array([centre_px[0], centre_px[1], 1.0])
    before = se3_inverse(cur_from_prev) @ np.append(ray * depth_m, 1.0)
    if before[2] <= 1e-6:
        return np.zeros(3)
    resting_px = (camera.K @ before[:3] / before[2])[:2]
    own_px_s = velocity_px_s - (centre_px - resting_px) / dt_s
    return np.array([own_px_s[0] * depth_m / camera.K[0, 0], own_px_s[1] * depth_m / camera.K[1, 1], 0.0])
