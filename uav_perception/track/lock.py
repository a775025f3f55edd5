"""The operator's lock: one target followed by the full target tracker, its identity stable until release.

States of ``TargetStatus``: NONE (nothing locked), ACQUIRING (asked for; the next frame will tell), LOCKED (this frame's
image supports the box), OCCLUDED (it does not; the box is predicted), LOST (no box), FAILED (the tracker itself broke;
the operator has to lock again).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from ..errors import RecordError
from ..records import Detections, Frame, TargetStatus, Track, TrackState
from . import TargetTracker
from .camera_motion import CameraStep
from .target import checked_start_box

_STATE_OF = {TrackState.TENTATIVE: "ACQUIRING", TrackState.TRACKED: "LOCKED", TrackState.OCCLUDED: "OCCLUDED",
             TrackState.LOST: "LOST"}


class TargetLock:
    """Holds at most one target; ``make`` builds its tracker when the first lock needs it (it may load a network)."""

    def __init__(self, make: Callable[[], TargetTracker], lost_s: float) -> None:
        self._make, self._lost_s = make, lost_s
        self.doubted = False  # what the tracker holds is not believed until something else confirms it
        self._tracker: TargetTracker | None = None
        self._track: Track | None = None
        self._state, self._message = "NONE", ""
        self._stamp_ns = 0
        self._seen: deque[Track] = deque(maxlen=256)  # where the image supported the target, oldest first

    @property
    def track_id(self) -> int | None:
        """Identity of the locked target; kept while OCCLUDED, LOST and FAILED, None when nothing is locked."""
        return self._track.id if self._track is not None else None

    def at(self, stamp_ns: int) -> Track | None:
        """The target as its tracker saw it in the frame of this stamp; None when it did not."""
        return next((t for t in reversed(self._seen) if t.stamp_ns == stamp_ns), None)

    @property
    def status(self) -> TargetStatus:
        """The lock as of the newest frame. LOST and FAILED carry no box: none would be true."""
        boxed = self._track is not None and self._state in ("ACQUIRING", "LOCKED", "OCCLUDED")
        age_ns = self._stamp_ns - self._track.last_seen_ns if self._track is not None else 0
        quality = self._track.score if self._track is not None and boxed else 0.0
        return TargetStatus(self._stamp_ns, self._state, self._track if boxed else None, quality, max(0, age_ns),
                            self._message)

    @property
    def last_seen_ns(self) -> int:
        """When the target was last seen; the newest stamp where nothing is locked."""
        status = self.status
        return status.stamp_ns - status.age_ns

    def start(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int, class_id: int) -> None:
        """Lock what is in the box of ``frame``.

        Raises:
            InputError: the box cannot be locked (what was locked before stays locked).
        """
        box = checked_start_box(box_xyxy_px, frame)
        if self._tracker is None:
            self._tracker = self._make()
        self._track = self._tracker.start(frame, box, track_id, class_id)
        self._state, self._message, self._stamp_ns = "ACQUIRING", "", frame.stamp_ns
        self.doubted = False
        self._seen.clear()

    def release(self) -> None:
        """Lock nothing."""
        self._track, self._state, self._message = None, "NONE", ""
        self._seen.clear()

    def lose(self, stamp_ns: int, why: str) -> None:
        """The scene is another one: what was locked cannot be followed."""
        self._stamp_ns = stamp_ns
        if self._track is not None:
            self._state, self._message = "LOST", why

    @property
    def searching(self) -> bool:
        """Whether a target is locked, out of sight, and may be found again in this scene."""
        return self._state == "OCCLUDED" or (self._state == "LOST" and not self._message)

    def doubt(self) -> None:
        """What its tracker holds is not the target: OCCLUDED until something else confirms it."""
        if self._tracker is not None and self._track is not None and self._state in ("ACQUIRING", "LOCKED"):
            self._tracker.doubt()
            self._track, self._state = replace(self._track, state=TrackState.OCCLUDED), "OCCLUDED"
            self.doubted = True

    def believe(self, until_ns: int | None) -> None:
        """Until when others saw the target where its tracker sees it, if they do not any more."""
        if self._tracker is not None:
            self._tracker.believe(until_ns)

    def may_be(self, track: Track) -> bool:
        """Whether the target, out of sight, can have come to where this track is."""
        return self._tracker is None or self._tracker.may_be(track)

    @property
    def sure(self) -> bool:
        """Its tracker has plainly seen the target itself for some time."""
        return self._tracker is not None and self._tracker.sure

    def corroborate(self) -> None:
        """Something else sees the target where its tracker does."""
        self.doubted = False

    def update(self, frame: Frame, detections: Detections | None, others_xyxy_px: ArrayLike | None = None,
               newcomers: Sequence[Track] = (), camera: CameraStep | None = None) -> None:
        """Follow the target into ``frame``; ``camera``: what the camera did since the last one.

        ``detections`` (at this frame's stamp) help to find it again, where it is not known that it is another
        (``others_xyxy_px``) or among the ``newcomers``.
        """
        self._stamp_ns = frame.stamp_ns
        following = self._state in ("ACQUIRING", "LOCKED") or self.searching
        if not following or self._tracker is None or self._track is None:
            return
        try:
            track = self._tracker.update(frame, detections, others_xyxy_px, newcomers, camera)
        except Exception as e:  # whatever an engine throws: the identities of the others must go on
            self._state = "FAILED"
            self._message = f"target tracker failed: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
            return
        if track.id != self._track.id:
            raise RecordError(f"target tracker changed id {self._track.id} to {track.id}", "a stable id",
                              "fix the tracker")
        if track.state is TrackState.TRACKED and track.last_seen_ns < frame.stamp_ns:
            track = replace(track, state=TrackState.OCCLUDED)  # LOCKED means: in this image
        if track.state is TrackState.TRACKED:
            self._seen.append(track)
            if self.doubted:
                gone = frame.stamp_ns - self._track.last_seen_ns > self._lost_s * 1e9
                track = replace(track, state=TrackState.LOST if gone else TrackState.OCCLUDED,
                                last_seen_ns=self._track.last_seen_ns)
        self._track, self._state, self._message = track, _STATE_OF[track.state], ""
