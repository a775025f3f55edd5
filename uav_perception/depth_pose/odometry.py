"""Visual odometry: feature tracks in, camera motion and sparse points out, in the unit of this run.

Keyframes are taken when the view has changed enough; the keyframes and the newest frame are adjusted together with
their points after every frame. Nothing here knows metres: the unit is the median depth of the first points.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import nearest_rotation, se3, se3_inverse
from ..records import F32, F64, U8, CameraModel
from .bootstrap import View, first_structure, locate, shared
from .bundle import Solution, Window, solve, transform_points
from .features import I64, FeatureTracks
from .two_view import Motion, fit_rotation, rotate_xy

PX_PER_CORNER = 200  # small pictures hold fewer distinct corners


@dataclass(frozen=True)
class Step:
    """What one frame brought.

    Attributes:
        cur_from_prev: (4, 4) in run units, None when nothing could be said.
        world_from_cur: (4, 4) in run units; world is the first frame after a reset.
        covariance: (6, 6) of ``cur_from_prev``, translation then rotation vector.
        prev_xy, cur_xy: (N, 2) normalised coordinates of inlier tracks.
        rho, rho_sigma: (N,) their inverse depths in the current frame (0 = unknown) and standard deviations.
        residual_px: median disagreement of tracks and points.
        message: why something is missing, empty when nothing is.
        revision: (4, 4) old from corrected pose of the previous frame, run units, when the past was reinterpreted.
    """

    motion: Motion
    cur_from_prev: F64 | None
    world_from_cur: F64
    covariance: F64
    inliers: int
    prev_xy: F64
    cur_xy: F64
    rho: F64
    rho_sigma: F64
    ids: I64
    residual_px: float
    message: str = ""
    revision: F64 | None = None


@dataclass
class Odometry:
    """Keyframe odometry of one camera: ``update`` for every good frame, ``reset`` forgets all but the world pose."""

    features: int = 500
    window: int = 6
    iterations: int = 3
    keyframe_px: float = 12.0
    still_px: float = 0.15
    sigma_px: float = 0.35
    start_px: float = 3.0
    up: F64 | None = None  # expected vertical in the camera frame (3,), None = unknown
    world_from_ref: F64 = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        self.tracks = FeatureTracks(self.features)
        self.generation = 0  # how often tracks and points have begun anew
        self.views: list[View] = []  # keyframes, oldest first; views[0] is the reference frame
        self.newest: View | None = None  # the previous frame (may be no keyframe)
        self.points: dict[int, F64] = {}  # id -> (a, b, rho) in the reference frame
        self.rho_sigma: dict[int, float] = {}  # id -> standard deviation of rho
        self.guess: dict[int, float] = {}  # id -> rho a dense depth suggested in the newest keyframe
        self.unit = 1.0  # median depth while nothing better is known
        self.waiting: list[View] = []  # frames since the first while there is no depth yet
        self.started = False  # has the window a depth structure of its own?
        self.velocity = np.eye(4)

    def reset(self) -> None:
        """Begin a new window at the last known pose."""
        self.generation += 1
        if self.newest is not None:
            self.world_from_ref = self.world_from_ref @ se3_inverse(se3(self.newest.rotation, self.newest.translation))
        self.tracks.reset()
        self.views, self.newest, self.points, self.started = [], None, {}, False
        self.rho_sigma, self.guess, self.waiting = {}, {}, []
        self.world_from_ref[:3, :3] = nearest_rotation(self.world_from_ref[:3, :3])
        self.velocity = np.eye(4)

    def median_depth(self) -> float:
        """Median depth of the points in run units, as seen from the window's first camera."""
        depth = [p[2] for p in self.points.values() if p[2] > 1e-6]
        return 1.0 / float(np.median(depth)) if len(depth) >= 12 else self.unit

    def world_from_cur(self) -> F64:
        if self.newest is None:
            return self.world_from_ref
        return self.world_from_ref @ se3_inverse(se3(self.newest.rotation, self.newest.translation))

    def update(self, gray: U8, camera: CameraModel) -> Step:
        """Use one image (H, W); ``camera`` is its intrinsics."""
        focal = float(np.sqrt(camera.K[0, 0] * camera.K[1, 1]))
        self.tracks.count = min(self.features, gray.size // PX_PER_CORNER)
        self.tracks.advance(gray)
        xy = undistort(self.tracks.px, camera)
        ids = self.tracks.ids
        if self.newest is None:
            self.newest = View(np.eye(3), np.zeros(3), ids, xy)
            self._make_keyframe(camera)
            return self._nothing(Motion.UNKNOWN, "first frame")
        old = self.newest
        _, io, ic = np.intersect1d(old.ids, ids, assume_unique=True, return_indices=True)
        prev_xy, cur_xy, common = old.xy[io], xy[ic], ids[ic]
        if len(common) < 15:
            return self._nothing(Motion.UNKNOWN, f"lost: only {len(common)} corners could be followed")
        step = float(np.median(np.linalg.norm(cur_xy - prev_xy, axis=1))) * focal
        rotation = fit_rotation(prev_xy, cur_xy)
        revision = None
        if not self.started:
            turn, before = self._rotation_since_first(common, cur_xy), self.world_from_cur()
            self._try_start(View(turn, np.zeros(3), common, cur_xy), focal)
            if not self.started:
                return self._only_rotation(old, View(turn, np.zeros(3), common, cur_xy), prev_xy, step, camera, focal)
            revision = se3_inverse(before) @ self.world_from_cur()
        guess_r, guess_t = rotation @ old.rotation, rotation @ old.translation
        predicted = self.velocity @ se3(old.rotation, old.translation)
        starts = [(predicted[:3, :3], predicted[:3, 3]), (guess_r, guess_t)]
        guess_r, guess_t = self._locate(starts, common, cur_xy, focal)
        current = View(guess_r, guess_t, common, cur_xy)
        solution = self._adjust(current, focal)
        if len(current.ids) < max(15, 0.25 * len(common)):  # what explains so little is no motion
            return self._nothing(Motion.UNKNOWN, f"lost: {len(current.ids)} of {len(common)} corners agree on a motion")
        cur_from_prev = se3(nearest_rotation(current.rotation), current.translation) @ se3_inverse(
            se3(old.rotation, old.translation))
        cur_from_prev[:3, :3] = nearest_rotation(cur_from_prev[:3, :3])
        self.velocity = cur_from_prev
        kind = Motion.STILL if step < self.still_px else Motion.GENERAL
        keep = np.isin(common, current.ids)
        sigmas = np.array([self.rho_sigma.get(int(i), np.inf) for i in current.ids])
        used = (prev_xy[keep], current.xy, self._rho_in(current), sigmas, current.ids)
        inliers = len(current.ids)
        self.newest = current
        self.tracks.keep(np.isin(self.tracks.ids, current.ids))
        if self._wants_keyframe(current, focal):
            self._make_keyframe(camera)
        residual = float(np.median(solution.residual)) * self.sigma_px if len(solution.residual) else 0.0
        return Step(kind, cur_from_prev, self.world_from_cur(), solution.covariance, inliers, *used, residual,
                    revision=revision)

    def _rotation_since_first(self, ids: I64, xy: F64) -> F64:
        first = self.views[0]
        _, i, j = np.intersect1d(first.ids, ids, assume_unique=True, return_indices=True)
        return fit_rotation(first.xy[i], xy[j]) if len(i) >= 8 else np.eye(3)

    def _only_rotation(self, old: View, current: View, prev_xy: F64, step_px: float, camera: CameraModel, focal: float
                       ) -> Step:
        """No depth yet: the parallax since the first frame is too small to tell a translation. Say zero, how unsure."""
        first = self.views[0]
        pair = shared(first, current)
        left = 1e-3
        if pair is not None:
            left = float(np.median(np.linalg.norm(pair[1] - rotate_xy(pair[0], current.rotation), axis=1)))
        translation_sigma = max(left, self.sigma_px / focal) * self.unit
        covariance = np.diag([translation_sigma**2] * 3 + [(self.sigma_px / focal) ** 2] * 3)
        cur_from_prev = se3(nearest_rotation(current.rotation @ old.rotation.T), np.zeros(3))
        self.velocity, self.newest = cur_from_prev, current
        n = len(current.ids)
        kind = Motion.STILL if step_px < self.still_px else Motion.ROTATION
        if pair is None or len(pair[2]) < 0.4 * self.tracks.count:
            self.world_from_ref = self.world_from_ref @ se3_inverse(se3(current.rotation, np.zeros(3)))
            current.rotation = np.eye(3)
            self.views, self.waiting = [], []
            self._make_keyframe(camera)
        return Step(kind, cur_from_prev, self.world_from_cur(), covariance, n, prev_xy, current.xy[:n], np.zeros(n),
                    np.full(n, np.inf), current.ids[:n], 0.0, "too little parallax for depth: rotation alone")

    def _nothing(self, motion: Motion, message: str) -> Step:
        none = np.zeros((0, 2))
        return Step(motion, None, self.world_from_cur(), np.eye(6) * 1e6, 0, none, none, np.zeros(0), np.zeros(0),
                    np.zeros(0, np.int64), 0.0, message)

    def _rho_in(self, view: View) -> F64:
        known = np.array([self.points.get(int(i), np.zeros(3)) for i in view.ids]).reshape(-1, 3)
        return transform_points(known, view.rotation, view.translation)[:, 2] if len(known) else np.zeros(0)

    def _locate(self, starts: list[tuple[F64, F64]], ids: I64, xy: F64, focal: float) -> tuple[F64, F64]:
        """Pose of the newest camera against fixed points: robust Gauss-Newton, eight rounds."""
        have = np.array([self._firm(int(i)) for i in ids])
        if have.sum() < 30:
            have = np.array([int(i) in self.points for i in ids])
        if have.sum() < 10:
            return starts[0]
        points = np.array([self.points[int(i)] for i in ids[have]])
        best: tuple[float, F64, F64] | None = None
        for r, t in starts:
            w = Window(np.stack([np.eye(3), r]), np.stack([np.zeros(3), t]), points, np.ones(len(points), np.int64),
                       np.arange(len(points)), xy[have], np.full(len(points), self.sigma_px / focal))
            cost = locate(w)
            if best is None or cost < best[0]:
                best = (cost, w.rotation[1], w.translation[1])
            if cost < 2.0 * self.sigma_px / focal:
                break
        assert best is not None
        return best[1], best[2]

    def _try_start(self, current: View, focal: float) -> None:
        """Give the window its first depths, once the view has changed enough."""
        found = first_structure(self.views[0], self.waiting, current, focal, self.sigma_px, self.start_px,
                                self.up)
        if found is None:
            self.waiting = [*self.waiting[-5:], View(current.rotation, current.translation, current.ids, current.xy)]
            return
        ids, points = found
        points[:, 2] /= float(np.median(points[:, 2])) * self.unit
        self.points = dict(zip(ids.tolist(), points, strict=True))
        self.started, self.waiting = True, []
        if self.newest is not None:
            old = self.newest
            old.rotation, old.translation = self._locate([(old.rotation, old.translation)], old.ids, old.xy, focal)

    def _wait(self, current: View) -> None:
        self.waiting = [*self.waiting[-5:], View(current.rotation, current.translation, current.ids, current.xy)]

    def _adjust(self, current: View, focal: float) -> Solution:
        views = [*self.views, current]
        ids = np.unique(np.concatenate([v.ids for v in views]))
        seen = np.zeros(len(ids), int)
        for v in views:
            seen[np.searchsorted(ids, v.ids)] += 1
        alive = np.isin(ids, current.ids)
        ids = ids[(seen >= 2) & (alive | (seen >= 3))]
        points = np.empty((len(ids), 3))
        depth = [p[2] for p in self.points.values()]
        default = float(np.median(depth)) if depth else 1.0 / self.unit
        for k, i in enumerate(ids):
            p = self.points.get(int(i))
            points[k] = self._new_point(int(i), views, default) if p is None else p
        cam, pt, xy, sigma = [], [], [], []
        for j, v in enumerate(views):
            here = np.isin(v.ids, ids)
            cam.append(np.full(int(here.sum()), j))
            pt.append(np.searchsorted(ids, v.ids[here]))
            xy.append(v.xy[here])
            sigma.append(np.full(int(here.sum()), v.sigma_px / focal))
        w = Window(np.stack([v.rotation for v in views]), np.stack([v.translation for v in views]), points,
                   np.concatenate(cam), np.concatenate(pt), np.concatenate(xy), np.concatenate(sigma))
        before = points[:, 2].copy()
        known = np.array([int(i) in self.points for i in ids], bool)
        solution = solve(w, self.iterations)
        # the window's size is free: keep that of the points whose depth was and is well known
        firm = known & (solution.rho_sigma < 0.1 * w.points[:, 2]) & (before > 1e-6)
        if firm.sum() >= 10:
            ratio = float(np.median(before[firm] / w.points[firm, 2]))
            w.points[:, 2] *= ratio
            w.translation /= ratio
        for v, r, t in zip(views, w.rotation, w.translation, strict=True):
            v.rotation, v.translation = r, t
        for j, v in enumerate(views):
            mine = solution.residual[w.camera == j]
            if len(mine):
                v.sigma_px = max(self.sigma_px, 1.2 * v.sigma_px * float(np.median(mine)))
        worst = np.zeros(len(ids))
        np.maximum.at(worst, w.point, solution.residual)
        full = len(views) > self.window // 2  # a young window is not yet sure of itself
        limit = float(np.clip(5.0 * np.median(solution.residual), 4.0, 8.0)) if full else 8.0
        good = (worst < limit) & (w.points[:, 2] > -0.05 * default)
        for i, p, ok in zip(ids, w.points, good, strict=True):
            if ok:
                self.points[int(i)] = p

            else:
                self.points.pop(int(i), None)
        bad = ids[~good]
        self.rho_sigma = dict(zip(ids[good].tolist(), solution.rho_sigma[good].tolist(), strict=True))
        for v in views:
            ok = ~np.isin(v.ids, bad)
            v.ids, v.xy = v.ids[ok], v.xy[ok]
        return solution

    def _firm(self, track: int) -> bool:
        point = self.points.get(track)
        return point is not None and self.rho_sigma.get(track, np.inf) < 0.2 * point[2]

    def suggest(self, inverse_depth: F32) -> None:
        """Dense inverse depth (h, w) of the newest frame, run units: a first guess for points without depth."""
        if self.newest is None or not self.views or self.newest is not self.views[-1] or self.tracks.shape is None:
            return
        h, w = inverse_depth.shape
        height, width = self.tracks.shape
        x = np.clip((self.tracks.px[:, 0] * w / width).astype(int), 0, w - 1)
        y = np.clip((self.tracks.px[:, 1] * h / height).astype(int), 0, h - 1)
        self.guess = dict(zip(self.tracks.ids.tolist(), inverse_depth[y, x].tolist(), strict=True))

    def _new_point(self, track: int, views: list[View], default: float) -> F64:
        """First guess of a point: bearing of its first sighting, depth of its neighbours."""
        for v in views:
            k = np.searchsorted(v.ids, track)
            if k < len(v.ids) and v.ids[k] == track:
                inverse = se3_inverse(se3(v.rotation, v.translation))
                rho = self.guess.get(track, default) if v is views[-2] else default
                here = np.array([[v.xy[k, 0], v.xy[k, 1], rho]])
                return np.asarray(transform_points(here, inverse[:3, :3], inverse[:3, 3])[0])
        raise KeyError(track)

    def _wants_keyframe(self, current: View, focal: float) -> bool:
        last = self.views[-1]
        _, i0, i1 = np.intersect1d(last.ids, current.ids, assume_unique=True, return_indices=True)
        if len(i0) < 0.6 * self.tracks.count:
            return True
        moved = current.xy[i1] - rotate_xy(last.xy[i0], current.rotation @ last.rotation.T)
        return float(np.median(np.linalg.norm(moved, axis=1))) * focal > self.keyframe_px

    def _make_keyframe(self, camera: CameraModel) -> None:
        assert self.newest is not None
        self.tracks.replenish()
        v = self.newest
        v.ids, v.xy = self.tracks.ids.copy(), undistort(self.tracks.px, camera)
        self.views.append(v)
        if len(self.views) > self.window:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.views.pop(0)
        first = self.views[0]
        base = se3(first.rotation, first.translation)
        self.world_from_ref = self.world_from_ref @ se3_inverse(base)
        ids = np.array(sorted(self.points), np.int64)
        moved = transform_points(np.array([self.points[int(i)] for i in ids]).reshape(-1, 3), base[:3, :3], base[:3, 3])
        wanted = set(np.concatenate([v.ids for v in self.views]).tolist())
        self.points = {int(i): p for i, p in zip(ids, moved, strict=True) if int(i) in wanted}
        inverse = se3_inverse(base)
        for v in self.views:
            m = se3(v.rotation, v.translation) @ inverse
            v.rotation, v.translation = m[:3, :3], m[:3, 3]


def undistort(px: NDArray[np.float32], camera: CameraModel) -> F64:
    """Normalised coordinates (N, 2) of pixels (N, 2), lens distortion removed."""
    if not len(px):
        return np.zeros((0, 2))
    if not camera.distortion.any():
        k = camera.K
        return np.asarray((px.astype(np.float64) - [k[0, 2], k[1, 2]]) / [k[0, 0], k[1, 1]])
    points = px.reshape(-1, 1, 2).astype(np.float64)
    fisheye = camera.distortion_model in ("equidistant", "fisheye")
    how = cv2.fisheye.undistortPoints if fisheye else cv2.undistortPoints
    return np.array(how(points, camera.K, camera.distortion), np.float64).reshape(-1, 2)
