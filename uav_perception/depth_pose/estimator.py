"""The depth/pose stage: one frame in; depth, motion, pose and products out, each only when it is known.

Order of one frame: usable? -> odometry -> dense depth -> scale -> pose -> products. A frame that cannot be used leaves
the state as it was and says why; a run that cannot be continued starts anew with a higher ``reset_counter``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..config import DepthPoseConfig
from ..engine import Engine, EngineInfo
from ..engine.own import own_engine
from ..engine.select import open_engine
from ..geometry import BODY_FROM_OPTICAL, backproject, se3, se3_exp, so3_exp
from ..records import (
    F32,
    F64,
    U8,
    Bool,
    CameraModel,
    DepthMap,
    DepthPoseResult,
    Frame,
    RelativeDepth,
    Track,
)
from .dense import DepthNetwork, PoseNetwork, resized, supported
from .fusion import drawn_shape, fuse, laid_on_level
from .motion_mask import MaskNetwork, MotionMask
from .odometry import Odometry
from .parallax import Parallax
from .path import Path
from .photometric import align
from .products import at_most, level_plane, rigid_flow
from .scale import MetricScale, Plane, fit_ground
from .scene_flow import SceneFlow
from .structure import Step, measured_points
from .terrain import Terrain
from .two_view import Motion


def base_from_optical(config: DepthPoseConfig) -> F64:
    """(4, 4) mounting of the camera: ``camera_pitch_deg`` below the body's forward axis, offset in metres (FLU)."""
    tilt = so3_exp([0.0, np.radians(config.camera_pitch_deg), 0.0])
    return se3(tilt @ BODY_FROM_OPTICAL, np.asarray(config.camera_position_m))


