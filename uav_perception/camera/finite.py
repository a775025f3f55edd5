"""Sources that end (folders, videos, bags): paced like a camera, or as fast as they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..config import CameraConfig
from ..errors import SourceError
from ..records import U8, CameraModel, Frame
from .frames import FrameMaker, WallClock


@dataclass(frozen=True)
class Picture:
    """One picture that is not decoded yet, with its own stamp."""

    stamp_ns: int
    decode: Callable[[], U8]
    camera: CameraModel | None = None
    frame_id: str = ""


class PictureSource(Protocol):
    """What a finite source offers: its pictures from the start, any number of times."""

    def pictures(self) -> Iterable[Picture]: ...

    def notes(self) -> str: ...

    def close(self) -> None: ...


class FiniteCamera:
    """A CameraSource over pictures.

    With ``realtime`` it behaves like a camera: pictures come when they are due and are stamped as captured *now* (the
    differences of stamps are the source's own), and when decoding falls more than a picture behind, pictures are
    skipped undecoded and counted in ``skipped``. Otherwise every picture comes at once with its own stamp.
    Pictures that cannot be decoded are left out and counted in ``unreadable``.
    """

    def __init__(self, source: PictureSource, config: CameraConfig) -> None:
        self._source, self._config = source, config
        self._maker = FrameMaker(config)
        self._clock = WallClock()
        self._pictures = iter(source.pictures())
        self._pending: Picture | None = None
        self._frame: Frame | None = None  # decoded and waiting for its time
        self._shift_ns: int | None = None  # stamp given out = own stamp + shift
        self._last_ns = -1
        self._period_ns = round(1e9 / config.fps)
        self._error = ""
        self._problem = ""
        self.ended = False
        self.skipped = 0
        self.unreadable = 0

    @property
    def recording(self) -> Path | None:
        """The bag these pictures come from; None for videos and folders."""
        bag = getattr(self._source, "bag", None)
        return bag.path if bag is not None else None

    @property
    def shift_ns(self) -> int:
        """What was added to the recording's own stamps; 0 before the first frame."""
        return self._shift_ns or 0

    @property
    def status(self) -> str:
        parts = [self._source.notes(), self._maker.note, self._problem]
        parts += [f"skipped {self.skipped} frames: decoding is slower than real time"] * bool(self.skipped)
        parts += [f"{self.unreadable} unreadable frames left out, the last: {self._error}"] * bool(self.unreadable)
        return "; ".join(p for p in parts if p) or ("ended" if self.ended else "ok")

    def read(self, timeout_s: float) -> Frame | None:
        deadline = time.monotonic() + timeout_s
        while not self.ended:
            if self._frame is None:
                self._frame = self._next_frame()
                if self._frame is None:
                    break
            wait_s = (self._frame.stamp_ns - self._clock.now_ns()) * 1e-9 if self._config.realtime else 0.0
            left_s = deadline - time.monotonic()
            if wait_s > max(left_s, 0.0):
                time.sleep(max(left_s, 0.0))
                return None
            if wait_s > 0:
                time.sleep(wait_s)
            frame, self._frame = self._frame, None
            return frame
        return None

    def close(self) -> None:
        self.ended = True
        self._frame = None
        self._source.close()

    def _next_frame(self) -> Frame | None:
        while (picture := self._next_picture()) is not None:
            if self._shift_ns is None:
                self._shift_ns = self._clock.now_ns() - picture.stamp_ns if self._config.realtime else 0
            stamp_ns = picture.stamp_ns + self._shift_ns
            if self._last_ns >= 0:
                self._period_ns = stamp_ns - self._last_ns
            late = self._config.realtime and self._last_ns >= 0 and stamp_ns + self._period_ns < self._clock.now_ns()
            self._last_ns = stamp_ns
            if late:
                self.skipped += 1
                continue
            try:
                return self._maker.frame(picture.decode(), stamp_ns, picture.camera, picture.frame_id)
            except SourceError as e:
                self.unreadable, self._error = self.unreadable + 1, str(e)
        self.ended = True
        return None

    def _next_picture(self) -> Picture | None:
        for attempt in range(2):
            try:
                picture = next(self._pictures, None)
            except SourceError as e:
                self._problem, picture = str(e), None
            if picture is not None or not self._config.loop or self._problem or attempt:
                return picture
            self._pictures = iter(self._source.pictures())
            first = next(self._pictures, None)
            if first is None:
                return None
            self._shift_ns = self._last_ns + self._period_ns - first.stamp_ns  # stamps go on across the seam
            self._pictures = _chain(first, self._pictures)
        return None


def _chain(first: Picture, rest: Iterator[Picture]) -> Iterator[Picture]:
    yield first
    yield from rest
