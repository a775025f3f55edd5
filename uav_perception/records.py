"""Records that cross a room's wall: frozen, validated on creation, arrays read-only.

Stamps are integer nanoseconds of capture time and are the identity of a result. Boxes are
``x1, y1, x2, y2`` in source-image pixels. Frames and units are in the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import RecordError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]


def _frozen(name: str, value: Any, dtype: Any, shape: tuple[int | None, ...], finite: bool = True) -> Any:
    """Return ``value`` as a read-only array of ``dtype`` and ``shape`` (None = any length).

    An array that already fits is shared, not copied: its view is made read-only, so that a frame can be
    handed over by reference.
    """
    array = np.asarray(value, dtype=dtype)
    if array.ndim != len(shape) or any(s is not None and s != n for s, n in zip(shape, array.shape, strict=True)):
        raise RecordError(f"{name} of shape {array.shape}", f"shape {shape}", "check what made this record")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RecordError(f"{name} with NaN or infinity", "finite numbers", "check what made this record")
    view = array.view()
    view.flags.writeable = False
    return view


def _set(record: Any, name: str, value: Any) -> None:
    object.__setattr__(record, name, value)


def _stamp(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise RecordError(f"{name} {value!r}", "integer nanoseconds >= 0", "stamp frames with their capture time")
    return int(value)


@dataclass(frozen=True, eq=False)
class CameraModel:
    """Pinhole camera with OpenCV distortion; optical frame: z forward, x right, y down."""

    K: F64
    distortion: F64
    width_px: int
    height_px: int
    frame_id: str = "camera_optical"
    distortion_model: str = "plumb_bob"

    def __post_init__(self) -> None:
        _set(self, "K", _frozen("K", self.K, np.float64, (3, 3)))
        _set(self, "distortion", _frozen("distortion", self.distortion, np.float64, (None,)))
        if self.K[0, 0] <= 0 or self.K[1, 1] <= 0:
            raise RecordError(f"focal lengths {self.K[0, 0]}, {self.K[1, 1]} px", "both > 0", "calibrate the camera")
        if self.width_px < 1 or self.height_px < 1:
            raise RecordError(f"image size {self.width_px}x{self.height_px}", "at least 1x1 px", "check camera_info")


@dataclass(frozen=True, eq=False)
class Frame:
    """One image. ``image`` is (H, W, 3) uint8 BGR; ``camera`` is None while intrinsics are unknown."""

    seq: int
    stamp_ns: int
    image: U8
    camera: CameraModel | None = None
    frame_id: str = "camera_optical"

    def __post_init__(self) -> None:
        _set(self, "stamp_ns", _stamp("stamp_ns", self.stamp_ns))
        if getattr(self.image, "dtype", None) != np.uint8:
            raise RecordError(f"image dtype {getattr(self.image, 'dtype', None)}", "uint8 BGR", "convert the image")
        _set(self, "image", _frozen("image", self.image, np.uint8, (None, None, 3)))
        if self.image.size == 0:
            raise RecordError(f"image of shape {self.image.shape}", "at least one pixel", "check the source")
        if self.camera is not None and (self.camera.height_px, self.camera.width_px) != self.image.shape[:2]:
            h, w = self.image.shape[:2]
            raise RecordError(
                f"image of {w}x{h} px with intrinsics for {self.camera.width_px}x{self.camera.height_px}",
                "equal sizes",
                "give the calibration of this image size",
            )


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes of one frame; zero boxes are legal and mean "looked, saw nothing"."""

    stamp_ns: int
    xyxy_px: F32
    score: F32
    class_id: I32
    frame_id: str = "camera_optical"

    def __post_init__(self) -> None:
        _set(self, "stamp_ns", _stamp("stamp_ns", self.stamp_ns))
        _set(self, "xyxy_px", _frozen("xyxy_px", self.xyxy_px, np.float32, (None, 4)))
        n = len(self.xyxy_px)
        _set(self, "score", _frozen("score", self.score, np.float32, (n,)))
        _set(self, "class_id", _frozen("class_id", self.class_id, np.int32, (n,)))
        if (self.xyxy_px[:, 2:] < self.xyxy_px[:, :2]).any():
            raise RecordError("a box with x2 < x1 or y2 < y1", "ordered corners", "check the decoder")
        if (self.score < 0).any() or (self.score > 1).any():
            raise RecordError("a detection score outside 0..1", "0..1", "check the decoder")

    def __len__(self) -> int:
        return len(self.xyxy_px)

    @staticmethod
    def empty(stamp_ns: int, frame_id: str = "camera_optical") -> Detections:
        """Looked, saw nothing."""
        none = np.zeros((0, 4), np.float32)
        return Detections(stamp_ns, none, none[:, 0], np.zeros(0, np.int32), frame_id)


