"""Truth beside frames: what is known of one frame, whoever wrote it down (docs/truth.md).

Boxes and depth are joined to frames by stamp while both stream past, so a bag's length costs no memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..camera.bag import header_ns
from ..camera.bagfile import BagFile, RawMessage
from ..errors import BagError
from ..geometry import BODY_FROM_OPTICAL, matrix_from_quaternion, quaternion_from_matrix
from ..records import F32, F64, Bool
from . import messages as msg

T = TypeVar("T")
Reader = Callable[[BagFile, RawMessage], tuple[int, T]]  # stamp in ns and what the message says
_WINDOW = 128  # messages kept at most: some come a little out of order


@dataclass(frozen=True)
class BoxTruth:
    """Objects of one frame: (N, 4) xyxy px, identities ("" = unknown), class names and visibilities 0..1."""

    xyxy_px: F64
    ids: list[str]
    names: list[str]
    visibility: F64


@dataclass(frozen=True)
class PoseTruth:
    """``world_from_camera`` (optical frame) at ``stamps_ns`` (N,), ascending: (N, 3) m and (N, 4) wxyz."""

    stamps_ns: NDArray[np.int64]
    position_m: F64
    quaternion_wxyz: F64


class Truth(Protocol):
    """Asked once a frame, in order of stamps; None = nothing is known of this frame."""

    kinds: frozenset[str]  # of "boxes", "depth", "poses"

    def boxes(self, stamp_ns: int) -> BoxTruth | None: ...

    def depth(self, stamp_ns: int) -> tuple[F32, Bool] | None: ...

    def recorded_detections(self, stamp_ns: int) -> BoxTruth | None: ...

    def height_agl_m(self, stamp_ns: int) -> float | None: ...

    def poses(self) -> PoseTruth | None: ...

    def close(self) -> None: ...


class NoTruth:
    """A recording of which nothing more is known; the base of those of which something is."""

    kinds: frozenset[str] = frozenset()

    def boxes(self, stamp_ns: int) -> BoxTruth | None:
        return None

    def depth(self, stamp_ns: int) -> tuple[F32, Bool] | None:
        return None

    def recorded_detections(self, stamp_ns: int) -> BoxTruth | None:
        return None

    def height_agl_m(self, stamp_ns: int) -> float | None:
        return None

    def poses(self) -> PoseTruth | None:
        return None

    def close(self) -> None:
        pass


class Stream(Generic[T]):
    """Messages of one topic, asked for by ascending stamps; keeps what a later frame may still need."""

    def __init__(self, items: Iterator[tuple[int, T]]) -> None:
        self._items = items
        self._window: dict[int, T] = {}
        self._newest_ns = -1

    def near(self, stamp_ns: int, tolerance_ns: int) -> T | None:
        """The item whose stamp is nearest to ``stamp_ns``, if within the tolerance."""
        self._move(stamp_ns - tolerance_ns, stamp_ns + tolerance_ns)
        best = min(self._window, key=lambda s: abs(s - stamp_ns), default=None)
        return self._window[best] if best is not None and abs(best - stamp_ns) <= tolerance_ns else None

    def before(self, stamp_ns: int, age_ns: int) -> T | None:
        """The newest item not after ``stamp_ns`` and not older than ``age_ns``."""
        self._move(stamp_ns - age_ns, stamp_ns)
        best = max((s for s in self._window if s <= stamp_ns), default=None)
        return self._window[best] if best is not None and stamp_ns - best <= age_ns else None

    def _move(self, from_ns: int, past_ns: int) -> None:
        """Read on past ``past_ns``, and forget what is older than ``from_ns``."""
        while self._newest_ns <= past_ns and (item := next(self._items, None)) is not None:
            self._window[item[0]] = item[1]
            self._newest_ns = max(self._newest_ns, item[0])
            if len(self._window) > _WINDOW:
                del self._window[next(iter(self._window))]
        for stamp_ns in [s for s in self._window if s < from_ns]:
            del self._window[stamp_ns]


class BagTruth(NoTruth):
    """Truth topics of a bag: any namespace, ``truth`` or ``ground_truth``."""

    _HEIGHT_AGE_NS = 500_000_000

    def __init__(self, path: Path, tolerance_ns: int) -> None:
        self._path, self._tolerance_ns = path, tolerance_ns
        self._bags: list[BagFile] = []
        with BagFile(path) as bag:
            self.mismatched = bag.mismatched()
            topics = {t.name: t.msgtype for t in bag.topics.values()
                      if t.count and not any(m.startswith(f"{t.name} (") for m in self.mismatched)}
        self._boxes = self._stream(_find(topics, "truth/boxes", msg.BOXES), _boxes)
        depth_topic = _find(topics, "truth/depth/compressedDepth", msg.COMPRESSED) or _find(
            topics, "truth/depth", msg.IMAGE)
        self._depth = self._stream(depth_topic, _stamped(lambda m: m))
        self._height = self._stream(_find(topics, "height_agl", msg.RANGE), _stamped(lambda m: float(m.range)))
        self._detections = self._stream(_find(topics, "detections", msg.BOXES), _boxes)
        self._pose_topic = (_find(topics, "truth/pose", msg.POSE) or _find(topics, "truth/odometry", msg.ODOMETRY)
                            or _find(topics, "truth/odom", msg.ODOMETRY))
        known = {"boxes": self._boxes, "depth": self._depth, "poses": self._pose_topic}
        self.kinds = frozenset(k for k, v in known.items() if v)

    def _stream(self, topic: str, read: Reader[T]) -> Stream[T] | None:
        if not topic:
            return None
        bag = BagFile(self._path)  # a reader of its own: streams advance independently of each other
        self._bags.append(bag)

        def items() -> Iterator[tuple[int, T]]:
            for raw in bag.messages([topic]):
                try:
                    stamp_ns, item = read(bag, raw)
                    yield stamp_ns or raw.bag_ns, item
                except BagError:
                    continue  # a broken truth message is a frame without truth

        return Stream(items())

    def boxes(self, stamp_ns: int) -> BoxTruth | None:
        return self._boxes.near(stamp_ns, self._tolerance_ns) if self._boxes else None

    def recorded_detections(self, stamp_ns: int) -> BoxTruth | None:
        return self._detections.near(stamp_ns, self._tolerance_ns) if self._detections else None

    def depth(self, stamp_ns: int) -> tuple[F32, Bool] | None:
        found = self._depth.near(stamp_ns, self._tolerance_ns) if self._depth else None
        try:
            return msg.read_depth(found) if found is not None else None
        except BagError:
            return None

    def height_agl_m(self, stamp_ns: int) -> float | None:
        height = self._height.before(stamp_ns, self._HEIGHT_AGE_NS) if self._height else None
        return height if height is not None and np.isfinite(height) and height > 0 else None

    def poses(self) -> PoseTruth | None:
        if not self._pose_topic:
            return None
        stamps, values = array("q"), array("d")  # position and quaternion: odometry may come at hundreds of Hz
        with BagFile(self._path) as bag:
            for raw in bag.messages([self._pose_topic]):
                try:
                    message = bag.decode(raw)
                except BagError:
                    continue
                stamp_ns, position, quaternion = msg.read_pose(message)
                if not 0.5 < np.linalg.norm(quaternion) < 2.0 or not np.isfinite(position).all():
                    continue
                if raw.msgtype == msg.ODOMETRY and not message.child_frame_id.endswith("optical"):  # body FLU
                    quaternion = quaternion_from_matrix(matrix_from_quaternion(quaternion) @ BODY_FROM_OPTICAL)
                stamps.append(stamp_ns)
                values.extend((*position, *quaternion / np.linalg.norm(quaternion)))
        if not stamps:
            return None
        known, order = np.unique(np.frombuffer(stamps, np.int64), return_index=True)
        rows = np.frombuffer(values).reshape(-1, 7)[order]
        return PoseTruth(known, rows[:, :3], rows[:, 3:])

    def close(self) -> None:
        for bag in self._bags:
            bag.close()


def _boxes(_: BagFile, raw: RawMessage) -> tuple[int, BoxTruth]:
    stamp_ns, found = msg.read_boxes(raw.data)
    return stamp_ns, BoxTruth(*found)


def _stamped(read: Callable[[Any], T]) -> Reader[T]:
    """A reader by way of a message object that has a header."""

    def stamped(bag: BagFile, raw: RawMessage) -> tuple[int, T]:
        message = bag.decode(raw)
        return header_ns(message.header), read(message)

    return stamped


def _find(topics: dict[str, str], ending: str, msgtype: str) -> str:
    """The first topic of this type whose last parts are ``ending``; ``ground_truth`` counts as ``truth``."""
    wanted = ending.split("/")
    for name in sorted(topics):
        parts = ["truth" if p in ("ground_truth", "groundtruth", "gt") else p for p in name.strip("/").split("/")]
        is_truth = "truth" in parts
        if topics[name] == msgtype and parts[-len(wanted):] == wanted and is_truth == ("truth" in wanted):
            return name
    return ""