class DepthPose:
    """Implements :class:`~uav_perception.depth_pose.DepthPoseEstimator` for one camera."""

    def __init__(self, config: DepthPoseConfig, depth_net: DepthNetwork | None = None,
                 pose_net: PoseNetwork | None = None, mask_net: MaskNetwork | None = None) -> None:
        self.config = config
        self.mount = base_from_optical(config)
        self._depth_net, self._pose_net = depth_net, pose_net
        self._up = self.mount[:3, :3].T @ np.array([0.0, 0.0, 1.0])
        self.odometry = Odometry(features=config.features, window=config.window, keyframe_px=config.keyframe_px,
                                 up=self._up if config.expect_level else None)
        self.scale = MetricScale(hold_s=config.scale_hold_s, nav_motion_min_m=config.nav_motion_min_m)
        self._terrain = Terrain()
        self.mask = MotionMask(config.motion_contrast, mask_net)
        self._moving: Bool | None = None  # the newest mask
        self._parallax = Parallax()
        self.wants_mask, self.wants_flow, self.wants_parallax = config.motion_mask, config.flow, config.parallax
        self._worker = ThreadPoolExecutor(1, "depth")  # the one thread that runs the depth network
        self._camera: CameraModel | None = None
        self._last_ns: int | None = None  # stamp of the last frame that was used
        self._backwards = 0
        self._previous: tuple[U8, U8, F32 | None] | None = None  # image, grey, its depth in run units
        self._path = Path(self.mount)
        self.last_step: Step | None = None  # of the last usable frame, for what works on whole recordings
        self.last_disparity: F32 | None = None
        self.last_grey: U8 | None = None  # its picture, of the size that depth has
        self.last_ground: F64 | None = None  # (3,) that the depth of the last frame was drawn on, see `fuse`
        self.scene_flow = SceneFlow()

    @property
    def resets(self) -> int:
        """How often what was said before ceased to be comparable."""
        return self._path.resets

    @property
    def engine_info(self) -> EngineInfo:
        """Which network runs and why; backend ``none`` when depth is interpolated from points alone."""
        if self._depth_net is None:
            return EngineInfo("geometry", "none", "fp32", "no depth network: sparse points are interpolated")
        return self._depth_net.engine.info

    def update(self, frame: Frame, height_agl_m: float | None = None, nav_position_m: ArrayLike | None = None,
               tracks: Sequence[Track] = ()) -> DepthPoseResult:
        """Use one frame; never raises on a bad one (see the protocol)."""
        refusal = self._unusable(frame)
        if refusal is not None:
            return DepthPoseResult(frame.stamp_ns, status=refusal)
        camera = frame.camera
        assert camera is not None
        from_ns, self._last_ns = self._last_ns, frame.stamp_ns
        small_camera = at_most(camera, self.config.product_width_px)
        gray = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY), np.uint8)
        ahead = None if self._depth_net is None else self._worker.submit(self._depth_net.disparity, frame.image)
        step = self.odometry.update(gray, camera)  # beside the network
        disparity = None if ahead is None else ahead.result()
        if step.cur_from_prev is None and from_ns is not None:
            step = self._carry(step, frame.image, gray, camera, small_camera)
        self.last_step = step
        self._follow(step)
        ground = self.ground_below(step.cur_xy, step.rho, step.rho_sigma, height_agl_m)
        depth_run, depth_valid = self._dense(disparity, step, ground, camera, small_camera)
        if depth_run is not None:
            self.odometry.suggest(1.0 / depth_run)
        jumped = self._update_scale(frame.stamp_ns, height_agl_m, nav_position_m, step, ground)
        ego = self._path.follow(step, from_ns, frame.stamp_ns, self.scale)
        if jumped:
            self._path.jumped()
        self.last_grey, shown = resized(gray, small_camera.width_px, small_camera.height_px), depth_run
        if depth_run is not None and self.wants_parallax:  # for others: the mask would miss what it has made to fit
            shown = self._parallax(frame.stamp_ns, self.last_grey, depth_run, small_camera, self.last_ground,
                                   self._moving)
        depth = _depth_record(frame.stamp_ns, shown, depth_valid, self.scale.metres_per_unit, small_camera)
        pose = self._path.pose(frame.stamp_ns, self.scale.state)
        result = DepthPoseResult(frame.stamp_ns, depth=depth, ego_motion=ego, pose=pose,
                                 prev_to_cur=step.plane_homography(camera), status=self._status(step, jumped))
        result = self._add_products(result, step, frame.image, depth_run, small_camera, camera, tracks, from_ns)
        self.odometry.leave_out(self._moving)
        self._parallax.past.keep(frame.stamp_ns, (self.last_grey, self._moving))
        self._previous = (frame.image, gray, depth_run)
        return result

    # -- usable? ---------------------------------------------------------------------------------------------------

    def _unusable(self, frame: Frame) -> str | None:
        """Why this frame cannot be used, or None. Restarts the run where the stream itself has changed."""
        camera = frame.camera
        if camera is None:
            return "no intrinsics: depth and motion are unknown; give a calibration (camera_info)"
        last = self._last_ns
        if last is not None and frame.stamp_ns <= last:
            self._backwards += 1
            if frame.stamp_ns == last or self._backwards < 3:  # a straggler; three in a row are a clock that began anew
                return f"stamp {frame.stamp_ns} ns is not after {last} ns: frame left out"
            self._restart()
        self._backwards = 0
        (_,), (spread,) = cv2.meanStdDev(cv2.resize(frame.image, (64, 48), interpolation=cv2.INTER_AREA)[:, :, 1])
        if float(spread[0]) < self.config.blank_std:
            return f"blank image (spread {float(spread[0]):.1f} grey levels): nothing to measure"
        known = self._camera
        if known is not None and ((known.width_px, known.height_px) != (camera.width_px, camera.height_px)
                                  or not np.array_equal(known.K, camera.K)):
            self._restart()
        self._camera = camera
        if self._last_ns is not None and frame.stamp_ns - self._last_ns > self.config.gap_max_s * 1e9:
            self._restart()
        return None

    def _restart(self) -> None:
        self.odometry.reset()
        self.scale.reset()
        self.mask.reset()
        self._parallax.past.reset()
        self._terrain.reset()
        self._last_ns, self._previous, self._moving = None, None, None
        self.scene_flow.reset()
        self._path.lost()

    # -- motion ----------------------------------------------------------------------------------------------------

    def _carry(self, lost: Step, image: U8, gray: U8, camera: CameraModel, small: CameraModel) -> Step:
        """The corners are lost: begin a new window, and bridge the gap by direct alignment if that succeeds."""
        previous, unit, velocity = self._previous, self.odometry.median_depth(), self.odometry.velocity
        self.odometry.reset()
        fresh = self.odometry.update(gray, camera)
        aligned = None
        if previous is not None and previous[2] is not None:
            guesses = [velocity]
            if self._pose_net is not None:
                twist = self._pose_net.motion(previous[0], image)
                guesses.append(se3_exp(np.concatenate([twist[:3] * unit, twist[3:]])))
            before, now = (resized(grey, small.width_px, small.height_px) for grey in (previous[1], gray))
            found = [align(before, now, previous[2], small.K, guess) for guess in guesses]
            aligned = max((a for a in found if a is not None), key=lambda a: a.agreement, default=None)
        if aligned is None or aligned.agreement < 0.5:
            self.scale.reset()
            self._path.lost()
            return replace(fresh, message=f"{lost.message}; run starts anew")
        self.odometry.unit = unit
        return replace(fresh, motion=Motion.GENERAL, cur_from_prev=aligned.cur_from_prev,
                       covariance=10 * aligned.covariance, message=f"{lost.message}; motion from direct alignment")

    def _follow(self, step: Step) -> None:
        """Earlier pictures, and ground, are seen from where the camera is now, or forgotten where that is not known."""
        if step.cur_from_prev is None or step.revision is not None:
            self._terrain.reset()
        for past in (self.mask, self._parallax.past):
            if step.cur_from_prev is None or step.revision is not None:
                past.reset()
            else:
                past.move(step.cur_from_prev)

    # -- depth and scale -------------------------------------------------------------------------------------------

    def ground_below(self, xy: F64, rho: F64, sigma: F64, height_agl_m: float | None) -> Plane | None:
        """The ground, in run units, where points that are known well lie on it: ``xy`` (N, 2) normalised, inverse depth
        ``rho`` (N,), 0 = unknown, and its standard deviation ``sigma`` (N,). None where neither a height nor the
        mounting is known, for then nothing uses it."""
        if height_agl_m is None and not self.config.expect_level:
            return None
        known = (rho > 0) & (sigma < 0.15 * rho)
        points = backproject(xy[known], 1 / rho[known], np.eye(3))
        return fit_ground(points, self._up, tilt_max_rad=np.radians(self.config.ground_tilt_max_deg))

    def told(self, ground: Plane | None, camera: CameraModel) -> F64 | None:
        """(3,) inverse depth of the ground, see `fuse`; None where it, or the mounting, is not known."""
        return None if ground is None or not self.config.expect_level else ground.inverse_depth(camera)

    def _dense(self, looked: F32 | None, step: Step, ground: Plane | None, camera: CameraModel, small: CameraModel
               ) -> tuple[F32 | None, Bool | None]:
        """Depth (h, w) of this frame in run units and where it is supported."""
        uv, rho, sigma = measured_points(step.cur_xy, step.rho, step.rho_sigma, camera)
        self.last_disparity, self.last_ground = looked, self.told(ground, camera)
        if len(rho) >= 12:
            inverse = fuse(looked, uv, rho, sigma, shape=drawn_shape(camera), ground=self.last_ground,
                           moving=self._moving, reach=self.config.fuse_reach)
        elif looked is None:
            return None, None
        else:
            level = level_plane(small, self._up) if self.config.expect_level else None
            inverse = looked if level is None else laid_on_level(looked, level)
            inverse = inverse / float(np.median(inverse)) / self.odometry.median_depth()
        sized = cv2.resize(inverse, (small.width_px, small.height_px), interpolation=cv2.INTER_LINEAR)
        depth = np.asarray(1.0 / np.asarray(sized), np.float32)
        if looked is not None:
            return depth, np.ones(depth.shape, bool)
        return depth, supported(uv, small.width_px, small.height_px)

    def _update_scale(self, stamp_ns: int, height_agl_m: float | None, nav_position_m: ArrayLike | None, step: Step,
                      ground: Plane | None) -> bool:
        before = self.scale.metres_per_unit
        if step.cur_from_prev is not None:
            height = None
            if ground is not None:
                self._terrain.add(step.ids, step.cur_xy, step.rho, step.rho_sigma, ground, step.world_from_cur)
                height = self._terrain.height(ground, step.world_from_cur)
            self.scale.add_height(stamp_ns, height_agl_m, height)
        if self.odometry.started:  # before, the run has no translation to compare
            self.scale.add_navigation(stamp_ns, nav_position_m, step.world_from_cur[:3, 3])
        jumped = self.scale.settle(stamp_ns)
        after = self.scale.metres_per_unit
        if (before is None) != (after is None):  # the pose changes its unit: carry the path over
            self._path.change_unit(after if after is not None else 1.0 / (before or 1.0))
        return jumped

    def _status(self, step: Step, jumped: bool) -> str:
        if step.message:
            return step.message
        factor = self.scale.metres_per_unit
        scale = "unit scale" if factor is None else f"metric ({factor:.4g} m a unit)"
        jump = ", scale changed" if jumped else ""
        return f"{step.motion.value}, {step.inliers} points, {step.residual_px:.2f} px, {scale}{jump}"

    # -- products --------------------------------------------------------------------------------------------------

    def _add_products(self, result: DepthPoseResult, step: Step, image: U8, depth_run: F32 | None, small: CameraModel,
                      camera: CameraModel, tracks: Sequence[Track], from_ns: int | None) -> DepthPoseResult:
        self._moving = None  # that was the frame before's
        if step.cur_from_prev is None or depth_run is None or self._previous is None or from_ns is None:
            return result
        flow = None
        if self.wants_flow and result.depth is not None and result.ego_motion is not None:  # of one unit
            flow = rigid_flow(result.depth.depth, small, result.ego_motion.to_from)
        size_px = (camera.width_px, camera.height_px)
        mask = None
        if self.wants_mask:
            view = at_most(camera, self.config.mask_width_px) if self.mask.asks_network else small
            depth = np.asarray(cv2.resize(depth_run, (view.width_px, view.height_px)), np.float32)
            mask = self.mask(result.stamp_ns, resized(image, view.width_px, view.height_px), depth, view, size_px)
        self._moving = mask
        velocities: dict[int, F64] = {}
        if isinstance(result.depth, DepthMap) and result.ego_motion is not None:
            velocities = self.scene_flow(result.depth, result.ego_motion, camera, tracks)
        else:
            self.scene_flow.reset()
        return replace(result, flow_px=flow, motion_mask=mask, scene_flow_m_s=velocities)


def _depth_record(stamp_ns: int, depth: F32 | None, valid: Bool | None, factor: float | None, camera: CameraModel
                  ) -> DepthMap | RelativeDepth | None:
    if depth is None or valid is None:
        return None
    if factor is None:
        return RelativeDepth(stamp_ns, depth, valid, camera)
    return DepthMap(stamp_ns, depth * np.float32(factor), valid, camera)


def make_depth_pose(config: DepthPoseConfig) -> DepthPose:
    """The stage for one camera. Raises ModelError when a named model cannot be loaded."""
    depth = _opened("uav_depth", config.depth_model, config)
    pose = _opened("uav_pose", config.pose_model, config)
    mask = _opened("uav_mask", config.mask_model, config) if config.motion_mask else None
    return DepthPose(config, DepthNetwork(depth) if depth else None, PoseNetwork(pose) if pose else None,
                     MaskNetwork(mask) if mask else None)


def _opened(own: str, asked: str, config: DepthPoseConfig) -> Engine | None:
    """The network ``asked`` for, or the package's ``own`` where none is named; None: there is none, or `none` asked."""
    path = asked or own_engine(own)
    return None if path is None or asked == "none" else open_engine(path, threads=config.threads)
