"""The depth and pose networks, and where depth without them may be believed."""

from __future__ import annotations

import cv2
import numpy as np

from ..engine import Engine
from ..errors import ModelError
from ..records import F32, F64, U8, Bool
from .products import cells

PIXELS = 128 * 416  # that the depth network sees of a picture


class DepthNetwork:
    """Disparity up to scale through an :class:`~uav_perception.engine.Engine`.

    The model takes one RGB image, 0..255 float32 (1, 3, h, w), and returns (1, 1, h', w') positive disparity. One of
    open height and width sees every picture in about the picture's own aspect.
    """

    def __init__(self, engine: Engine) -> None:
        shape = engine.inputs[0].shape
        if len(engine.inputs) != 1 or len(shape) != 4 or shape[1] != 3 or len(engine.outputs) != 1:
            raise ModelError(f"depth model with inputs {[s.shape for s in engine.inputs]}",
                             "one (1, 3, h, w) image in, one disparity out", "export it with `train depth`")
        self.engine = engine
        self._height, self._width = shape[2:]

    def disparity(self, image: U8) -> F32:
        """(h', w') disparity of a BGR image (H, W, 3) of any size; the array is the caller's."""
        width, height = network_size(image.shape[1], image.shape[0])
        feed = planes(image, self._width or width, self._height or height)
        found = self.engine.infer({self.engine.inputs[0].name: feed})[self.engine.outputs[0].name]
        return np.array(found[0, 0], np.float32)


class PoseNetwork:
    """Motion between two images: translation in units of the median depth, rotation vector (6,)."""

    def __init__(self, engine: Engine) -> None:
        if len(engine.inputs) != 2 or len(engine.inputs[0].shape) != 4 or engine.outputs[0].shape[-1] != 6:
            raise ModelError(f"pose model with inputs {[s.shape for s in engine.inputs]}",
                             "two (1, 3, h, w) images in, six numbers out", "export it with `train depth`")
        self.engine = engine
        self.height, self.width = (int(v or 0) for v in engine.inputs[0].shape[2:])

    def motion(self, first: U8, second: U8) -> F64:
        """(6,) motion from ``first`` to ``second``, BGR images (H, W, 3)."""
        a, b = self.engine.inputs
        feeds = {a.name: planes(first, self.width, self.height), b.name: planes(second, self.width, self.height)}
        return np.array(self.engine.infer(feeds)[self.engine.outputs[0].name].reshape(6), np.float64)


def network_size(width_px: int, height_px: int) -> tuple[int, int]:
    """Width and height, multiples of 32, of about ``PIXELS`` in about the aspect of a picture."""
    height = max(64, round((PIXELS * height_px / width_px) ** 0.5 / 32) * 32)
    return max(64, round(PIXELS / height / 32) * 32), height


def planes(image: U8, width: int, height: int) -> F32:
    """(1, 3, height, width) RGB float32 0..255 of a BGR image: the networks' only preprocessing."""
    return np.asarray(cv2.dnn.blobFromImage(resized(image, width, height), swapRB=True), np.float32)


def resized(image: U8, width: int, height: int) -> U8:
    """``image`` (H, W) or (H, W, 3) at another size: nearly means over areas where it shrinks, in less time.

    To a whole multiple first, by less than a factor of two, which interpolation does well; from there by exact means.
    """
    if image.shape[:2] == (height, width):
        return image
    times = max(1, image.shape[1] // width), max(1, image.shape[0] // height)
    wide = cv2.resize(image, (width * times[0], height * times[1]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(wide, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def supported(uv: F64, width: int, height: int) -> Bool:
    """(height, width) True near the points ``uv`` (N, 2) in 0..1, where interpolation alone may be believed."""
    near = np.zeros((48, 64), np.uint8)
    near[cells(uv, 48, 64)] = 1
    near = cv2.dilate(near, np.ones((9, 9), np.uint8)).astype(np.uint8)
    return np.asarray(cv2.resize(near, (width, height), interpolation=cv2.INTER_NEAREST) > 0)
