"""Sparse feature tracks: corners followed from frame to frame to a small fraction of a pixel.

Pyramidal Lucas-Kanade (Bouguet 2001) both ways; a point that does not come back to where it began is dropped. Then once
more from the picture that corners were last sought in, seen as the scene is seen now: followed from frame to frame
alone they creep by a pixel in a second or two. When the frames are too far apart (survey flights), descriptors are
matched instead (SIFT, Lowe 2004).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..records import F64, U8, Bool

I64 = NDArray[np.int64]
_LK_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.02)
_FIRM_PX = 1.0  # from where a corner was followed to, to where the anchor's picture of it fits
_NEAR = 1  # halvings of the picture for corners that go on as before
_AS_MANY = 0.85  # share of the usual number followed that says they did
_FEW = 0.4  # share of corners followed below which the frames may be too far apart
_WIDE_PX = 800  # pictures are matched at this width at most
_REST = 32  # frames for which descriptors are left alone at most after they did not help


def lookup(ids: I64, wanted: I64) -> tuple[I64, Bool]:
    """Places of ``wanted`` (N,) in the rising ``ids`` (M,) and whether each is there; 0 where it is not."""
    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    there = ids[at] == wanted
    return np.where(there, at, 0), there


def match_brightness(gray: U8, reference: U8) -> U8:
    """``gray`` with the mean and spread of ``reference``: an exposure jump must not look like motion."""
    (mean,), (std,) = cv2.meanStdDev(gray[::4, ::4].copy())  # a sixteenth of the pixels tells as much
    (ref_mean,), (ref_std,) = cv2.meanStdDev(reference[::4, ::4].copy())
    if abs(mean[0] - ref_mean[0]) < 0.03 * ref_mean[0] + 1 and abs(std[0] - ref_std[0]) < 0.05 * ref_std[0] + 0.5:
        return gray
    gain = float(ref_std[0] / max(std[0], 1e-3))
    return np.asarray(cv2.convertScaleAbs(gray, alpha=gain, beta=float(ref_mean[0] - gain * mean[0])))


class FeatureTracks:
    """The corners alive in the newest frame: ``ids`` (N,), ``px`` (N, 2) pixel positions."""

    def __init__(self, count: int, window_px: int = 21, levels: int = 4) -> None:
        self.count, self.window_px, self.levels = count, window_px, levels
        self.reset()

    def reset(self) -> None:
        self.ids: I64 = np.zeros(0, np.int64)
        self.px = np.zeros((0, 2), np.float32)
        self._flow = np.zeros((0, 2), np.float32)  # by how much each moved in the last frame, the new ones as most
        self._usual = 1.0  # share that was followed when they were last sought from nothing
        self._gray: U8 | None = None
        self._anchor: U8 | None = None  # the picture that corners were last sought in
        self._anchor_px = self.px  # (N, 2) where they were there
        self.avoid: Bool | None = None  # (H, W) where none are to be sought
        self._next_id = 0
        self._described: Described | None = None  # the newest image, where it was
        self._vain = self._rest = 0  # looks in a row that did not help, frames until the next

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of the newest image."""
        return None if self._gray is None else (self._gray.shape[0], self._gray.shape[1])

    def advance(self, gray: U8) -> None:
        """Follow every corner into ``gray`` (H, W); those that are lost disappear from ``ids``."""
        previous, known = self._gray, self._described
        self._described = None
        if previous is not None and len(self.px):
            gray = match_brightness(gray, previous)
            expected = self.px + self._flow
            stay = ((expected > 2) & (expected < [gray.shape[1] - 3, gray.shape[0] - 3])).all(axis=1).mean()
            there, good = self._follow(previous, gray, expected, _NEAR)
            if good.mean() < max(_AS_MANY * min(self._usual, stay), _FEW):  # they did not go on as before
                there, good = self._follow(previous, gray, self.px, self.levels)
                there, good = self._look_wide(previous, gray, there, good, known)
                self._usual = float(good.mean())
            there = self._anchored(gray, there, good)
            self._flow, self.px = there - self.px, there
            self.keep(good)
        self._gray = gray

    def _look_wide(self, previous: U8, gray: U8, there: NDArray[np.float32], good: Bool, known: Described | None
                   ) -> tuple[NDArray[np.float32], Bool]:
        """Where few corners were followed, match descriptors for a first guess and follow from there.

        Corners are also lost where frames are near and the scene is to blame; then this does not help and costs as much
        as all the rest, so it is tried again ever more rarely, unless hardly a corner is followed.
        """
        share, self._rest = float(good.mean()), max(0, self._rest - 1)
        if share >= _FEW or (self._rest and share >= _FEW / 2):
            return there, good
        self._described = describe(gray)
        homography = wide_homography(known or describe(previous), self._described)
        gain = 0.0
        if homography is not None:
            guess = cv2.perspectiveTransform(self.px[:, None], homography)[:, 0].astype(np.float32)
            there_wide, good_wide = self._follow(previous, gray, guess, self.levels)
            gain = good_wide.mean() - share
            if gain > 0:
                there, good = there_wide, good_wide
        self._vain = 0 if gain > 0.1 * share else self._vain + 1
        self._rest = min(2**self._vain, _REST) if self._vain else 0
        return there, good

    def _follow(self, previous: U8, gray: U8, guess: NDArray[np.float32], levels: int
                ) -> tuple[NDArray[np.float32], Bool]:
        """Where the corners are in ``gray``, sought around ``guess`` from so many halvings on, and which are good."""
        there, found = self._flow_between(previous, gray, self.px, guess, levels)
        back, returned = self._flow_between(gray, previous, there, self.px, 0)
        good = found & returned & (np.linalg.norm(back - self.px, axis=1) < 0.5)
        height, width = gray.shape
        good &= (there > 2).all(1) & (there[:, 0] < width - 3) & (there[:, 1] < height - 3)
        return there, good

    def _anchored(self, gray: U8, there: NDArray[np.float32], good: Bool) -> NDArray[np.float32]:
        """The corners ``there`` in ``gray``, the good ones where the anchor's picture of them fits best, if nearby."""
        if self._anchor is None or good.sum() < 12:
            return there
        turned, agree = cv2.findHomography(self._anchor_px[good], there[good], cv2.USAC_FAST, 2.0, maxIters=200)
        anchor, at = self._anchor, self._anchor_px
        if turned is not None and agree.mean() > 0.3:
            anchor = np.asarray(cv2.warpPerspective(anchor, turned, gray.shape[::-1], borderMode=cv2.BORDER_REPLICATE))
            at = np.asarray(cv2.perspectiveTransform(at[:, None], turned)[:, 0], np.float32)
        exact, fits = self._flow_between(anchor, gray, at, there, 0)
        firm = good & fits & (np.linalg.norm(exact - there, axis=1) < _FIRM_PX)
        return np.where(firm[:, None], exact, there)

    def _flow_between(self, a: U8, b: U8, at: NDArray[np.float32], start: NDArray[np.float32], halvings: int
                      ) -> tuple[NDArray[np.float32], Bool]:
        """Where in ``b`` the places ``at`` of ``a`` are, sought around ``start``, and which were found."""
        there, found, _ = cv2.calcOpticalFlowPyrLK(a, b, at, start.copy(), maxLevel=halvings, criteria=_LK_STOP,
                                                   winSize=(self.window_px,) * 2, flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
        return np.asarray(there, np.float32), np.asarray(found[:, 0] > 0)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the corners where ``mask`` (N,) is False (outliers)."""
        self.ids, self.px, self._flow = self.ids[mask], self.px[mask], self._flow[mask]
        self._anchor_px = self._anchor_px[mask]

    def replenish(self) -> None:
        """Find new corners where there are none, spread over a grid, until about ``count`` are alive."""
        gray = self._gray
        assert gray is not None
        self._anchor, self._anchor_px = gray, self.px
        height, width = gray.shape
        cell = max(8, int(np.sqrt(height * width / self.count)))
        mask = np.full(gray.shape, 255, np.uint8)
        for x, y in self.px.astype(int):
            cv2.circle(mask, (int(x), int(y)), int(cell * 0.6), 0, -1)
        if self.avoid is not None and self.avoid.shape == mask.shape:
            mask[self.avoid] = 0
        border = 4
        mask[:border] = mask[-border:] = 0
        mask[:, :border] = mask[:, -border:] = 0
        wanted = self.count - len(self.px)
        if wanted <= 0:
            return
        corners = cv2.goodFeaturesToTrack(gray, wanted, 0.003, cell * 0.6, mask=mask, blockSize=5)
        if corners is None:
            return
        corners = corners.reshape(-1, 2).astype(np.float32)
        usual = np.median(self._flow, axis=0) if len(self._flow) else np.zeros(2)
        self.px = np.concatenate([self.px, corners])
        self._flow = np.concatenate([self._flow, np.tile(usual, (len(corners), 1)).astype(np.float32)])
        self.ids = np.concatenate([self.ids, np.arange(self._next_id, self._next_id + len(corners))])
        self._next_id += len(corners)
        self._anchor_px = self.px


Described = tuple[NDArray[np.float32], NDArray[np.float32]]  # (N, 2) px in the whole picture, and (N, 128) of each


def describe(gray: U8) -> Described:
    """SIFT keypoints and descriptors of a picture."""
    shrink = min(1.0, _WIDE_PX / max(gray.shape))
    small = gray if shrink == 1.0 else cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    keypoints, descriptors = cv2.SIFT.create(2000).detectAndCompute(small, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    return np.array([k.pt for k in keypoints], np.float32) / np.float32(shrink), np.asarray(descriptors, np.float32)


def wide_homography(before: Described, now: Described) -> F64 | None:
    """Rough map (3, 3) of previous pixels to current ones from matched descriptors, or None when too few agree."""
    if min(len(before[0]), len(now[0])) < 20:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(before[1], now[1], k=2)
    best = [m for m, *n in pairs if n and m.distance < 0.75 * n[0].distance]
    if len(best) < 15:
        return None
    p, q = before[0][[m.queryIdx for m in best]], now[0][[m.trainIdx for m in best]]
    found, mask = cv2.findHomography(p, q, cv2.RANSAC, 8.0)
    return None if found is None or mask.sum() < 15 else np.asarray(found, np.float64)
