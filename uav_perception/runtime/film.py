"""An MP4 film of pictures that come when they come: played back, time passes as it did."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import WorkFailed
from ..records import U8

LONGEST_STILL_S = 1.0  # a longer gap in the stamps (a restarted source) is not played out


class Film:
    """Writes pictures at a constant rate, repeating one as long as its stamp says it lasted."""

    def __init__(self, path: str, fps: float) -> None:
        self.path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._last: tuple[U8, int] | None = None
        self._owed = 0.0  # part of a film frame not yet written
        self.frames = 0

    def write(self, picture: U8, stamp_ns: int) -> None:
        """Add a picture.

        Raises:
            WorkFailed: the file cannot be written.
        """
        if self._writer is None:
            self._open(picture)
        if self._last is not None:
            lasted_s = (stamp_ns - self._last[1]) * 1e-9
            self._flush(min(lasted_s, LONGEST_STILL_S) if lasted_s > 0 else 0.0)
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), np.uint8)
        self._last = (picture, stamp_ns)

    def _open(self, picture: U8) -> None:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        self._size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
        self._writer = cv2.VideoWriter(self.path, cv2.VideoWriter.fourcc(*"mp4v"), self._fps, self._size)
        if not self._writer.isOpened():
            raise WorkFailed(f"film {self.path}", "a place that can be written and an OpenCV with MPEG-4",
                             "choose another folder, or set overlay.video to an empty text")

    def _flush(self, seconds: float) -> None:
        assert self._last is not None and self._writer is not None
        self._owed += seconds * self._fps
        while self._owed >= 0.5:
            self._writer.write(self._last[0])
            self._owed -= 1.0
            self.frames += 1

    def close(self) -> None:
        """Write the last picture and finish the file."""
        if self._writer is not None:
            self._flush(1.0 / self._fps)
            self._writer.release()
            self._writer = None