class TrackState(Enum):
    """Life of an identity."""

    TENTATIVE = "TENTATIVE"
    TRACKED = "TRACKED"
    OCCLUDED = "OCCLUDED"
    LOST = "LOST"


@dataclass(frozen=True, eq=False)
class Track:
    """One target at ``stamp_ns``; ``last_seen_ns`` is when image evidence last supported it."""

    stamp_ns: int
    id: int
    state: TrackState
    xyxy_px: F32
    velocity_px_s: F32
    score: float
    class_id: int
    last_seen_ns: int
    frame_id: str = "camera_optical"

    def __post_init__(self) -> None:
        _set(self, "stamp_ns", _stamp("stamp_ns", self.stamp_ns))
        _set(self, "last_seen_ns", _stamp("last_seen_ns", self.last_seen_ns))
        _set(self, "xyxy_px", _frozen("xyxy_px", self.xyxy_px, np.float32, (4,)))
        _set(self, "velocity_px_s", _frozen("velocity_px_s", self.velocity_px_s, np.float32, (2,)))
        if self.last_seen_ns > self.stamp_ns:
            raise RecordError(f"last_seen_ns {self.last_seen_ns} after {self.stamp_ns}", "not later", "check clocks")
        if not 0.0 <= self.score <= 1.0:
            raise RecordError(f"track score {self.score}", "0..1", "check what made this track")

    @staticmethod
    def many(stamp_ns: int, ids: ArrayLike, states: Sequence[TrackState], xyxy_px: ArrayLike, velocity_px_s: ArrayLike,
             score: ArrayLike, class_id: ArrayLike, last_seen_ns: ArrayLike, frame_id: str) -> tuple[Track, ...]:
        """One record a row, checked all at once: a crowd costs one check, not one a target."""
        n, stamp = len(states), _stamp("stamp_ns", stamp_ns)
        boxes = _frozen("xyxy_px", xyxy_px, np.float32, (n, 4))
        velocities = _frozen("velocity_px_s", velocity_px_s, np.float32, (n, 2))
        seen, scores = (np.asarray(v).reshape(n) for v in (last_seen_ns, score))
        if ((seen < 0) | (seen > stamp)).any():
            raise RecordError(f"a last_seen_ns outside 0..{stamp}", "not later than the stamp", "check clocks")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise RecordError("a track score outside 0..1", "0..1", "check what made these tracks")
        columns = (np.asarray(ids).tolist(), states, boxes, velocities, scores.tolist(), np.asarray(class_id).tolist(),
                   seen.tolist())
        tracks = []
        for row in zip(*columns, strict=True):
            track = object.__new__(Track)
            vars(track).update(zip(_TRACK_FIELDS, (stamp, *row, frame_id), strict=True))
            tracks.append(track)
        return tuple(tracks)


_TRACK_FIELDS = tuple(f.name for f in fields(Track))


class Scale(Enum):
    """METRIC: metres. UNIT: lengths are in an unknown unit."""

    METRIC = "METRIC"
    UNIT = "UNIT"


@dataclass(frozen=True, eq=False)
class _Depth:
    stamp_ns: int
    depth: F32
    valid: Bool
    camera: CameraModel

    def __post_init__(self) -> None:
        _set(self, "stamp_ns", _stamp("stamp_ns", self.stamp_ns))
        _set(self, "depth", _frozen("depth", self.depth, np.float32, (None, None), finite=False))
        _set(self, "valid", _frozen("valid", self.valid, np.bool_, self.depth.shape))
        inside = self.depth[self.valid]
        if inside.size and not (np.isfinite(inside).all() and (inside > 0).all()):
            raise RecordError("a valid depth that is not finite and > 0", "finite positive depth", "mask it out")


@dataclass(frozen=True, eq=False)
class DepthMap(_Depth):
    """Metres along the optical axis, (H, W) float32; pixels with ``valid`` False carry no information."""


@dataclass(frozen=True, eq=False)
class RelativeDepth(_Depth):
    """Depth up to an unknown positive factor: another type, so that it can never pass as metres."""


