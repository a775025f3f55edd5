"""NanoTrack v2/v3 (Siamese) from the user's own ONNX files, behind the target protocol: a peer for comparison.

The network's interface: backbone ``input`` (1, 3, S, S) BGR 0..255; head ``input1`` template (127 px) and ``input2``
search (255 px) features to class logits (1, 2, n, n) and distances (1, 4, n, n) at stride 16. The post-processing is
the one of SiamRPN++/NanoTrack: size-change penalty, cosine window, damped size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import LsartConfig
from ..engine import Engine
from ..errors import ModelError
from ..records import Detections, Frame, Track, TrackState
from .camera_motion import CameraStep
from .pyramid import Pyramid
from .target import TargetTrack, WithoutSearch, checked_start_box

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
TEMPLATE_PX, SEARCH_PX, STRIDE_PX = 127, 255, 16
# version -> window influence, size penalty, size rate (the authors' settings)
SETTINGS = {"nanotrackv2": (0.490, 0.150, 0.385), "nanotrackv3": (0.455, 0.138, 0.348)}


def _load(path: Path) -> Engine:
    from ..engine.select import open_engine  # heavy; only who uses a network pays

    if not path.is_file():
        raise ModelError(f"no file {path}", "NanoTrack's backbone and head as ONNX",
                         "set lsart.nano_models to the folder with nanotrackv3_backbone_dyn.onnx and _head.onnx")
    return open_engine(path, threads=1)


class NanoTracker(WithoutSearch):
    """``config.nano_models`` is the folder with ``<version>_backbone_dyn.onnx`` and ``<version>_head.onnx``."""

    def __init__(self, config: LsartConfig) -> None:
        folder, version = Path(config.nano_models), config.nano_version
        self._backbone = _load(folder / f"{version}_backbone_dyn.onnx")
        self._head = _load(folder / f"{version}_head.onnx")
        self._window_share, self._penalty, self._rate = SETTINGS[version]
        self._out = TargetTrack()
        self._n = 0

    def start(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int = 0, class_id: int = -1) -> Track:
        box = checked_start_box(box_xyxy_px, frame)
        self._centre, self._size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        self._template = self._features(frame, TEMPLATE_PX, 1.0).copy()
        return self._out.start(frame, box, track_id, class_id)

    def update(self, frame: Frame, detections: Detections | None = None, others_xyxy_px: ArrayLike | None = None,
               newcomers: Sequence[Track] = (), camera: CameraStep | None = None) -> Track:
        if self._out.doubted or not self._out.accepts(frame):
            return self._out.without_evidence(frame, TrackState.LOST)
        search = self._features(frame, SEARCH_PX, SEARCH_PX / TEMPLATE_PX)
        logits, distances = (np.asarray(v)[0] for v in
                             self._head.infer({"input1": self._template, "input2": search}).values())
        if not (np.isfinite(logits).all() and np.isfinite(distances).all()):
            return self._out.without_evidence(frame, TrackState.LOST)
        score = 1.0 / (1.0 + np.exp(logits[0] - logits[1]))
        centre, size, confidence = self._best(score, distances)
        limit = np.array(frame.image.shape[1::-1], dtype=np.float64)
        self._centre = np.clip(centre, 0, limit)
        self._size = np.clip(size, 10, limit)
        return self._out.seen(frame, np.concatenate([self._centre - self._size / 2, self._centre + self._size / 2]),
                              confidence)

    def _context_px(self) -> float:
        """Side of the square that the template covers: the box with half its perimeter's mean around."""
        return float(np.sqrt(np.prod(self._size + 0.5 * self._size.sum())))

    def _features(self, frame: Frame, side_px: int, widen: float) -> Any:
        side = self._context_px() * widen
        image = Pyramid(frame.image).crop(self._centre, (side, side), (side_px, side_px)).image
        return next(iter(self._backbone.infer({"input": image.transpose(2, 0, 1)[None].astype(np.float32)}).values()))

    def _best(self, score: F32, distances: F32) -> tuple[F64, F64, float]:
        n = score.shape[0]
        grid = (np.arange(n) - n // 2) * STRIDE_PX
        left, top, right, bottom = distances
        x1, y1, x2, y2 = grid - left, grid[:, None] - top, grid + right, grid[:, None] + bottom
        w, h = x2 - x1, y2 - y1
        zoom = TEMPLATE_PX / self._context_px()
        w0, h0 = self._size * zoom

        def padded(a: Any, b: Any) -> Any:
            return np.sqrt((a + (a + b) / 2) * (b + (a + b) / 2))

        def change(r: Any) -> Any:
            return np.maximum(r, 1.0 / np.maximum(r, 1e-9))

        penalty = np.exp(-(change(padded(w, h) / padded(w0, h0)) * change((w / np.maximum(h, 1e-9)) / (w0 / h0)) - 1)
                         * self._penalty)
        window = np.outer(np.hanning(n), np.hanning(n))
        i, j = np.unravel_index(
            int((penalty * score * (1 - self._window_share) + window * self._window_share).argmax()), (n, n))
        rate = float(penalty[i, j] * score[i, j]) * self._rate
        centre = self._centre + np.array([x1[i, j] + x2[i, j], y1[i, j] + y2[i, j]]) / 2 / zoom
        size = self._size * (1 - rate) + np.array([w[i, j], h[i, j]]) / zoom * rate
        return centre, size, float(score[i, j])
