"""Which pixels move by themselves: the picture against what the resting scene looked like a moment ago.

Earlier pictures are warped to the present view by depth and camera motion. Something that moved differs from all of
them: where it is now, each shows another part of the scene. Where it has been, the newest of them agrees. What of it
still moves against the newest is told apart from wrong depth, which shifts things along one line only. A small network
(``engines/uav_mask``) draws the outline from all this, and what it said of the frames before counts, too; without it,
a threshold on the differences does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ..engine import Engine
from ..errors import ModelError
from ..records import F32, F64, U8, Bool, CameraModel
from .compare import dense_flow, most
from .past import Past
from .persistence import Persistence
from .products import cells, source_pixels

LAGS_S = (0.3, 0.65, 1.25)  # ages of the pictures compared with
STORE_S = 0.09  # no more pictures are kept than one in this time
SLACK = np.ones((3, 3), np.uint8)  # a pixel of misplacement by depth is no motion
NEARER = 0.1  # how much nearer something would be that is laid along the line of wrong depth
UNSHIFTED_PX = 0.25  # of a shift by that from which on depth hardly explains anything
PX = 12.0  # grey levels in which the network is shown a pixel of motion


class MaskNetwork:
    """Outlines what moves, through an :class:`~uav_perception.engine.Engine`.

    The model takes (1, CHANNELS, h, w) float32 0..255 (see ``channels``), h and w multiples of ``STEP``, and returns
    (1, 1, h, w): positive where something moves.
    """

    STEP = 32
    CHANNELS = 3 + 2 * len(LAGS_S) + 3 + 3

    def __init__(self, engine: Engine) -> None:
        shape = engine.inputs[0].shape
        if len(engine.inputs) != 1 or len(shape) != 4 or shape[1] != self.CHANNELS or len(engine.outputs) != 1:
            raise ModelError(f"mask model with inputs {[s.shape for s in engine.inputs]}",
                             f"one (1, {self.CHANNELS}, h, w) in, one map out", "export it with `train mask`")
        self._engine = engine

    def evidence(self, seen: F32) -> F32:
        """(h, w) of ``channels`` (C, h, w): log odds that it moves; overwritten by the next call."""
        _, h, w = seen.shape
        wide = np.pad(seen, ((0, 0), (0, -h % self.STEP), (0, -w % self.STEP)), mode="edge")
        found = self._engine.infer({self._engine.inputs[0].name: wide[None]})[self._engine.outputs[0].name]
        return np.asarray(found[0, 0, :h, :w], np.float32)


class MotionMask:
    """Call for every frame in order; ``reset`` when the motion since earlier frames becomes unknown.

    Args:
        contrast: grey levels (of any colour) a pixel must differ by, where no network says better.
        network: outlines what moves from the differences.
    """

    def __init__(self, contrast: float = 10.0, network: MaskNetwork | None = None) -> None:
        self._contrast, self._network = contrast, network
        self.careful = True  # ask the network; False: the threshold, which costs next to nothing
        self._past = Past[U8](STORE_S, 1.5 * LAGS_S[-1])
        self._persistence = Persistence()

    @property
    def asks_network(self) -> bool:
        """The next mask is a network's."""
        return self._network is not None and self.careful

    def reset(self) -> None:
        self._past.reset()
        self._persistence.reset()

    def move(self, cur_from_prev: F64) -> None:
        """The camera moved: (4, 4) in run units."""
        self._past.move(cur_from_prev)

    def __call__(self, stamp_ns: int, image: U8, depth: F32, camera: CameraModel, size_px: tuple[int, int] | None = None
                 ) -> Bool | None:
        """True where ``image`` (H, W, 3) moves against the scene; None in the first moments of a run.

        ``depth`` (H, W) is this frame's, in the unit of the motions; ``camera`` belongs to both. The mask is (H, W), or
        of ``size_px`` (w, h).
        """
        soft = softened(image)
        earlier = self._earlier(stamp_ns, image.shape)
        self._past.keep(stamp_ns, soft)
        if not earlier:
            return None
        if self._network is not None and self.careful:
            said = self._network.evidence(channels(image, soft, earlier, depth, camera).astype(np.float32))
            evidence = self._persistence(stamp_ns, soft, said)
        else:
            outside = [_most(_outside(soft, there), nothing)
                       for there, nothing, _ in (_warped(*past, depth, camera) for past in earlier)]
            evidence = self._outlined(np.minimum.reduce(outside)).astype(np.float32) - 0.5
        size_px = size_px or (image.shape[1], image.shape[0])
        return np.asarray(np.asarray(cv2.resize(evidence, size_px, interpolation=cv2.INTER_LINEAR)) > 0)

    def _earlier(self, stamp_ns: int, shape: tuple[int, ...]) -> list[tuple[U8, F64]]:
        """One picture of each age, and ``past_from_cur``; none until there are all."""
        kept = [(age, past, pose) for age, past, pose in self._past.before(stamp_ns) if past.shape == shape]
        found = []
        for lag in LAGS_S:
            age, past, pose = min(kept, key=lambda k: abs(k[0] - lag), default=(np.inf, None, None))
            if past is None or pose is None or abs(age - lag) > 0.15:
                return []
            found.append((past, pose))
        return found

    def _outlined(self, difference: U8) -> Bool:
        smooth = cv2.blur(difference, (3, 3))
        limit = max(self._contrast, 3.0 * float(np.percentile(smooth[::4, ::4], 80)))
        moving = (smooth > limit).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)).astype(np.uint8)
        contours, _ = cv2.findContours(moving, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        moving[:] = 0
        for contour in contours:  # what is of one colour differs only at its rim
            hull = cv2.convexHull(contour)
            compact = cv2.contourArea(contour) > 0.5 * cv2.contourArea(hull)
            cv2.drawContours(moving, [hull if compact else contour], -1, (1,), -1)
        return np.asarray(cv2.erode(moving, np.ones((3, 3), np.uint8)) > 0)


def near_moving(uv: F64, mask: Bool) -> Bool:
    """(N,) True for places ``uv`` (N, 2), 0..1 of width and height, on what moves or within 1 % of the width of it."""
    h, w = mask.shape
    return np.asarray(grown(mask, max(1, w // 100))[cells(uv, h, w)])


def grown(mask: Bool, reach_px: int) -> Bool:
    """(H, W) True on what moves or within ``reach_px`` of it, along rows and columns."""
    side = 2 * reach_px + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def softened(image: U8) -> U8:
    """``image`` (H, W, 3) without the finest grain, as pictures are compared."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.uint8)


def channels(image: U8, soft: U8, earlier: Sequence[tuple[U8, F64]], depth: F32, camera: CameraModel) -> U8:
    """(3 + 2 n + 3 + 3, H, W): the colours of ``image`` (H, W, 3); for every earlier picture, ``softened`` as ``soft``
    is and with its ``past_from_cur`` (4, 4), by how much ``soft`` lies outside of what that one shows, give or take a
    pixel, and by how much it differs, the most of the three colours; half of how much brighter the last of them is in
    each colour, and 128: a shadow darkens all alike; and ``residual_motion`` against the first of them. 0 (128) where
    the earlier one shows nothing.
    """
    seen = [np.asarray(colour, np.uint8) for colour in cv2.split(image)]
    warped = [_warped(past, past_from_cur, depth, camera) for past, past_from_cur in earlier]
    for there, nothing, _ in warped:
        seen += [_most(_outside(soft, there), nothing), _most(cv2.absdiff(soft, there), nothing)]
    there, nothing, _ = warped[-1]
    brighter = cv2.addWeighted(there, 0.5, soft, -0.5, 128)
    brighter[nothing] = 128
    seen += [np.asarray(colour, np.uint8) for colour in cv2.split(brighter)]
    there, nothing, here = warped[0]
    rho = np.float32(1) / depth
    nearer = source_pixels(np.float32(1 + NEARER) * rho, camera, earlier[0][1])
    return np.stack(seen + residual_motion(soft, there, nothing, (nearer[0] - here[0], nearer[1] - here[1])))


def residual_motion(image: U8, there: U8, nothing: Bool, line_px: tuple[F32, F32]) -> list[U8]:
    """Dense flow from ``image`` (H, W, 3) to what an earlier picture shows ``there``, as three maps (H, W), ``PX`` a
    pixel: along the line on which wrong depth shifts, to where nearer things lie and to where farther ones do; and
    across it, which no depth explains. Where depth hardly shifts anything, all motion counts as across.

    ``line_px``: x and y (H, W) by which things shift that are nearer by ``NEARER``."""
    grey, grey_there = (cv2.cvtColor(np.asarray(picture), cv2.COLOR_BGR2GRAY) for picture in (image, there))
    flow = dense_flow(np.asarray(grey), np.asarray(grey_there))
    flow[nothing] = 0
    x, y = line_px
    size = np.maximum(np.hypot(x, y), np.float32(1e-6))
    along, aside = (flow[..., 0] * x + flow[..., 1] * y) / size, (flow[..., 1] * x - flow[..., 0] * y) / size
    explained = size**2 / (size**2 + np.float32(UNSHIFTED_PX) ** 2)
    along, across = explained * along, np.hypot(aside, (1 - explained) * along)
    return [np.clip(np.float32(PX) * px, 0, 255).astype(np.uint8) for px in (along, -along, across)]


def _warped(past: U8, past_from_cur: F64, depth: F32, camera: CameraModel) -> tuple[U8, Bool, tuple[F32, F32]]:
    """What ``past`` shows of the present view (H, W, 3), where that is nothing (H, W), and from where in it (u, v)."""
    u, v = source_pixels(1.0 / depth, camera, past_from_cur)
    h, w = u.shape
    there = cv2.remap(past, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(there, np.uint8), (u < 2) | (v < 2) | (u > w - 3) | (v > h - 3), (u, v)


def _outside(image: U8, there: U8) -> U8:
    """(H, W, 3) by how much ``image`` lies outside of what is ``there``, give or take a pixel."""
    over = cv2.subtract(image, cv2.dilate(there, SLACK))
    under = cv2.subtract(cv2.erode(there, SLACK), image)
    return np.asarray(cv2.max(over, under), np.uint8)


def _most(difference: Any, nothing: Bool) -> U8:
    """(H, W) the most of the three colours; 0 where there is ``nothing`` to compare with."""
    found = most(difference)
    found[nothing] = 0
    return found