@dataclass(frozen=True, eq=False)
class Obstacles:
    """Horizontal distance to the nearest obstacle in equal sectors around the vehicle, in metres.

    Sector 0 is centred on the body's forward axis; the count goes clockwise seen from above. ``distance_m`` (N,)
    float32: NaN = not looked at, infinite = nothing between ``min_m`` and ``max_m``.
    """

    stamp_ns: int
    distance_m: F32
    min_m: float
    max_m: float

    def __post_init__(self) -> None:
        _set(self, "stamp_ns", _stamp("stamp_ns", self.stamp_ns))
        _set(self, "distance_m", _frozen("distance_m", self.distance_m, np.float32, (None,), finite=False))
        if not (0 <= self.min_m < self.max_m < np.inf and len(self.distance_m)):
            raise RecordError(f"{len(self.distance_m)} sectors from {self.min_m} to {self.max_m} m",
                              "at least one, 0 <= min_m < max_m", "check what made this record")
        if (self.distance_m < 0).any():
            raise RecordError("a negative distance", "distances >= 0", "check what made this record")


@dataclass(frozen=True, eq=False)
class EgoMotion:
    """Camera motion between two stamps: ``to_from`` maps points of the earlier optical frame to the later.

    ``x_to = to_from @ x_from``. The translation is in metres when ``scale`` is METRIC; when UNIT it is
    in the unknown unit of this run. ``covariance`` is (6, 6), order translation then rotation vector.
    """

    from_ns: int
    to_ns: int
    to_from: F64
    covariance: F64 | None
    scale: Scale
    inliers: int

    def __post_init__(self) -> None:
        _set(self, "from_ns", _stamp("from_ns", self.from_ns))
        _set(self, "to_ns", _stamp("to_ns", self.to_ns))
        if self.to_ns <= self.from_ns:
            raise RecordError(f"motion from {self.from_ns} to {self.to_ns}", "a later stamp", "drop late frames")
        _set(self, "to_from", _frozen("to_from", self.to_from, np.float64, (4, 4)))
        rotation = self.to_from[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6) or np.linalg.det(rotation) < 0:
            raise RecordError("a to_from that is no rigid motion", "an SE(3) matrix", "re-orthonormalise the rotation")
        if self.covariance is not None:
            _set(self, "covariance", _frozen("covariance", self.covariance, np.float64, (6, 6)))


@dataclass(frozen=True, eq=False)
class Pose:
    """Pose of ``child`` in ``parent``: position in metres (or units when ``scale`` is UNIT), quaternion wxyz."""

    stamp_ns: int
    parent: str
    child: str
    position_m: F64
    quaternion_wxyz: F64
    covariance: F64 | None
    reset_counter: int
    scale: Scale = Scale.UNIT

    def __post_init__(self) -> None:
        _set(self, "stamp_ns", _stamp("stamp_ns", self.stamp_ns))
        _set(self, "position_m", _frozen("position_m", self.position_m, np.float64, (3,)))
        _set(self, "quaternion_wxyz", _frozen("quaternion_wxyz", self.quaternion_wxyz, np.float64, (4,)))
        if abs(float(np.linalg.norm(self.quaternion_wxyz)) - 1.0) > 1e-6:
            raise RecordError(f"quaternion norm {np.linalg.norm(self.quaternion_wxyz):.6f}", "1", "normalise it")
        if self.covariance is not None:
            _set(self, "covariance", _frozen("covariance", self.covariance, np.float64, (6, 6)))


@dataclass(frozen=True, eq=False)
class DepthPoseResult:
    """Everything the depth/pose stage says about one frame; None means unknown, never zero."""

    stamp_ns: int
    depth: DepthMap | RelativeDepth | None = None
    ego_motion: EgoMotion | None = None
    pose: Pose | None = None
    motion_mask: Bool | None = None  # (H, W), True where the image moves against the rigid scene
    flow_px: F32 | None = None  # (H, W, 2) rigid flow from the previous frame to this one
    prev_to_cur: F64 | None = None  # (3, 3) homography of the dominant plane, previous pixels to current pixels
    status: str = ""  # one line a person reads in diagnostics: why something above is None
    scene_flow_m_s: dict[int, F64] = field(default_factory=dict)  # track id -> (3,) in the camera frame


@dataclass(frozen=True, eq=False)
class TargetStatus:
    """The operator's lock. "No target", "too old" and "failed" are different things and stay so.

    ``state`` is NONE (nothing locked), ACQUIRING (asked for, not yet started), LOCKED (image evidence in this frame),
    OCCLUDED, LOST, FAILED (the tracker itself failed). ``track`` is None unless a box exists.
    """

    stamp_ns: int
    state: str
    track: Track | None
    quality: float
    age_ns: int
    message: str = ""

    STATES = ("NONE", "ACQUIRING", "LOCKED", "OCCLUDED", "LOST", "FAILED")

    def __post_init__(self) -> None:
        if self.state not in self.STATES:
            raise RecordError(f"target state {self.state!r}", f"one of {', '.join(self.STATES)}", "check the tracker")
