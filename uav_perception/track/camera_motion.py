"""What the camera did between frames, seen by sparse flow over the background: one homography a frame."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import F64, U8, Bool

Points = NDArray[np.float32]  # (N, 2)
AGREE_PX = 3.0  # corners this near to a similarity move with it, perspective and parallax set aside
FRESH = 10  # frames after which corners are sought anew: those that are followed creep


@dataclass(frozen=True)
class CameraStep:
    """``cur_from_prev`` maps source pixels of the previous frame to this one; identity when not ``reliable``."""

    cur_from_prev: F64
    reliable: bool
    inliers: int


UNKNOWN_STEP = CameraStep(np.eye(3), False, 0)


@dataclass(frozen=True)
class Flow:
    """Where corners of the last small picture (``before``, px) are in this one (``after``).

    ``scale`` is the small picture's share of the source's width and height.
    """

    before: Points
    after: Points
    scale: F64


NO_FLOW = Flow(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), np.ones(2))


class CornerFlow:
    """Corners on a small grey picture, followed by pyramidal Lucas-Kanade; new ones are sought when too few are left.

    Knows nothing of targets, so that it can run ahead of the tracker.
    """

    def __init__(self, width_px: int, corners: int) -> None:
        self._width_px, self._corners = width_px, corners
        self.reset()

    def reset(self) -> None:
        """Forget the previous frame: the next flow is none."""
        self._grey: U8 | None = None
        self._points: Points = np.zeros((0, 2), np.float32)
        self._last: F64 = np.eye(3)
        self._age = 0  # frames since corners were sought
        self._enough = 0  # so many that agree will do

    def follow(self, image: U8, width_px: int | None = None) -> Flow:
        """Flow from the previous image to this one (of equal size; (H, W, 3) uint8 BGR).

        ``width_px``: width of the small picture; None = the configured one.
        """
        scale = min(1.0, (width_px or self._width_px) / image.shape[1])
        small = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
        previous, self._grey = self._grey, grey
        if previous is None or previous.shape != grey.shape:
            self._points, self._last = self._points[:0], np.eye(3)
            return NO_FLOW
        self._age += 1
        if self._age >= FRESH or len(self._points) < max(20, self._enough):
            self._points = self._sought(previous)
        before, after = _followed(previous, grey, self._points, self._last)
        motion, agree = _similarity(before, after, AGREE_PX)
        if agree < 0.4 * len(self._points):  # not the motion of before: find the shift first
            shift = np.eye(3)
            shift[:2, 2] = _shift(previous, grey)
            shifted = _followed(previous, grey, self._points, shift)
            other, more = _similarity(*shifted, AGREE_PX)
            if more > agree:
                (before, after), motion, agree = shifted, other, more
        self._points = after if agree >= self._enough else after[:0]
        self._last = np.eye(3) if motion is None else motion
        return Flow(before, after, np.array(grey.shape[::-1]) / image.shape[1::-1])

    def _sought(self, grey: U8) -> Points:
        spacing = max(4.0, 0.6 * np.sqrt(grey.size / self._corners))
        found = cv2.goodFeaturesToTrack(grey, self._corners, 0.01, spacing, blockSize=5)
        self._age = 0
        self._enough = 0 if found is None else len(found) // 2
        return self._points[:0] if found is None else np.asarray(found, dtype=np.float32).reshape(-1, 2)


def camera_step(flow: Flow, moving_xyxy_px: ArrayLike) -> CameraStep:
    """The motion that the background's corners agree on.

    Args:
        flow: from the previous image to this one.
        moving_xyxy_px: (N, 4) boxes in the *previous* image that are no background.
    """
    still = _outside(flow.before, np.asarray(moving_xyxy_px, dtype=np.float64) * np.tile(flow.scale, 2))
    if still.sum() < 0.3 * len(still):  # boxes all over: robust fitting must do
        still[:] = True
    motion, agree = _fit(flow.before[still], flow.after[still])
    if motion is None:
        return UNKNOWN_STEP
    # pixel centres: u_small + 0.5 = scale (u + 0.5)
    sx, sy = flow.scale
    small_from_source = np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5], [0, 0, 1]])
    H = np.linalg.inv(small_from_source) @ motion @ small_from_source
    return CameraStep(H / H[2, 2], True, agree)


class CameraMotion:
    """Both at once: what the camera did since the last image. A few milliseconds a frame."""

    def __init__(self, width_px: int, corners: int) -> None:
        self._flow = CornerFlow(width_px, corners)

    def step(self, image: U8, moving_xyxy_px: ArrayLike) -> CameraStep:
        """See ``CornerFlow.follow`` and ``camera_step``."""
        return camera_step(self._flow.follow(image), moving_xyxy_px)


def _outside(points: Points, boxes: F64) -> Bool:
    """(N,) which points no box (M, 4) holds."""
    within = (points[:, None] >= boxes[None, :, :2]) & (points[:, None] <= boxes[None, :, 2:])
    return np.asarray(~np.any(np.all(within, axis=2), axis=1))


def mapped(H: F64, points: Points | F64) -> F64:
    """(N, 2) points where a homography (3, 3) takes them."""
    q = np.concatenate([points, np.ones((len(points), 1), points.dtype)], axis=1) @ H.T
    return np.asarray(q[:, :2] / q[:, 2:])


def local(H: F64, places: F64) -> tuple[F64, F64, F64]:
    """Where a homography (3, 3) takes ``places`` (N, 2); (N, 2, 2) what it does to small steps there; and (N,) by what
    share things become larger there that stand on a plane whose distance from the camera stays: as 1 / their depth,
    while the plane's area goes as its cube."""
    q = places @ H[:, :2].T + H[:, 2]
    there = q[:, :2] / q[:, 2:]
    steps = (H[:2, :2] - there[:, :, None] * H[2, :2]) / q[:, 2, None, None]
    return there, steps, np.cbrt(np.abs(np.linalg.det(steps)))


