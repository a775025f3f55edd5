"""Visual odometry: feature tracks in, camera motion and sparse points out, in the unit of this run.

Keyframes are taken when the view has changed enough; the keyframes and the newest frame are adjusted together with
their points after every frame. Nothing here knows metres: the unit is the median depth of the first points.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..geometry import nearest_rotation, se3, se3_inverse
from ..records import F32, F64, U8, Bool, CameraModel
from .bootstrap import View, first_structure, locate, shared
from .bundle import Solution, Window, solve, transform_points
from .features import I64, FeatureTracks, lookup
from .motion_mask import grown
from .structure import Points, Step
from .two_view import Motion, fit_rotation, rotate_xy, undistort

PX_PER_CORNER = 200  # small pictures hold fewer distinct corners
MOVING_MAX = 0.1  # share of the picture, and of the corners: where more is said to move, that is not believed


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
        self.points = Points()
        self.guess: tuple[I64, F64] = (np.zeros(0, np.int64), np.zeros(0))  # rho a dense depth suggests, by id
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
        self.views, self.newest, self.points, self.started = [], None, Points(), False
        self.guess, self.waiting = (np.zeros(0, np.int64), np.zeros(0)), []
        self.world_from_ref[:3, :3] = nearest_rotation(self.world_from_ref[:3, :3])
        self.velocity = np.eye(4)

    def median_depth(self) -> float:
        """Median depth of the points in run units, as seen from the window's first camera."""
        rho = self.points.abr[:, 2]
        rho = rho[rho > 1e-6]
        return 1.0 / float(np.median(rho)) if len(rho) >= 12 else self.unit

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
        at, there = lookup(old.ids, ids)
        prev_xy, cur_xy, common = old.xy[at[there]], xy[there], ids[there]
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
        keep = lookup(current.ids, common)[1]
        used = (prev_xy[keep], current.xy, *self._rho_in(current), current.ids)
        inliers = len(current.ids)
        self.newest = current
        self.tracks.keep(lookup(current.ids, self.tracks.ids)[1])
        if self._wants_keyframe(current, focal):
            self._make_keyframe(camera)
        residual = float(np.median(solution.residual)) * self.sigma_px if len(solution.residual) else 0.0
        return Step(kind, cur_from_prev, self.world_from_cur(), solution.covariance, inliers, *used, residual,
                    revision=revision)

    def _rotation_since_first(self, ids: I64, xy: F64) -> F64:
        first = self.views[0]
        at, there = lookup(first.ids, ids)
        return fit_rotation(first.xy[at[there]], xy[there]) if there.sum() >= 8 else np.eye(3)

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

    def _rho_in(self, view: View) -> tuple[F64, F64]:
        """Inverse depths (N,) of the view's tracks there, 0 = unknown, and their standard deviations (N,)."""
        at, there = lookup(self.points.ids, view.ids)
        rho, sigma = np.zeros(len(there)), np.full(len(there), np.inf)
        at = at[there]
        rho[there] = transform_points(self.points.abr[at], view.rotation, view.translation)[:, 2]
        sigma[there] = self.points.sigma[at]
        return rho, sigma

    def _locate(self, starts: list[tuple[F64, F64]], ids: I64, xy: F64, focal: float) -> tuple[F64, F64]:
        """Pose of the newest camera against fixed points: robust Gauss-Newton, eight rounds."""
        at, have = lookup(self.points.ids, ids)
        if have.sum() < 10:
            return starts[0]
        firm = have & (self.points.sigma[at] < 0.2 * self.points.abr[at, 2])
        have = firm if firm.sum() >= 30 else have
        points = self.points.abr[at[have]]
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
        self.points = Points(ids, points, np.full(len(ids), np.inf))
        self.started, self.waiting = True, []
        if self.newest is not None:
            old = self.newest
            old.rotation, old.translation = self._locate([(old.rotation, old.translation)], old.ids, old.xy, focal)

    def _adjust(self, current: View, focal: float) -> Solution:
        views = [*self.views, current]
        ids, first, place, seen = np.unique(np.concatenate([v.ids for v in views]), return_index=True,
                                            return_inverse=True, return_counts=True)
        wanted = (seen >= 2) & (lookup(current.ids, ids)[1] | (seen >= 3))
        cam = np.repeat(np.arange(len(views)), [len(v.ids) for v in views])
        xy = np.concatenate([v.xy for v in views])
        rho = self.points.abr[:, 2]
        default = float(np.median(rho)) if len(rho) else 1.0 / self.unit
        ids, first = ids[wanted], first[wanted]
        at, known = lookup(self.points.ids, ids)
        points = np.empty((len(ids), 3))
        points[known] = self.points.abr[at[known]]
        points[~known] = self._new_points(ids[~known], cam[first[~known]], xy[first[~known]], views, default)
        used = wanted[place]
        cam, xy, pt = cam[used], xy[used], (np.cumsum(wanted) - 1)[place[used]]
        sigma = np.array([v.sigma_px for v in views])[cam] / focal
        w = Window(np.stack([v.rotation for v in views]), np.stack([v.translation for v in views]), points,
                   cam, pt, xy, sigma)
        before = points[:, 2].copy()
        settled = len(views) > 3 and known.mean() > 0.95  # nearly solved by the frame before: one step follows
        solution = solve(w, 1 if settled else self.iterations)
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
        bad = ids[~good]
        self.points = self.points.merged(ids[good], w.points[good], solution.rho_sigma[good], bad)
        for v in views:
            ok = ~lookup(bad, v.ids)[1]
            v.ids, v.xy = v.ids[ok], v.xy[ok]
        return solution

    def leave_out(self, moving: Bool | None) -> None:
        """What moves by itself bears no witness of the camera: forget the corners on or at the edge of ``moving``
        (H, W) in the newest image, and seek none there until told anew. None: nothing is known of it."""
        self.tracks.avoid = None
        if moving is None or moving.shape != self.tracks.shape or not len(self.tracks.ids):
            return
        around = grown(moving, max(1, moving.shape[1] // 200))
        x, y = np.floor(self.tracks.px.T).astype(int)
        on = around[np.clip(y, 0, around.shape[0] - 1), np.clip(x, 0, around.shape[1] - 1)]
        if max(on.mean(), around.mean()) > MOVING_MAX:
            return
        self.tracks.avoid = around
        ids = self.tracks.ids[on]
        self.tracks.keep(~on)
        for view in [*self.views, *([self.newest] if self.newest is not None else [])]:
            rests = ~lookup(ids, view.ids)[1]
            view.ids, view.xy = view.ids[rests], view.xy[rests]

    def suggest(self, inverse_depth: F32) -> None:
        """Dense inverse depth (h, w) of the newest frame, run units: a first guess for points without depth."""
        if self.newest is None or not self.views or self.newest is not self.views[-1] or self.tracks.shape is None:
            return
        h, w = inverse_depth.shape
        height, width = self.tracks.shape
        x = np.clip((self.tracks.px[:, 0] * w / width).astype(int), 0, w - 1)
        y = np.clip((self.tracks.px[:, 1] * h / height).astype(int), 0, h - 1)
        self.guess = (self.tracks.ids.copy(), inverse_depth[y, x].astype(np.float64))

    def _new_points(self, ids: I64, camera: I64, xy: F64, views: list[View], default: float) -> F64:
        """First guess (N, 3) of points first seen by ``camera`` (N,) at ``xy`` (N, 2): depth of their neighbours."""
        points = np.empty((len(ids), 3))
        for j in np.unique(camera):
            mine = camera == j
            rho = np.full(int(mine.sum()), default)
            if j == len(views) - 2:
                at, there = lookup(self.guess[0], ids[mine])
                rho[there] = self.guess[1][at[there]]
            back = se3_inverse(se3(views[j].rotation, views[j].translation))
            points[mine] = transform_points(np.column_stack([xy[mine], rho]), back[:3, :3], back[:3, 3])
        return points

    def _wants_keyframe(self, current: View, focal: float) -> bool:
        last = self.views[-1]
        at, there = lookup(last.ids, current.ids)
        if there.sum() < 0.6 * self.tracks.count:
            return True
        moved = current.xy[there] - rotate_xy(last.xy[at[there]], current.rotation @ last.rotation.T)
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
        wanted = np.isin(self.points.ids, np.concatenate([v.ids for v in self.views]))
        moved = transform_points(self.points.abr[wanted], base[:3, :3], base[:3, 3])
        self.points = Points(self.points.ids[wanted], moved, self.points.sigma[wanted])
        inverse = se3_inverse(base)
        for v in self.views:
            m = se3(v.rotation, v.translation) @ inverse
            v.rotation, v.translation = m[:3, :3], m[:3, 3]
