"""The target tracker: one object, from one box, in real time, after LSART (Sun et al., CVPR 2018).

A frame's path: the search window moves with the camera; a kernel ridge regression sees the whole target, masked
region kernels its parts; their fused response gives the place; correlation filters give scale and aspect, colour
contrast refines the box; the peak's quality decides whether the frame is evidence, is learnt from, or is an occlusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import LsartConfig
from ..geometry import box_iou
from ..records import Detections, Frame, Track, TrackState
from .camera_motion import UNKNOWN_STEP, CameraMotion, CameraStep, mapped
from .candidate import Candidate
from .expected import Expected
from .newcomers import Newcomers, strays
from .presence import Presence
from .pyramid import Pyramid
from .refine import BoxRefinement
from .regain import Regain, moving_places
from .regressions import Regressions
from .search import Confidence, Peak, peak_quality, places_to_search, reach_sizes
from .shape import Shape
from .sight import LEAP, Sight, Witness
from .sought import ASTRAY, Sought
from .target import TargetTrack, checked_start_box, same_picture

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


SURE_SHARE = 0.8  # of the target's usual peak, from which the refinement is not believed that says it is gone
PATIENCE = 5  # frames in which the refinement alone sees the target, after which they are learnt from
HIDING_S = 0.3  # a target gone for less is still on its way behind something: what shows elsewhere is another
LEAP_PER_S = 15.0  # target sizes a second by which what was seen well for SIGHTS frames may leave its way
SIGHTS = 5
UNSETTLED_NS = 1_000_000_000  # since it was found again, in which it may: what came out first may look alike


class LsartTracker:
    """See the module. State between frames: centre and size of the box, the models, and the confidence in them."""

    def __init__(self, config: LsartConfig, refinement: BoxRefinement | None = None) -> None:
        """``refinement``: in place of the one that ``config`` names."""
        self._config = config
        self._out = TargetTrack()
        self._refinement = (refinement or BoxRefinement(config.refine_model)) if config.refine else None

    def start(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int = 0, class_id: int = -1) -> Track:
        box, picture = checked_start_box(box_xyxy_px, frame), Pyramid(frame.image)
        self._presence = Presence(self._config.refine_regain, frame.stamp_ns)
        self._regain, self._newcomers, self._witness = None, None, None
        if self._refinement:
            self._regain = regain = Regain(self._refinement)
            self._newcomers = Newcomers(self._refinement, regain.paint)
            self._witness = Witness(self._refinement, regain, self._config.refine_regain)
            self._refinement.start(picture, (box[:2] + box[2:]) / 2, box[2:] - box[:2])
        return self._begin(frame, picture, box, track_id, class_id)

    def _begin(self, frame: Frame, picture: Pyramid, box: F64, track_id: int, class_id: int) -> Track:
        """The regression begins anew with what is in this box of the frame's picture; the refinement knows it."""
        c = self._config
        self._centre, self._size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        self._image_size = np.array(frame.image.shape[1::-1], dtype=np.float64)
        self._regressions = Regressions(c, self._size)
        self._shape = Shape(c, self._refinement)
        self._camera = CameraMotion(160, 40) if c.camera_motion else None
        if self._camera:
            self._camera.step(frame.image, box[None])
        self._confidence = Confidence(c)
        self._expected = Expected(self._centre, self._size, np.zeros(2))
        self._level, self._sights = 0.6, 0  # height that the peak has had of late, in how many frames
        self._frames = self._unseen = self._vouches = 0
        self._settled_ns = frame.stamp_ns
        self._previous = frame.image
        self._shown: F64 | None = None  # the refined box of this frame
        self._renewed = False  # the regression does not know it as it looks since it was found again: it begins anew
        self._candidate = Candidate()
        self._believed_ns: int | None = None  # when others last saw it where it was seen here, if no longer
        self._learn(picture)
        return self._out.start(frame, box, track_id, class_id)

    def update(self, frame: Frame, detections: Detections | None = None, others_xyxy_px: ArrayLike | None = None,
               newcomers: Sequence[Track] = (), camera: CameraStep | None = None) -> Track:
        image = frame.image
        size = np.array(image.shape[1::-1], dtype=np.float64)
        if (size != self._image_size).any():
            self._resize(size)
        last_ns = self._out.track.stamp_ns
        before, self._previous = self._previous, image
        blank = float(image[::16, ::16].std()) < self._config.contrast_min
        if not self._out.accepts(frame) or blank or same_picture(image, before):
            return self._report(frame, 0.0)  # out of order, nothing in the picture, or a frozen one
        self._frames += 1
        dt_s = (frame.stamp_ns - last_ns) * 1e-9
        carried, step = self._predict(image, dt_s, camera)
        picture = Pyramid(image)
        if newcomers and self._newcomers is not None and others_xyxy_px is not None:
            dismissed = self._newcomers.dismissed(newcomers)
            others_xyxy_px = np.array([*np.asarray(others_xyxy_px), *dismissed]).reshape(-1, 4)
        sight = self._search(picture, detections, others_xyxy_px, frame.stamp_ns, step.reliable)
        if self._unseen:
            if sight is None and detections is not None and self._newcomers is not None:
                came = self._newcomers.found(picture, self._sought(frame.stamp_ns), newcomers)
                if came is not None and self._inside(came.xyxy_px) > 0.9:
                    return self._begin_anew(frame, came.xyxy_px, came.velocity_px_s, known=False)
            sight = sight or self._judged(picture, before, step, others_xyxy_px, frame.stamp_ns)
            sight = self._going_on(sight, frame.stamp_ns, dt_s)
        if sight is not None:
            self._centre, self._size = np.clip(sight.centre, 0, size), sight.size
            self._vouches = self._vouches + 1 if sight.vouched else 0
            if not self._unseen:
                known = step.reliable and dt_s > 0
                sight = self._followed(picture, sight, carried if known else None, dt_s, frame.stamp_ns)
        return self._report(frame, 0.0 if sight is None else sight.quality)

    def _followed(self, picture: Pyramid, sight: Sight, carried: F64 | None, dt_s: float, stamp_ns: int
                  ) -> Sight | None:
        """``sight`` of a target that is in view as far as it is one: its shape is fitted, how it looks is learnt.
        ``carried``: where the background took its last place in ``dt_s``, if that is known."""
        c = self._config
        if not sight.vouched or self._vouches > PATIENCE:  # else it may be sliding behind something
            self._centre, self._size = self._shape.fitted(picture, self._centre, self._size)
            self._shown = self._shape.refined(picture, self._centre, self._size)
            if self._shape.sees is not None:
                self._presence.seen(self._shape.sees, stamp_ns)
        if c.gate and self._presence.gone(carried is not None and self._expected.stopped):
            self._believed_ns = self._presence.plain_ns
            self.doubt()
            return None  # it is what covers the target
        if self._shape.gone and sight.peak.value < SURE_SHARE * self._level:
            sight = replace(sight, quality=0.0)  # of what covers it: no evidence
        if sight.quality >= c.quality_min or not c.gate:  # a doubtful peak is followed, but not learnt from
            self._sights += 1
            self._level += max(0.05, 1 / (self._sights + 1)) * (sight.peak.value - self._level)
            if self._vouches > PATIENCE or sight.peak.value > 0.5 * self._level:
                self._take(picture, None if carried is None else (self._centre - carried) / dt_s, stamp_ns)
        return sight

    def _begin_anew(self, frame: Frame, box_xyxy_px: ArrayLike, velocity_px_s: ArrayLike, known: bool) -> Track:
        """The target is in this box, and looks as it looks now; ``known``: the refinement knows it so."""
        box, ids = np.asarray(box_xyxy_px, np.float64), (self._out.track.id, self._out.track.class_id)
        track = self._begin(frame, Pyramid(frame.image), box, *ids) if known else self.start(frame, box, *ids)
        self._expected.velocity = np.asarray(velocity_px_s, np.float64)
        self._settled_ns += UNSETTLED_NS
        return track

    def _judged(self, picture: Pyramid, before: U8, step: CameraStep, others: ArrayLike | None,
                stamp_ns: int) -> Sight | None:
        """The unseen target where the regression does not know it: see ``regain``. This is dear, so it is done in every
        other frame until there is a candidate."""
        sought = self._sought(stamp_ns)
        if self._regain is None or sought.unseen_s < HIDING_S or not (self._candidate.there or self._unseen % 2):
            return None
        moving = moving_places(before, picture.image, step.cur_from_prev, sought) if step.reliable else []
        known = np.zeros((0, 4)) if others is None else np.asarray(others, np.float64)
        found = self._regain.found(picture, sought, self._centre, moving, known)
        if found is None:
            return None
        return Sight(found.centre, found.size, Peak((0.0, 0.0), 0.0, 0.0), self._config.quality_regain, vouched=True)

    def _going_on(self, sight: Sight | None, stamp_ns: int, dt_s: float) -> Sight | None:
        """``sight`` of an unseen target as far as it is one. A candidate that is gone leaves the prediction alone."""
        was = self._candidate.there
        if sight is not None:
            velocity = self._expected.velocity + (sight.centre - self._centre) / dt_s
            shown = sight.size if sight.shown is None else sight.shown
            evidence = self._candidate.seen(self._sought(stamp_ns), sight.centre, shown, velocity, dt_s)
            sight = None if evidence is None else sight if evidence else replace(sight, quality=0.0)
        if sight is None:
            self._candidate.forget()
            if was:
                self._as_expected()
        self._renewed = sight is not None and sight.vouched
        return sight

    def _take(self, picture: Pyramid, velocity: F64 | None, stamp_ns: int) -> None:
        """Go on from a frame that shows the target well: its place, its looks, its ``velocity`` (px/s over ground)."""
        shown = self._size if self._shown is None else self._shown[2:] - self._shown[:2]
        self._expected.seen(stamp_ns, self._centre, shown, velocity, max(0.15, 1 / self._sights))
        if self._frames % self._config.learn_every == 0 and self._inside(self._box) > 0.9:
            self._learn(picture)

    def believe(self, until_ns: int | None) -> None:
        self._believed_ns = until_ns

    def doubt(self) -> None:
        """What it holds is not its target: search on."""
        self._confidence.doubt()
        if not self._unseen:
            self._go_back(self._out.track.stamp_ns)
            self._unseen = 1

    def may_be(self, track: Track) -> bool:
        astray = strays(self._sought(track.stamp_ns), track) / ASTRAY
        if astray >= 1 or (self._newcomers is not None and self._newcomers.unlikely(track)):
            return False
        off = 0.0 if self._regain is None else self._regain.paint.off(self._previous, track.xyxy_px)
        return astray + off < 1  # halfway to what cannot be by both is too much

    @property
    def sure(self) -> bool:
        return not self._unseen and self._presence.sure

    def _sought(self, stamp_ns: int) -> Sought:
        """The target where it would be if it had gone on since it was last seen."""
        return self._expected.sought((stamp_ns - self._out.track.last_seen_ns) * 1e-9)

    @property
    def _box(self) -> F64:
        return np.concatenate([self._centre - self._size / 2, self._centre + self._size / 2])

    def _inside(self, box_xyxy_px: ArrayLike) -> float:
        """Share of a box inside the image."""
        corners = np.asarray(box_xyxy_px, np.float64).reshape(2, 2)
        shown = np.clip(corners, 0, self._image_size)
        return float(np.prod(shown[1] - shown[0]) / np.prod(corners[1] - corners[0]))

    def _report(self, frame: Frame, quality: float) -> Track:
        shown, self._shown = self._box if self._shown is None else self._shown, None
        if not self._config.gate:
            return self._out.seen(frame, shown, quality)
        unseen_s = (frame.stamp_ns - self._out.track.last_seen_ns) * 1e-9
        state = self._confidence.step(quality, unseen_s)
        if state is TrackState.TRACKED and quality >= self._config.quality_min:
            if self._unseen:  # found again, where the next search begins
                self._expected.found(self._centre, self._candidate.way if self._candidate.there else None)
                if self._newcomers:
                    self._newcomers.forget()
                if self._renewed and self._inside(self._box) > 0.9:
                    return self._begin_anew(frame, self._box, self._expected.velocity, known=True)
                self._settled_ns = frame.stamp_ns + UNSETTLED_NS
            self._unseen = 0
            self._believed_ns = None
            self._candidate.forget()
            return self._out.seen(frame, shown, quality)
        if state is not TrackState.TRACKED:
            if not self._unseen:  # what was followed since the last evidence was not the target
                self._go_back(frame.stamp_ns)
            self._unseen += 1
        return self._out.without_evidence(frame, state, self._box, quality)

    def _go_back(self, stamp_ns: int) -> None:
        """The target is out of sight: where it would be had it gone on as it did before it was being covered."""
        if self._believed_ns is not None:
            self._out.unseen_since(self._believed_ns)
        self._expected.lost(self._out.track.last_seen_ns, stamp_ns)
        self._as_expected()

    def _as_expected(self) -> None:
        self._centre, self._size = np.clip(self._expected.place, 0, self._image_size), self._expected.size.copy()

    def _resize(self, size: F64) -> None:
        """The stream changed its resolution: the box keeps its share of the picture."""
        ratio = size / self._image_size
        self._centre, self._size, self._image_size = self._centre * ratio, self._size * ratio, size
        self._expected.resize(ratio)

    def _predict(self, image: U8, dt_s: float, camera: CameraStep | None) -> tuple[F64, CameraStep]:
        """Move the box with the background, and on with the target's own velocity.

        Returns:
            Where the background took the box's centre, and what the camera did.
        """
        carried, step = self._centre, UNKNOWN_STEP
        if self._camera:
            step = self._camera.step(image, self._box[None]) if camera is None else camera
            if step.reliable:
                carried = mapped(step.cur_from_prev, self._centre[None])[0]
                way_px, share = self._expected.move(step.cur_from_prev, dt_s, bool(self._unseen))
                self._centre, self._size = carried + way_px, self._size * share
        self._centre = np.clip(self._centre, 0, self._image_size)
        return carried, step

    def _search(self, picture: Pyramid, detections: Detections | None, others: ArrayLike | None, stamp_ns: int,
                predicted: bool) -> Sight | None:
        """The best believable sight of this frame's windows (one while the target is seen). What is ``predicted``,
        since the camera's motion is known, does not leap."""
        dt_s = (stamp_ns - self._out.track.stamp_ns) * 1e-9
        places, reach, sought = [(self._centre, self._size)], np.inf, self._sought(stamp_ns)
        if predicted and self._sights > SIGHTS and self._out.track.stamp_ns >= self._settled_ns:
            reach = max(LEAP, LEAP_PER_S * dt_s)
        if self._unseen:
            reach = reach_sizes(self._unseen * dt_s)
            places = places_to_search(self._centre, self._size, self._image_size, self._unseen, reach, detections)
        found = []
        for place, size in places:
            centre, peak = self._regressions.place(picture, place, size)
            distance = float(np.linalg.norm(centre - self._centre) / np.sqrt(self._size.prod()))
            sight = Sight(centre, size, peak, peak_quality(peak))
            if distance <= reach and self._believable(sight, distance, sought, others):
                found.append(sight)
        best = max(found, key=lambda s: s.peak.value, default=None)
        if self._unseen:
            return best if best is None or self._witness is None else self._witness.present(picture, best)
        least = self._config.quality_min
        if self._witness is not None and (best is None or best.quality < least):
            return self._witness.vouched(picture, sight, self._centre, least, others) or best
        return best

    def _believable(self, sight: Sight, distance: float, sought: Sought, others: ArrayLike | None) -> bool:
        """Whether a peak may be the target: the farther from where it should be, the higher."""
        c, centre = self._config, sight.centre
        share = 0.5 + 0.1 * distance if self._unseen else 0.3 + 0.25 * distance
        outside = ((centre < 0) | (centre > self._image_size)).any()
        if sight.peak.value < self._level * min(share, SURE_SHARE) or outside:
            return False
        if self._unseen and (sight.quality < c.quality_regain or sought.off(centre) > ASTRAY):
            return False
        if others is not None and (self._unseen or distance > 0.5):
            box = np.concatenate([centre - sight.size / 2, centre + sight.size / 2])
            return not bool((box_iou(box, np.asarray(others)) > 0.4).any())
        return True

    def _learn(self, picture: Pyramid) -> None:
        self._shape.learn(picture, self._centre, self._size)
        if self._regain:
            self._regain.remember(picture, self._box)
        self._regressions.learn(picture, self._centre, self._size, self._frames // self._config.learn_every)
