"""The depth/pose stage: one frame in, depth, motion, pose and products out, each only when it is known.

Order of one frame: is the frame usable -> odometry -> scale -> depth -> products. A frame that cannot be used leaves
the state as it was and says why; a run that cannot be continued starts anew with a higher ``reset_counter``.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..config import DepthPoseConfig
from ..geometry import BODY_FROM_OPTICAL, quaternion_from_matrix, se3, se3_inverse, so3_exp
from ..records import F64, CameraModel, DepthPoseResult, EgoMotion, Frame, Pose, Scale, Track
from .odometry import Odometry, Step


def base_from_optical(config: DepthPoseConfig) -> F64:
    """(4, 4) mounting of the camera: ``camera_pitch_deg`` below the body's forward axis, offset in metres (FLU)."""
    tilt = so3_exp([0.0, np.radians(config.camera_pitch_deg), 0.0])
    return se3(tilt @ BODY_FROM_OPTICAL, np.asarray(config.camera_position_m))


class DepthPose:
    """Implements :class:`~uav_perception.depth_pose.DepthPoseEstimator` for one camera."""

    def __init__(self, config: DepthPoseConfig) -> None:
        self._config = config
        self._mount = base_from_optical(config)
        self._odometry = self._new_odometry()
        self._camera: CameraModel | None = None
        self._last_ns: int | None = None  # stamp of the last frame that was used
        self._backwards = 0
        self._odom_from_camera = np.eye(4)  # optical frame at the first frame -> now
        self._pose_covariance = np.zeros((6, 6))
        self._resets = 0

    def _new_odometry(self) -> Odometry:
        c = self._config
        return Odometry(features=c.features, window=c.window, keyframe_px=c.keyframe_px)

    def update(self, frame: Frame, height_agl_m: float | None = None, nav_position_m: ArrayLike | None = None,
               tracks: Sequence[Track] = ()) -> DepthPoseResult:
        """Use one frame; never raises on a bad one (see the protocol)."""
        refusal = self._unusable(frame)
        if refusal is not None:
            return DepthPoseResult(frame.stamp_ns, status=refusal)
        camera = frame.camera
        assert camera is not None
        gray = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
        from_ns, self._last_ns = self._last_ns, frame.stamp_ns
        step = self._odometry.update(np.asarray(gray), camera)
        if step.cur_from_prev is None or from_ns is None:
            return DepthPoseResult(frame.stamp_ns, pose=self._pose(frame.stamp_ns), status=step.message)
        ego = EgoMotion(from_ns, frame.stamp_ns, step.cur_from_prev, step.covariance, Scale.UNIT, step.inliers)
        self._integrate(ego)
        return DepthPoseResult(frame.stamp_ns, ego_motion=ego, pose=self._pose(frame.stamp_ns),
                               prev_to_cur=plane_homography(step, camera),
                               status=f"{step.motion.value}, {step.inliers} points, {step.residual_px:.2f} px, unit scale")

    def _unusable(self, frame: Frame) -> str | None:
        """Why this frame cannot be used, or None. Restarts the run where the stream itself has changed."""
        camera = frame.camera
        if camera is None:
            return "no intrinsics: depth and motion are unknown; give a calibration (camera_info)"
        known = self._camera
        if known is None or known.width_px != camera.width_px or known.height_px != camera.height_px \
                or not np.array_equal(known.K, camera.K):
            if known is not None:
                self._restart()
            self._camera = camera
        last = self._last_ns
        if last is not None and frame.stamp_ns <= last:
            self._backwards += 1
            if frame.stamp_ns < last and self._backwards >= 3:  # not a straggler: the clock or the bag began anew
                self._restart()
            else:
                return f"stamp {frame.stamp_ns} ns is not after {last} ns: frame left out"
        self._backwards = 0
        (_,), (spread,) = cv2.meanStdDev(cv2.resize(frame.image, (64, 48), interpolation=cv2.INTER_AREA)[:, :, 1])
        if float(spread[0]) < self._config.blank_std:
            return f"blank image (spread {float(spread[0]):.1f} grey levels): nothing to measure"
        if last is not None and self._last_ns is not None and frame.stamp_ns - last > self._config.gap_max_s * 1e9:
            self._restart()
        return None

    def _restart(self) -> None:
        self._odometry.reset()
        self._last_ns = None
        self._resets += 1
        self._pose_covariance = self._pose_covariance + np.eye(6)

    def _integrate(self, ego: EgoMotion) -> None:
        prev_from_cur = se3_inverse(ego.to_from)
        if ego.covariance is not None:
            turn = np.zeros((6, 6))
            turn[:3, :3] = turn[3:, 3:] = self._mount[:3, :3] @ self._odom_from_camera[:3, :3]
            self._pose_covariance = self._pose_covariance + turn @ ego.covariance @ turn.T
        self._odom_from_camera = self._odom_from_camera @ prev_from_cur

    def _pose(self, stamp_ns: int) -> Pose:
        base = self._mount @ self._odom_from_camera @ se3_inverse(self._mount)
        return Pose(stamp_ns, "odom", "base_link", base[:3, 3], quaternion_from_matrix(base[:3, :3]),
                    self._pose_covariance.copy(), self._resets, Scale.UNIT)


def plane_homography(step: Step, camera: CameraModel) -> F64 | None:
    """(3, 3) previous pixels to current pixels when one plane explains most tracks, else None."""
    if len(step.cur_xy) < 12:
        return None
    focal = float(camera.K[0, 0])
    found, mask = cv2.findHomography(step.prev_xy, step.cur_xy, cv2.RANSAC, 1.5 / focal, maxIters=200, confidence=0.99)
    if found is None or float(mask.mean()) < 0.5:
        return None
    return np.asarray(camera.K @ found @ np.linalg.inv(camera.K))


def make_depth_pose(config: DepthPoseConfig) -> DepthPose:
    """The stage for one camera. Raises ModelError when a named model cannot be loaded."""
    return DepthPose(config)