def _followed(previous: U8, grey: U8, points: Points, guess: F64) -> tuple[Points, Points]:
    """Those of the points that were found again, starting where ``guess`` (3, 3) takes them, and where they are."""
    if len(points) < 8:
        return points[:0], points[:0]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.03)
    start = np.ascontiguousarray(mapped(guess, points), dtype=np.float32)
    moved, ok, _ = cv2.calcOpticalFlowPyrLK(previous, grey, points, start, winSize=(13, 13), maxLevel=3,
                                            flags=cv2.OPTFLOW_USE_INITIAL_FLOW, criteria=criteria)
    good = ok.ravel() == 1
    return points[good], np.asarray(moved, dtype=np.float32)[good]


def _fit(before: Points, after: Points) -> tuple[F64 | None, int]:
    """Homography where many agree, else similarity, and how many agree; None when unbelievable."""
    if len(before) >= 30:
        found, mask = cv2.findHomography(before, after, cv2.USAC_FAST, 1.0, maxIters=200)
        if found is not None and mask.sum() >= 20:
            H = np.asarray(found, dtype=np.float64)
            if _believable(H, before):
                return H, int(mask.sum())
    return _similarity(before, after, 1.0, refined=10)


def _similarity(before: Points, after: Points, within_px: float, refined: int = 0) -> tuple[F64 | None, int]:
    """Similarity (3, 3) that most points agree on, and how many; None when unbelievable."""
    if len(before) >= 6:
        A, mask = cv2.estimateAffinePartial2D(before, after, method=cv2.RANSAC, ransacReprojThreshold=within_px,
                                              refineIters=refined)
        if A is not None and mask.sum() >= 6:
            H = np.vstack([np.asarray(A, dtype=np.float64), [0.0, 0.0, 1.0]])
            if _believable(H, before):
                return H, int(mask.sum())
    return None, 0


def _believable(H: F64, points: Points) -> bool:
    """No mirror, no collapse: area over the points' extent changes by less than a factor 4."""
    lo, hi = points.min(axis=0), points.max(axis=0)
    corners = np.array([[lo[0], lo[1], 1], [hi[0], lo[1], 1], [hi[0], hi[1], 1], [lo[0], hi[1], 1]], dtype=np.float64)
    mapped = corners @ H.T
    if (mapped[:, 2] <= 0).any():
        return False
    x, y = (mapped[:, :2] / mapped[:, 2:]).T
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    before = float(np.prod(hi - lo))
    return before > 0 and 0.25 < area / before < 4.0


def _shift(previous: U8, grey: U8) -> Points:
    """Translation of the whole picture, a first guess: phase correlation (Kuglin and Hines 1975) of halved pictures."""
    half = (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2))
    a, b = (cv2.resize(g, half, interpolation=cv2.INTER_AREA).astype(np.float32) for g in (previous, grey))
    (dx, dy), _ = cv2.phaseCorrelate(a, b, _hanning(a.shape[1], a.shape[0]))
    return np.array([2 * dx, 2 * dy], dtype=np.float32)


@cache
def _hanning(width: int, height: int) -> Points:
    return np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), dtype=np.float32)


class MotionHistory:
    """Camera steps of the recent past, so that a late detection can be carried to now."""

    def __init__(self) -> None:
        self._stamps_ns: list[int] = []
        self._steps: list[CameraStep] = []

    def append(self, stamp_ns: int, step: CameraStep) -> None:
        """Add the step that ended at ``stamp_ns`` (later than all before)."""
        self._stamps_ns.append(stamp_ns)
        self._steps.append(step)

    def forget_before(self, stamp_ns: int) -> None:
        """Drop steps that ended at or before ``stamp_ns``, but keep one stamp to measure from."""
        keep = max(0, bisect_right(self._stamps_ns, stamp_ns) - 1)
        del self._stamps_ns[:keep], self._steps[:keep]

    def between(self, from_ns: int, to_ns: int) -> tuple[F64, bool]:
        """Homography from pixels at ``from_ns`` to pixels at ``to_ns`` >= from_ns, and whether all of it is reliable.

        Between frames the motion is interpolated linearly; outside the history nothing is known (identity, False).
        """
        total, reliable = np.eye(3), True
        stamps = self._stamps_ns
        if from_ns == to_ns:
            return total, True
        if not stamps or from_ns < stamps[0] or to_ns > stamps[-1]:
            reliable = False
        for i in range(max(1, bisect_right(stamps, from_ns)), len(stamps)):
            start, end, step = stamps[i - 1], stamps[i], self._steps[i]
            if start >= to_ns:
                break
            share = (min(end, to_ns) - max(start, from_ns)) / (end - start)
            total = (np.eye(3) + share * (step.cur_from_prev - np.eye(3))) @ total
            reliable = reliable and step.reliable
        return total / total[2, 2], reliable
