"""What moved a moment ago still does: log odds go along with the picture's flow and are averaged over a short while.

The network draws each frame's outline anew, a little otherwise each time; what really moves stays of one shape.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..records import F32, U8
from .compare import dense_flow, displaced, most

SETTLES_S = 0.22  # in which what was said before loses all but 1/e of its weight
LONGEST_S = 0.3  # from frame to frame: after more, flow is guesswork
FITS = 10.0  # grey levels: by so much (of any colour) a place differs from where it came from that counts for 1/e
SURE = 8.0  # log odds: nothing is surer


class Persistence:
    """Call for every frame that is asked about, in order."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing that was said holds any more."""
        self._said: tuple[int, U8, F32] | None = None  # stamp, picture, log odds

    def __call__(self, stamp_ns: int, image: U8, evidence: F32) -> F32:
        """(H, W) log odds of now and of before, by ``evidence`` (H, W) of ``image`` (H, W, 3)."""
        said = np.clip(evidence, -SURE, SURE)
        if self._said is not None and self._said[1].shape == image.shape:
            then_ns, before, said_before = self._said
            gone_s = (stamp_ns - then_ns) * 1e-9
            if 0 < gone_s <= LONGEST_S:
                carried, fits = _carried(image, before, said_before)
                said += np.float32(np.exp(-gone_s / SETTLES_S)) * fits * (carried - said)
        self._said = (stamp_ns, image, said)
        return said


def _carried(image: U8, before: U8, said: F32) -> tuple[F32, F32]:
    """``said`` (H, W) of the picture ``before``, where it is in ``image``; and 0..1 how well that fits."""
    grey, grey_before = (cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (image, before))
    flow = dense_flow(np.asarray(grey), np.asarray(grey_before))
    carried, there = displaced(flow[..., 0], flow[..., 1], said, before)
    off = most(cv2.absdiff(image, there)).astype(np.float32)
    return np.asarray(carried, np.float32), np.exp(-np.square(off / np.float32(FITS)))
