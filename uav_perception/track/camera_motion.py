"""What the camera did between frames, seen by sparse flow over the background: one homography a frame."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import F64, U8

Points = NDArray[np.float32]  # (N, 2)


@dataclass(frozen=True)
class CameraStep:
    """``cur_from_prev`` maps source pixels of the previous frame to this one; identity when not ``reliable``."""

    cur_from_prev: F64
    reliable: bool
    inliers: int


UNKNOWN_STEP = CameraStep(np.eye(3), False, 0)


@dataclass(frozen=True)
class _Fit:
    H: F64  # (3, 3) between small pictures
    after: Points  # where the points that agree are now


class CameraMotion:
    """Corners on a small grey picture, pyramidal Lucas-Kanade, robust homography. A few milliseconds a frame.

    Corners that moved with the background are followed on; new ones are sought when too few are left.
    """

    def __init__(self, width_px: int, corners: int) -> None:
        self._width_px, self._corners = width_px, corners
        self.reset()

    def reset(self) -> None:
        """Forget the previous frame: the next step is unknown."""
        self._grey: U8 | None = None
        self._points: Points = np.zeros((0, 2), np.float32)
        self._last: F64 = np.eye(3)
        self._enough = 0  # so many corners left will do

    def step(self, image: U8, moving_xyxy_px: ArrayLike, width_px: int | None = None) -> CameraStep:
        """Motion from the previous image to this one (of equal size).

        Args:
            image: (H, W, 3) uint8 BGR.
            moving_xyxy_px: (N, 4) boxes in the *previous* image that are no background.
            width_px: width of the small picture; None = the configured one.
        """
        scale = min(1.0, (width_px or self._width_px) / image.shape[1])
        small = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
        previous, self._grey = self._grey, grey
        if previous is None or previous.shape != grey.shape:
            self._points, self._last = self._points[:0], np.eye(3)
            return UNKNOWN_STEP
        points = self._background_corners(previous, np.asarray(moving_xyxy_px, dtype=np.float64) * scale)
        fit = _fit(previous, grey, points, mapped(self._last, points).astype(np.float32))
        if fit is None or len(fit.after) < 0.4 * len(points):  # not the motion of before: find the shift first
            shifted = _fit(previous, grey, points, points + _shift(previous, grey))
            if shifted is not None and (fit is None or len(shifted.after) > len(fit.after)):
                fit = shifted
        if fit is None:
            self._points, self._last = self._points[:0], np.eye(3)
            return UNKNOWN_STEP
        self._points, self._last = fit.after, fit.H
        # pixel centres: u_small + 0.5 = scale (u + 0.5)
        sx, sy = grey.shape[1] / image.shape[1], grey.shape[0] / image.shape[0]
        small_from_source = np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5], [0, 0, 1]])
        H = np.linalg.inv(small_from_source) @ fit.H @ small_from_source
        return CameraStep(H / H[2, 2], True, len(fit.after))

    def _background_corners(self, grey: U8, moving: F64) -> Points:
        p = _outside(self._points, moving)
        if len(p) >= max(20, self._enough):
            return p
        spacing = max(4.0, 0.6 * np.sqrt(grey.size / self._corners))
        found = cv2.goodFeaturesToTrack(grey, self._corners, 0.01, spacing, blockSize=5)
        if found is None:
            return p[:0]
        everywhere = np.asarray(found, dtype=np.float32).reshape(-1, 2)
        p = _outside(everywhere, moving)
        self._enough = len(p) // 2
        return p if len(p) >= 0.3 * len(everywhere) else everywhere  # boxes all over: robust fitting must do


def _outside(points: Points, boxes: F64) -> Points:
    within = (points[:, None] >= boxes[None, :, :2]) & (points[:, None] <= boxes[None, :, 2:])
    return np.asarray(points[~np.any(np.all(within, axis=2), axis=1)])


def mapped(H: F64, points: Points | F64) -> F64:
    """(N, 2) points where a homography (3, 3) takes them."""
    q = np.concatenate([points, np.ones((len(points), 1), points.dtype)], axis=1) @ H.T
    return np.asarray(q[:, :2] / q[:, 2:])


def _fit(previous: U8, grey: U8, points: Points, guess: Points) -> _Fit | None:
    """Follow points, starting at ``guess``: homography where many agree, else similarity; None when unbelievable."""
    if len(points) < 8:
        return None
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.03)
    moved, ok, _ = cv2.calcOpticalFlowPyrLK(previous, grey, points, np.ascontiguousarray(guess, dtype=np.float32),
                                            winSize=(13, 13), maxLevel=3, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
                                            criteria=criteria)
    good = ok.ravel() == 1
    before, after = points[good], np.asarray(moved, dtype=np.float32)[good]
    if len(before) >= 30:
        H, mask = cv2.findHomography(before, after, cv2.RANSAC, 1.0, maxIters=200)
        if H is not None and mask.sum() >= 20 and _believable(np.asarray(H, dtype=np.float64), before):
            return _Fit(np.asarray(H, dtype=np.float64), after[mask.ravel() == 1])
    if len(before) >= 6:
        A, mask = cv2.estimateAffinePartial2D(before, after, method=cv2.RANSAC, ransacReprojThreshold=1.0)
        if A is not None and mask.sum() >= 6:
            similarity = np.vstack([np.asarray(A, dtype=np.float64), [0.0, 0.0, 1.0]])
            if _believable(similarity, before):
                return _Fit(similarity, after[mask.ravel() == 1])
    return None


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
