"""What moved a moment ago still does: log odds go along with the picture's flow and are averaged over a short while.

The network draws each frame's outline anew, a little otherwise each time; what really moves stays of one shape.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..records import F32, U8

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
    flow, (h, w) = quick_flow(image, before), said.shape
    x, y = flow[..., 0] + np.arange(w, dtype=np.float32), flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
    carried, there = (cv2.remap(was, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for was in (said, before))
    b, g, r = cv2.split(cv2.absdiff(image, np.asarray(there, np.uint8)))
    off = np.asarray(cv2.max(cv2.max(b, g), r), np.float32)
    return np.asarray(carried, np.float32), np.exp(-np.square(off / np.float32(FITS)))


def quick_flow(image: U8, other: U8) -> F32:
    """(H, W, 2) px from ``image`` (H, W, 3) to where ``other`` shows the same (DIS, Kroeger et al., ECCV 2016), by
    patches of 8 of half the pixels: movers may be small."""
    grey, grey_other = (cv2.cvtColor(np.asarray(picture), cv2.COLOR_BGR2GRAY) for picture in (image, other))
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dense.setFinestScale(1)
    return np.asarray(dense.calc(grey, grey_other, np.empty(0, np.float32)), np.float32)
