"""The frames a person should look at first: those that scored worst, as small pictures with what was and should be."""

from __future__ import annotations

import heapq
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..config import EvaluateConfig
from ..pipeline import FrameResult
from ..records import U8
from ..runtime import overlay
from .truth import BoxTruth

APART_NS = 1_000_000_000  # the worst of a second stands for it: its neighbours look the same
TRUTH_COLOUR = (255, 200, 0)  # BGR


class WorstFrames:
    """Keeps the worst pictures of each kind ("detection", "target", "depth"); memory does not grow with frames."""

    def __init__(self, config: EvaluateConfig) -> None:
        self._config = config
        self.class_names: tuple[str, ...] = ()
        self._heaps: dict[str, list[tuple[float, int, str, bytes, int]]] = {}

    def offer(self, kind: str, badness: float, caption: str, result: FrameResult, truth: BoxTruth | None) -> None:
        """Show a frame to the collection; a picture is drawn only if it is among the worst so far."""
        heap = self._heaps.setdefault(kind, [])
        full = len(heap) >= self._config.worst_frames
        if badness <= 0 or not self._config.worst_frames or (full and badness <= heap[0][0]):
            return
        near = [h for h in heap if abs(h[4] - result.frame.stamp_ns) < APART_NS]
        if any(h[0] >= badness for h in near):
            return
        picture = self._draw(result, truth)
        ok, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
        if ok:
            heap[:] = [h for h in heap if h not in near]
            heapq.heapify(heap)
            heapq.heappush(heap, (badness, -result.frame.seq, caption, jpeg.tobytes(), result.frame.stamp_ns))
            while len(heap) > self._config.worst_frames:
                heapq.heappop(heap)

    def _draw(self, result: FrameResult, truth: BoxTruth | None) -> U8:
        width = self._config.picture_px
        picture = overlay.draw(result.frame, result.detections, result.tracks, result.target, None, self.class_names,
                               width)
        scale = picture.shape[1] / result.frame.image.shape[1]
        for box in truth.xyxy_px if truth else ():
            x1, y1, x2, y2 = (int(v) for v in np.rint(box * scale))
            _dashed(picture, (x1, y1), (x2, y2))
        return picture

    def write(self, folder: Path) -> list[dict[str, Any]]:
        """Write the pictures; returns kind, seq, badness, caption and file name of each, worst first."""
        listed = []
        for kind, heap in sorted(self._heaps.items()):
            for badness, minus_seq, caption, jpeg, _ in sorted(heap, reverse=True):
                folder.mkdir(exist_ok=True)
                name = f"{kind}_{-minus_seq:06d}.jpg"
                (folder / name).write_bytes(jpeg)
                listed.append({"kind": kind, "seq": -minus_seq, "badness": round(badness, 6), "caption": caption,
                               "file": f"{folder.name}/{name}"})
        return listed


def _dashed(picture: U8, a: tuple[int, int], b: tuple[int, int], dash_px: int = 6) -> None:
    corners = [a, (b[0], a[1]), b, (a[0], b[1]), a]
    for (x1, y1), (x2, y2) in pairwise(corners):
        steps = max(1, max(abs(x2 - x1), abs(y2 - y1)) // dash_px)
        at = np.linspace([x1, y1], [x2, y2], steps + 1).astype(int).tolist()
        for i in range(0, steps, 2):
            cv2.line(picture, tuple(at[i]), tuple(at[i + 1]), TRUTH_COLOUR, 1, cv2.LINE_AA)
