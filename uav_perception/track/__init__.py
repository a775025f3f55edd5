"""Trackers: one target (the operator's lock) and many (identities)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from numpy.typing import ArrayLike

from ..records import F32, Detections, Frame, TargetStatus, Track

if TYPE_CHECKING:
    from .camera_motion import CameraStep, Flow


@dataclass(frozen=True)
class Ahead:
    """What a tracker can know of a frame before it is through with the frames before: how the picture flows from the
    last one, and how what was detected looks ((N, D); None where that is not known)."""

    flow: Flow
    looks: F32 | None


@runtime_checkable
class TargetTracker(Protocol):
    """One target, one-pass. ``start`` may be called again to begin anew.

    ``update`` never raises on bad frames: it says OCCLUDED or LOST. The returned track's ``score`` is its quality
    0..1 and ``last_seen_ns`` the last frame whose image supported the box. ``detections`` help to find a lost target;
    ``others_xyxy_px`` (N, 4) are known to be something else, while ``newcomers`` came into sight since the target was
    last seen; ``camera`` is what the camera did since the last frame, where it is measured already (then for every
    frame). ``believe`` says until when others saw the target where it saw it, if they do not any more (None: nothing
    speaks against it), ``doubt`` that what it holds is not its target. ``may_be`` tells whether the target, out of
    sight, can have come to where a track is; ``sure`` that it has plainly seen its target itself for some time.
    """

    def start(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int = 0, class_id: int = -1) -> Track: ...

    def update(self, frame: Frame, detections: Detections | None = None, others_xyxy_px: ArrayLike | None = None,
               newcomers: Sequence[Track] = (), camera: CameraStep | None = None) -> Track: ...

    def believe(self, until_ns: int | None) -> None: ...

    def doubt(self) -> None: ...

    def may_be(self, track: Track) -> bool: ...

    @property
    def sure(self) -> bool: ...


@runtime_checkable
class TrackerStage(Protocol):
    """Many targets with identities, and at most one locked target.

    ``update`` is called for every camera frame; ``detections`` is None where the detector skipped the frame (and an
    empty record where it looked and saw nothing). ``look_ahead`` asks no target: where it is called for every frame in
    order, it may run on another thread, frames ahead of ``update``, which does it itself where it is not given.
    ``lock_*`` raise InputError when nothing is there to lock.
    """

    def look_ahead(self, frame: Frame, detections: Detections | None) -> Ahead: ...

    def update(self, frame: Frame, detections: Detections | None, ahead: Ahead | None = None) -> tuple[Track, ...]: ...

    @property
    def target(self) -> TargetStatus: ...

    def lock_id(self, track_id: int) -> None: ...

    def lock_box(self, box_xyxy_px: ArrayLike) -> None: ...

    def lock_point(self, x_px: float, y_px: float) -> None: ...

    def release(self) -> None: ...
