"""Many targets: identities that live through detections of any rate, camera motion and occlusion.

Filter states stand still at the stamp of the last look (the last frame a detector answered for) and are only copied
forward to later frames. So a detection that comes late is used where it belongs, at its own stamp, with no rewinding.

Confirmed tracks choose first, among all detections: faint ones cost more but are not left for a second round, because
then a track whose own detection is faint would take its neighbour's. What remains goes to tentative tracks; what then
remains and is confident starts new ones. That faint detections hold identities is ByteTrack's insight (Zhang et al.,
ECCV 2022).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import TrackerConfig
from ..geometry import box_iou
from ..records import F32, F64, Bool, Detections, Track
from . import appearance, border, kalman
from .association import assign, motion_cost
from .targets import Targets

Rows = NDArray[np.intp]  # indices of targets or detections


class ManyTracker:
    """Identities from detections. ``look`` where a detector answered; ``tracks`` at any later stamp."""

    def __init__(self, config: TrackerConfig) -> None:
        self._c = config
        self.noise = kalman.BoxNoise(config.centre_noise, config.size_noise, config.velocity_prior_s,
                                      config.acceleration_noise, config.growth_noise, config.pixel_noise_px)
        self._next_id = 1
        self.kept_id: int | None = None  # never lost, whatever time goes by: the operator's
        self.reset()

    def reset(self) -> None:
        """Drop all targets (another scene); their ids are never given again."""
        self._t = Targets.born([], np.zeros((0, 4)), [], 0, self.noise)
        self._view = border.EVERYWHERE
        self.look_ns: int | None = None

    def new_id(self) -> int:
        """An id that no track had or will have."""
        self._next_id += 1
        return self._next_id - 1

    def advance(self, stamp_ns: int, now_from_look: F64, reliable: bool = True) -> None:
        """Carry the states on to ``stamp_ns``, the next look; who was lost is gone now."""
        self._t.keep(~self._t.lost)
        if len(self._t) and self.look_ns is not None:
            self._t.mean, self._t.cov = self._carried(stamp_ns, now_from_look, reliable)
        self.look_ns = stamp_ns

    def lose_unseen(self, stamp_ns: int, looks_missed: int) -> None:
        """Declare lost who was not seen for ``coast_s`` and was missed by at least so many looks (slow detectors)."""
        t = self._t
        unseen = t.last_seen_ns < stamp_ns - round(self._c.coast_s * 1e9)
        t.lost = unseen & (t.missed >= looks_missed) & ~self._is_kept()

    def look(self, detections: Detections, looks: F32 | None, size_px: tuple[int, int] | None = None) -> None:
        """Associate detections made at ``look_ns`` (after ``advance``).

        ``looks`` describes them, ``size_px`` is the image's width and height, where known.
        """
        t, score = self._t, detections.score
        if size_px is not None:
            self._view = border.view_of(size_px, detections.xyxy_px.astype(np.float64))
        free = np.ones(len(detections), dtype=bool)
        unseen = np.ones(len(t), dtype=bool)
        usable = score >= self._c.low_score
        for rows in (np.flatnonzero(t.confirmed), np.flatnonzero(~t.confirmed)):
            self._round(rows, np.flatnonzero(usable & free), detections, looks, free, unseen)
        t.missed[unseen] += 1
        t.found[unseen] = 0
        t.keep(t.confirmed | (t.missed == 0))
        self._reunite()
        self._be_born(np.flatnonzero((score >= self._c.high_score) & free), detections, looks)
        self.lose_unseen(detections.stamp_ns, looks_missed=self._c.coast_looks)

    def _round(self, rows: Rows, columns: Rows, detections: Detections, looks: F32 | None, free: Bool,
               unseen: Bool) -> None:
        """Pair targets ``rows`` with detections ``columns``; strikes out of ``free`` and ``unseen`` what was paired."""
        if not len(rows) or not len(columns):
            return
        t = self._t
        boxes, score = detections.xyxy_px[columns].astype(np.float64), detections.score[columns]
        row, column, cost = self._motion_cost(rows, boxes)
        if looks is not None and self._c.appearance_weight > 0:
            cost = cost + self._look_cost(self._looks(rows, looks.shape[1])[row], looks[columns[column]])
        other_class = t.class_id()[rows[row]] != detections.class_id[columns[column]]
        cost = cost + self._c.class_cost * other_class + self._c.faint_cost * (score[column] < self._c.high_score)
        paired, hits = assign(row, column, cost, self._c.cost_limit, (len(rows), len(columns)))
        rows, columns = rows[paired], columns[hits]
        free[columns], unseen[rows] = False, False
        t.mean[rows], t.cov[rows] = kalman.update(t.mean[rows], t.cov[rows], boxes[hits], self.noise, self._view)
        t.missed[rows] = 0
        t.seen_again(rows, detections.stamp_ns)
        t.hits[rows] += 1
        t.found[rows] += 1
        t.score[rows], t.last_seen_ns[rows] = score[hits], detections.stamp_ns
        t.confirmed[rows] |= t.hits[rows] >= self._c.confirm_hits
        t.vote(rows, detections.class_id[columns], t.score[rows])
        if looks is not None:
            t.see(rows, looks[columns])

    def _reunite(self) -> None:
        """Give young tracks back to the missing ones they continue.

        What comes out from behind something shows a part first, fits its old track badly and starts a new one; as more
        of it shows, the fit becomes plain.
        """
        t = self._t
        missing = np.flatnonzero(t.confirmed & (t.missed > 0))
        young = np.flatnonzero((t.missed == 0) & (t.hits <= self._c.young_hits) & ~self._is_kept())
        if len(missing) and len(young):
            self._match_young(missing, young)

    def _match_young(self, missing: Rows, young: Rows) -> None:
        t = self._t
        row, column, cost = self._motion_cost(missing, kalman.centre_to_box(t.mean[young]))
        older = t.last_seen_ns[missing[row]] < t.born_ns[young[column]]
        row, column, cost = row[older], column[older], cost[older]
        if t.look[missing].any() and self._c.appearance_weight > 0:
            cost = cost + self._look_cost(t.look[missing[row]], t.look[young[column]])
        olds, news = assign(row, column, cost, self._c.cost_limit, (len(missing), len(young)))
        others = ~self._is_kept()[missing[olds]]  # whether a newcomer is the operator's, its own tracker judges
        self._continue(missing[olds][others], young[news][others])

    def _continue(self, old: Rows, new: Rows) -> None:
        """``new`` are ``old`` seen again: one target each with the old identity and the new state."""
        t = self._t
        t.seen_again(old, t.born_ns[new])
        for column in (t.mean, t.cov, t.found, t.score, t.last_seen_ns):
            column[old] = column[new]
        t.missed[old], t.lost[old] = 0, False
        t.hits[old] += t.hits[new]
        both = t.look[old].any(axis=1) & t.look[new].any(axis=1)
        likeness = np.einsum("nd,nd->n", t.look[old], t.look[new])
        t.strangeness[old] = np.where(both, 1.0 - likeness, t.strangeness[old])
        t.keep(~np.isin(np.arange(len(t)), new))

    def _is_kept(self) -> Bool:
        return np.asarray(self._t.id == (-1 if self.kept_id is None else self.kept_id))

    def _looks(self, rows: Rows, size: int) -> F32:
        """(n, size) descriptions; those of another size are not known."""
        look = self._t.look
        return look[rows] if look.shape[1] == size else np.zeros((len(rows), size), np.float32)

    def _motion_cost(self, rows: Rows, xyxy_px: F64) -> tuple[Rows, Rows, F64]:
        t = self._t
        return motion_cost(t.mean[rows], t.cov[rows], t.missed[rows], xyxy_px, self.noise, self._c.steady, self._c.gate,
                           self._view)

    def _look_cost(self, known: F32, seen: F32) -> F64:
        """Log-likelihood ratio of looks, pair by pair: linear about 0.45, where same and different are as likely."""
        return self._c.appearance_weight * (appearance.distance(known, seen) - 0.45)

    def vouched(self, track_id: int) -> bool:
        """Whether the last looks in a row have all shown this track, and it looks like itself."""
        t = self._t
        like_itself = (t.found >= self._c.relock_looks) & (t.strangeness <= self._c.relock_strangeness)
        return bool((like_itself & (t.id == track_id)).any())

    def established(self, before_ns: int) -> set[int]:
        """Ids of what is in sight since ``before_ns`` or earlier, was seen often, and was seen of late."""
        t = self._t
        known = t.confirmed & (t.missed < self._c.relock_looks) & (t.hits > self._c.young_hits)
        return set(t.id[known & (t.back_ns <= before_ns)].tolist())

    def newcomers(self, since_ns: int) -> set[int]:
        """Ids of what the last look saw and what was not there at ``since_ns``, or out of sight since (what came out
        may have been given an old identity); and the operator's target, where it seems to be back."""
        t = self._t
        new = (t.back_ns > since_ns) | (self._is_kept() & (t.last_seen_ns > since_ns))
        return set(t.id[new & (t.missed == 0)].tolist())

    def _be_born(self, columns: Rows, detections: Detections, looks: F32 | None) -> None:
        if not len(columns):
            return
        t, n = self._t, len(columns)
        ids = [self.new_id() for _ in range(n)]
        t.add(Targets.born(ids, detections.xyxy_px[columns], detections.score[columns], detections.stamp_ns,
                           self.noise, self._view))
        rows = np.arange(len(t) - n, len(t))
        t.confirmed[rows] = self._c.confirm_hits <= 1
        t.vote(rows, detections.class_id[columns], t.score[rows])
        if looks is not None:
            t.see(rows, looks[columns])

    def pin(self, track_id: int, xyxy_px: ArrayLike, class_id: int) -> None:
        """Tell that the target tracker saw ``track_id`` at this box at ``look_ns``.

        An id that is gone lives again; when the target was out of sight before, other identities its reappearance
        may have been given are taken back.
        """
        t, stamp_ns = self._t, self.look_ns or 0
        box = np.asarray(xyxy_px, dtype=np.float64).reshape(1, 4)
        if not (t.missed[t.id == track_id] == 0).any():
            self.take_back(track_id, box)
        if not (t.id == track_id).any():
            t.add(Targets.born([track_id], box, [0.0], stamp_ns, self.noise))
            t.vote([-1], [class_id], 1e-9)  # any detection outweighs it
            t.found[-1] = 0
        else:
            row = np.flatnonzero(t.id == track_id)
            t.mean[row], t.cov[row] = kalman.update(t.mean[row], t.cov[row], box, self.noise)
        row = np.flatnonzero(t.id == track_id)
        t.confirmed[row], t.lost[row], t.missed[row] = True, False, 0
        t.last_seen_ns[row] = np.maximum(t.last_seen_ns[row], stamp_ns)

    def take_back(self, track_id: int, xyxy_px: ArrayLike) -> None:
        """Tell that what is in this box is ``track_id``, whatever other identity it was given."""
        doubles = box_iou(np.asarray(xyxy_px, np.float64), kalman.centre_to_box(self._t.mean))[0] > 0.5
        self._t.keep((self._t.id == track_id) | ~doubles)

    def expect(self, track_id: int, xyxy_px: ArrayLike) -> None:
        """Tell where ``track_id``, unseen, should be at ``look_ns``: the target tracker knows more of its way."""
        t = self._t
        row = np.flatnonzero((t.id == track_id) & (t.missed > 0))
        t.mean[row, :2] = kalman.box_to_centre(np.asarray(xyxy_px, np.float64).reshape(1, 4))[0, :2]

    def tracks(self, stamp_ns: int, now_from_look: F64, reliable: bool, size_px: tuple[int, int],
               frame_id: str = "camera_optical") -> tuple[Track, ...]:
        """All targets as they should be at ``stamp_ns`` >= look_ns; those predicted outside the image are left out.

        Boxes end at the image's border, where detections do; targets themselves are kept whole.
        """
        t = self._t
        if not len(t) or self.look_ns is None:
            return ()
        mean = t.mean if stamp_ns == self.look_ns else self._carried(stamp_ns, now_from_look, reliable)[0]
        boxes = kalman.centre_to_box(mean)
        inside = np.all((boxes[:, :2] < size_px) & (boxes[:, 2:] > 0), axis=1)
        boxes = np.clip(boxes, np.tile(self._view[:2], 2), np.tile(self._view[2:], 2))
        states = [s for s, seen in zip(t.states(), inside.tolist(), strict=True) if seen]
        return Track.many(stamp_ns, t.id[inside], states, boxes[inside], mean[inside, 4:6], t.score[inside],
                          t.class_id()[inside], np.minimum(t.last_seen_ns[inside], stamp_ns), frame_id)

    def _carried(self, stamp_ns: int, now_from_look: F64, reliable: bool) -> tuple[F64, F64]:
        assert self.look_ns is not None
        dt_s = (stamp_ns - self.look_ns) / 1e9
        mean, cov = kalman.warp(self._t.mean, self._t.cov, now_from_look, dt_s)
        mean, cov = kalman.predict(mean, cov, dt_s, self.noise)
        if not reliable:  # the camera moved we know not how: give the centre room
            shake = np.diag([1.0, 1.0, 0, 0, 0, 0]) * self._c.blind_noise**2
            cov = cov + kalman.sizes(mean)[:, None, None] ** 2 * shake
        return mean, cov
