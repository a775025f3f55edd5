"""The tracker stage: camera motion, many identities, and the operator's lock, once for every camera frame.

What odd input does (never an exception out of ``update``):

- a frame as old as or a little older than the newest: ignored, no tracks are returned for it;
- time far backwards, or another image size: all tracks are dropped, the lock is LOST with a message that says why;
- black or blank frames: camera motion unknown, uncertainty grows, unseen targets become OCCLUDED, then LOST;
- frozen pictures (bit for bit the same): detections in them are ``refused``, the lock is OCCLUDED, then LOST;
- detections older than ``history_s`` or not newer than the last ones used: counted in ``refused`` and not used;
- detections of a newer frame than this one: kept until that frame comes.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ..config import LsartConfig, TrackerConfig
from ..errors import InputError
from ..geometry import box_iou
from ..records import F32, F64, Detections, Frame, TargetStatus, Track, TrackState
from . import Ahead, TargetTracker, appearance, kalman, selection
from .budget import Budget
from .camera_motion import NO_FLOW, CameraStep, CornerFlow, Flow, MotionHistory, camera_step
from .corroboration import Corroboration
from .fit import Fit, near_border
from .intake import Intake
from .lock import TargetLock
from .many import ManyTracker
from .target import checked_start_box

BESIDE = 0.05  # overlap from which a detection may be of the same thing


class Tracker:
    """``TrackerStage`` of the package."""

    def __init__(self, config: TrackerConfig, make_target: Callable[[], TargetTracker]) -> None:
        self._c = config
        self._many = ManyTracker(config)
        self._lock = TargetLock(make_target, config.relock_max_s)
        self._flow = CornerFlow(config.camera_motion_width_px, config.camera_motion_corners)
        self._flown: Frame | None = None  # the last one of the flow
        self._history = MotionHistory()
        self._intake = Intake(config.backwards_s, config.history_s)
        self._tracks: tuple[Track, ...] = ()
        self._corroboration = Corroboration(config.lock_iou)
        self._fit = Fit(config.lock_iou, config.relock_looks)
        self._budget = Budget(config.budget_ms)

    @property
    def shed(self) -> int:
        """Level of degradation: 0 all, 1 no appearance, 2 coarser camera motion as well."""
        return self._budget.shed

    @property
    def target(self) -> TargetStatus:
        return self._lock.status

    @property
    def refused(self) -> Counter[str]:
        """How many frames and detections were not used, by why."""
        return self._intake.refused

    def look_ahead(self, frame: Frame, detections: Detections | None) -> Ahead:
        return Ahead(self._follow(frame), None if detections is None else self._described(frame, detections))

    def update(self, frame: Frame, detections: Detections | None, ahead: Ahead | None = None) -> tuple[Track, ...]:
        started = time.perf_counter_ns()
        if self._intake.refuses(frame):
            return ()
        another = self._intake.another_stream(frame)
        if another:
            self._restart(frame.stamp_ns, another)
        step = self._see(frame, self._follow(frame) if ahead is None else ahead.flow)
        usable = self._intake.usable(detections, self._many.look_ns)
        unseen_s = self._lock.status.age_ns / 1e9
        self._many.kept_id = self._lock.track_id if unseen_s < self._c.relock_max_s else None
        before = self._beside_lock(frame.stamp_ns)
        known, searched, seen_ns = self._identities(before), self._lock.searching, self._lock.last_seen_ns
        carried = self._carried(usable, frame)
        self._lock.update(frame, carried, known[1], self._newcomers(before),
                          step if self._c.camera_motion else None)
        if searched and self._lock.status.state == "LOCKED":
            self._corroboration.found_again(seen_ns)
            self._fit.begin(True)
        if usable is not None:
            if usable.stamp_ns != frame.stamp_ns:
                known = self._identities(self._beside_lock(usable.stamp_ns))
            self._look(usable, *known, None if ahead is None or usable is not detections else ahead.looks)
        tracks = self._many_at(frame.stamp_ns)
        self._relock(frame, tracks)
        self._show_whole(frame, carried)
        self._tracks = self._with_lock(tracks)
        best = selection.surest(self._tracks) if self._c.auto_lock and self._lock.track_id is None else None
        if best is not None:
            self._lock_track(best)
        self._budget.took((time.perf_counter_ns() - started) / 1e6)
        return self._tracks

    def lock_id(self, track_id: int) -> None:
        self._lock_track(selection.by_id(self._tracks, track_id))

    def lock_box(self, box_xyxy_px: ArrayLike) -> None:
        frame = self._intake.newest()
        box = checked_start_box(box_xyxy_px, frame)
        track = selection.by_box(self._tracks, box, self._c.lock_iou)
        if track is not None:
            self._begin(frame, box, track.id, track.class_id)
        else:
            self._begin(frame, box, self._many.new_id(), -1)

    def lock_point(self, x_px: float, y_px: float) -> None:
        self._lock_track(selection.by_point(self._tracks, x_px, y_px, _size_px(self._intake.newest())))

    def _lock_track(self, track: Track) -> None:
        self._begin(self._intake.newest(), track.xyxy_px, track.id, track.class_id)

    def _begin(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int, class_id: int) -> None:
        self._lock.start(frame, box_xyxy_px, track_id, class_id)
        self._fit.begin(near_border(box_xyxy_px, _size_px(frame)))
        self._corroboration.start()

    def release(self) -> None:
        self._lock.release()

    def _follow(self, frame: Frame) -> Flow:
        """How the picture flows from the last frame that was not late to this one; knows nothing of targets."""
        last = self._flown
        if not self._c.camera_motion or (last is not None and self._intake.late(frame, last)):
            return NO_FLOW
        if last is not None and frame.stamp_ns <= last.stamp_ns:
            self._flow.reset()
        self._flown = frame
        return self._flow.follow(frame.image, self._c.camera_motion_width_px // (2 if self.shed >= 2 else 1))

    def _restart(self, stamp_ns: int, why: str) -> None:
        self._many.reset()
        self._history = MotionHistory()
        self._intake.reset()
        self._tracks = ()
        self._lock.lose(stamp_ns, f"{why}; lock again")

    def _see(self, frame: Frame, flow: Flow) -> CameraStep:
        """Take the frame; what the camera did since the last one."""
        step = camera_step(flow, np.array([t.xyxy_px for t in self._tracks]).reshape(-1, 4))
        self._history.append(frame.stamp_ns, step)
        horizon_ns = self._intake.take(frame)
        if self._many.look_ns is not None and self._many.look_ns < horizon_ns:  # the detector has fallen silent
            self._advance(horizon_ns)
            self._many.lose_unseen(horizon_ns, looks_missed=0)
        self._history.forget_before(horizon_ns)
        return step

    def _carried(self, detections: Detections | None, frame: Frame) -> Detections | None:
        """Detections where they are in ``frame`` if only the camera moved since."""
        if detections is None or detections.stamp_ns == frame.stamp_ns or not len(detections):
            return detections
        to_from, _ = self._history.between(detections.stamp_ns, frame.stamp_ns)
        mean, cov = kalman.initiate(detections.xyxy_px, self._many.noise)
        boxes = kalman.centre_to_box(kalman.warp(mean, cov, to_from)[0])
        return replace(detections, stamp_ns=frame.stamp_ns, xyxy_px=boxes.astype(np.float32))

    def _look(self, detections: Detections, own: F64, others: F64, looks: F32 | None) -> None:
        """Give detections to the identities, whose boxes then are ``own`` and ``others`` (see ``_identities``).

        The locked target is where its own tracker saw it, unless the detector sees nothing there but the same identity
        elsewhere: then that goes its own way, and ``_relock`` decides.
        """
        self._advance(detections.stamp_ns)
        target = self._lock.status.track
        if (target is not None and target.state is TrackState.OCCLUDED and not self._lock.doubted
                and target.stamp_ns == detections.stamp_ns):
            self._many.expect(target.id, target.xyxy_px)
        locked = self._lock.at(detections.stamp_ns)
        if locked is not None:
            seen = detections.xyxy_px.astype(np.float64)
            confirmed = self._corroboration.look(detections.stamp_ns, locked.xyxy_px.astype(np.float64), own, others,
                                                  seen)
            self._lock.believe(self._corroboration.believed_until_ns)
            if confirmed:
                self._lock.corroborate()
            elif self._corroboration.refuted and (self._corroboration.on_another or not self._lock.sure):
                self._lock.doubt()
            elsewhere = self._corroboration.on_another or self._lock.doubted or self._many.vouched(locked.id)
            beside = not confirmed and (box_iou(locked.xyxy_px, seen) > BESIDE).any()  # sliding off it?
            if confirmed or not (elsewhere or beside):
                self._many.pin(locked.id, locked.xyxy_px, locked.class_id)
        if looks is None and not self.shed:
            frame = self._intake.at(detections.stamp_ns)
            looks = None if frame is None else self._described(frame, detections)
        self._many.look(detections, looks, _size_px(self._intake.newest()))

    def _beside_lock(self, stamp_ns: int) -> tuple[Track, ...]:
        """All identities at ``stamp_ns``; none where nothing is locked, for then nobody asks."""
        return self._many_at(stamp_ns) if self._lock.track_id is not None else ()

    def _identities(self, tracks: tuple[Track, ...]) -> tuple[F64, F64]:
        """Boxes in ``tracks`` of the locked identity (0 or 1, 4) and of the established others (N, 4).

        What was first seen after the target was last seen, or surely seen, may be the target.
        """
        unsure_ns = self._corroboration.unsure_since_ns
        locked_id = self._lock.track_id
        known = self._many.established(self._lock.last_seen_ns if unsure_ns is None else unsure_ns)
        own = [t.xyxy_px for t in tracks if t.id == locked_id]
        others = [t.xyxy_px for t in tracks if t.id != locked_id and t.id in known]
        return _boxes(own), _boxes(others)

    def _newcomers(self, tracks: tuple[Track, ...]) -> tuple[Track, ...]:
        """Those of ``tracks`` that came into sight since the target, which is searched for, was last seen."""
        if not self._lock.searching:
            return ()
        new = self._many.newcomers(self._lock.last_seen_ns)
        return tuple(t for t in tracks if t.id in new)

    def _many_at(self, stamp_ns: int) -> tuple[Track, ...]:
        frame = self._intake.newest()
        return self._many.tracks(stamp_ns, *self._since_look(stamp_ns), _size_px(frame), frame.frame_id)

    def _advance(self, stamp_ns: int) -> None:
        self._many.advance(stamp_ns, *self._since_look(stamp_ns))

    def _since_look(self, stamp_ns: int) -> tuple[F64, bool]:
        look_ns = self._many.look_ns
        return self._history.between(stamp_ns if look_ns is None else look_ns, stamp_ns)

    def _relock(self, frame: Frame, tracks: tuple[Track, ...]) -> None:
        """Show the target tracker its target anew, when the detector sees that identity and the tracker does not.

        That is, when the tracker says so, or holds a place where the detector sees nothing.
        """
        status, locked_id = self._lock.status, self._lock.track_id
        track = next((t for t in tracks if t.id == locked_id), None)
        if track is None or not self._many.vouched(track.id):
            return
        seen_since = track.last_seen_ns > frame.stamp_ns - status.age_ns
        searching = (self._lock.searching and seen_since and status.age_ns >= self._c.relock_after_s * 1e9
                     and self._lock.may_be(track))
        astray = (status.state == "LOCKED" and status.track is not None and not self._lock.sure
                  and self._corroboration.silent >= self._c.relock_looks
                  and box_iou(status.track.xyxy_px, track.xyxy_px)[0, 0] < self._c.lock_iou)
        if searching or astray:
            self._show(frame, track.xyxy_px, track, of_part=True)

    def _show(self, frame: Frame, box_xyxy_px: ArrayLike, track: Track, of_part: bool) -> None:
        """The locked target is in this box, or a part of it, perhaps."""
        self._corroboration.restart()
        self._fit.begin(of_part)
        with contextlib.suppress(InputError):  # hardly inside the image: wait for more of it
            self._lock.start(frame, box_xyxy_px, track.id, track.class_id)

    def _show_whole(self, frame: Frame, seen: Detections | None) -> None:
        """Show the target's tracker all of its target, where it knows a part and the detector sees the whole."""
        status = self._lock.status
        if seen is not None and status.state == "LOCKED" and status.track is not None:
            whole = self._fit.larger(status.track.xyxy_px, seen.xyxy_px, _size_px(frame))
            if whole is not None:
                self._many.take_back(status.track.id, whole)
                self._show(frame, whole, status.track, of_part=near_border(whole, _size_px(frame)))

    def _with_lock(self, tracks: tuple[Track, ...]) -> tuple[Track, ...]:
        """The locked target as its own tracker sees it, the others as they are."""
        status, locked = self._lock.status, self._lock.status.track
        if status.state == "LOST":  # its identity is held for a while, but no prediction of it is shown
            since_ns = status.stamp_ns - status.age_ns
            return tuple(t for t in tracks if t.id != self._lock.track_id or t.last_seen_ns > since_ns)
        if locked is None or status.state == "ACQUIRING":
            return tracks
        same = next((t for t in tracks if t.id == locked.id), None)
        if same is not None:
            locked = replace(locked, class_id=same.class_id, velocity_px_s=same.velocity_px_s)
        return (*(t for t in tracks if t.id != locked.id), locked)

    def _described(self, frame: Frame, detections: Detections) -> F32 | None:
        """(N, D) how they look in their own frame."""
        if self._c.appearance_weight == 0 or not len(detections):
            return None
        return appearance.describe(frame.image, detections.xyxy_px)


def _size_px(frame: Frame) -> tuple[int, int]:
    return frame.image.shape[1], frame.image.shape[0]


def _boxes(boxes: list[F32]) -> F64:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def make_tracker(config: TrackerConfig, lsart: LsartConfig) -> Tracker:
    """The tracker stage. Our own target tracker is made ready at once, others are built at the first lock.

    Raises:
        ModelError: the box refinement is on and its network is missing or another one; said here, not at the first
            lock.
    """
    from .trackers import make_target_tracker

    if config.target_tracker != "lsart":
        return Tracker(config, lambda: make_target_tracker(config, lsart))
    ready = make_target_tracker(config, lsart)
    # tables of colours and the networks' memory are made when first used: ten times a lock's time, in flight
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    ready.start(Frame(0, 0, noise), (32, 32, 64, 64))
    return Tracker(config, lambda: ready)
