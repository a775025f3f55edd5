"""Many targets: identities that live through detections of any rate, camera motion and occlusion.

Filter states stand still at the stamp of the last look (the last frame a detector answered for) and are only copied
forward to later frames. So a detection that comes late is used where it belongs, at its own stamp, with no rewinding.

Confirmed tracks choose first, among all detections: faint ones cost more but are not left for a second round, because
then a track whose own detection is faint would take its neighbour's. What remains and is confident goes to tentative
tracks, then starts new ones. That faint detections hold identities is ByteTrack's insight (Zhang et al., ECCV 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from ..config import TrackerConfig
from ..geometry import box_iou
from ..records import F32, F64, Detections, Track, TrackState
from . import appearance, kalman
from .association import assign, motion_cost


@dataclass
class _Target:
    id: int
    mean: F64  # (6,) state at the stamp of the last look
    cov: F64  # (6, 6)
    score: float
    last_seen_ns: int
    look: F32 | None  # description of how it looks; None = not yet described
    born_ns: int
    votes: dict[int, float] = field(default_factory=dict)  # class -> sum of scores
    hits: int = 1
    missed: int = 0  # looks in a row that did not find it
    found: int = 1  # looks in a row that did
    strangeness: float = 0.5  # how far the last detection looked from how it looks (appearance.distance)
    confirmed: bool = False
    lost: bool = False  # unseen for too long: shown once more, then gone

    @property
    def class_id(self) -> int:
        return max(self.votes, key=lambda c: self.votes[c])

    @property
    def state(self) -> TrackState:
        if self.lost:
            return TrackState.LOST
        if not self.confirmed:
            return TrackState.TENTATIVE
        return TrackState.OCCLUDED if self.missed else TrackState.TRACKED


class ManyTracker:
    """Identities from detections. ``look`` where a detector answered; ``tracks`` at any later stamp."""

    def __init__(self, config: TrackerConfig) -> None:
        self._c = config
        self.noise = kalman.BoxNoise(config.centre_noise, config.size_noise, config.velocity_prior_s,
                                      config.acceleration_noise, config.growth_noise)
        self._targets: list[_Target] = []
        self._next_id = 1
        self.kept_id: int | None = None  # never lost, whatever time goes by: the operator's
        self.look_ns: int | None = None

    def reset(self) -> None:
        """Drop all targets (another scene); their ids are never given again."""
        self._targets.clear()
        self.look_ns = None

    def new_id(self) -> int:
        """An id that no track had or will have."""
        self._next_id += 1
        return self._next_id - 1

    def advance(self, stamp_ns: int, now_from_look: F64, reliable: bool = True) -> None:
        """Carry the states on to ``stamp_ns``, the next look; who was lost is gone now."""
        self._targets = [t for t in self._targets if not t.lost]
        if self._targets and self.look_ns is not None:
            mean, cov = self._carried(stamp_ns, now_from_look, reliable)
            for target, m, p in zip(self._targets, mean, cov, strict=True):
                target.mean, target.cov = m, p
        self.look_ns = stamp_ns

    def lose_unseen(self, stamp_ns: int, looks_missed: int) -> None:
        """Declare lost who was not seen for ``coast_s`` and was missed by at least so many looks (slow detectors)."""
        limit = stamp_ns - round(self._c.coast_s * 1e9)
        for t in self._targets:
            t.lost = t.last_seen_ns < limit and t.missed >= looks_missed and t.id != self.kept_id

    def look(self, detections: Detections, looks: F32 | None) -> None:
        """Associate detections made at ``look_ns`` (after ``advance``); ``looks`` describes them where known."""
        targets, score = self._targets, detections.score
        free = np.ones(len(detections), dtype=bool)
        confident = score >= self._c.high_score
        confirmed = [t for t in targets if t.confirmed]
        unseen = self._round(confirmed, np.flatnonzero(score >= self._c.low_score), detections, looks, free)
        tentative = [t for t in targets if not t.confirmed]
        unseen += self._round(tentative, np.flatnonzero(confident & free), detections, looks, free)
        for t in unseen:
            t.missed, t.found = t.missed + 1, 0
        self._targets = [t for t in targets if t.confirmed or not t.missed]
        self._reunite()
        self._be_born(np.flatnonzero(confident & free), detections, looks)
        self.lose_unseen(detections.stamp_ns, looks_missed=self._c.coast_looks)

    def _round(self, targets: list[_Target], columns: np.ndarray, detections: Detections, looks: F32 | None,
               free: np.ndarray) -> list[_Target]:
        """Pair targets with detections ``columns``, update who was found, and return who was not."""
        if not targets or not len(columns):
            return targets
        mean, cov = _stack(targets)
        boxes = detections.xyxy_px[columns].astype(np.float64)
        distance, cost = motion_cost(mean, cov, [t.missed for t in targets], boxes, self.noise, self._c.steady)
        if looks is not None and self._c.appearance_weight > 0:
            cost = cost + self._look_cost(_looks(targets, looks.shape[1]), looks[columns])
        classes = np.array([t.class_id for t in targets])
        cost = cost + self._c.class_cost * (classes[:, None] != detections.class_id[columns][None])
        cost = cost + self._c.faint_cost * (detections.score[columns] < self._c.high_score)[None]
        cost[distance > self._c.gate] = np.inf
        pairs = assign(cost, self._c.cost_limit)
        if pairs:
            rows, hits = (np.array(v) for v in zip(*pairs, strict=True))
            mean, cov = kalman.update(mean[rows], cov[rows], boxes[hits], self.noise)
            for k, (row, hit) in enumerate(pairs):
                column = int(columns[hit])
                free[column] = False
                self._found(targets[row], mean[k], cov[k], detections, column, looks)
        paired = {row for row, _ in pairs}
        return [t for i, t in enumerate(targets) if i not in paired]

    def _found(self, t: _Target, mean: F64, cov: F64, detections: Detections, i: int, looks: F32 | None) -> None:
        t.mean, t.cov, t.missed, t.hits, t.found = mean, cov, 0, t.hits + 1, t.found + 1
        t.score, t.last_seen_ns = float(detections.score[i]), detections.stamp_ns
        t.confirmed = t.confirmed or t.hits >= self._c.confirm_hits
        class_id = int(detections.class_id[i])
        t.votes[class_id] = t.votes.get(class_id, 0.0) + t.score
        if looks is not None and looks[i].any():
            if t.look is not None:
                t.strangeness = 1.0 - float(t.look @ looks[i])
            mixed = looks[i] if t.look is None else 0.9 * t.look + 0.1 * looks[i]
            t.look = np.asarray(mixed / np.linalg.norm(mixed), dtype=np.float32)

    def _reunite(self) -> None:
        """Give young tracks back to the missing ones they continue.

        What comes out from behind something shows a part first, fits its old track badly and starts a new one; as more
        of it shows, the fit becomes plain.
        """
        missing = [t for t in self._targets if t.confirmed and t.missed]
        young = [t for t in self._targets if not t.missed and t.hits <= self._c.young_hits and t.id != self.kept_id]
        if missing and young:
            self._match_young(missing, young)
        self._find_kept()

    def _match_young(self, missing: list[_Target], young: list[_Target]) -> None:
        mean, cov = _stack(missing)
        boxes = kalman.centre_to_box(_stack(young)[0])
        distance, cost = motion_cost(mean, cov, [t.missed for t in missing], boxes, self.noise, self._c.steady)
        known = next((len(t.look) for t in missing if t.look is not None), 0)
        if known and self._c.appearance_weight > 0:
            cost = cost + self._look_cost(_looks(missing, known), _looks(young, known))
        older = np.array([[m.last_seen_ns < y.born_ns for y in young] for m in missing])
        cost[(distance > self._c.gate) | ~older] = np.inf
        for row, column in assign(cost, self._c.cost_limit):
            self._continue(missing[row], young[column])

    def _find_kept(self) -> None:
        """The operator's target may come back where its motion did not lead: by its look, if no other looks so."""
        kept = next((t for t in self._targets if t.id == self.kept_id and t.missed and t.look is not None), None)
        if kept is None or kept.look is None:
            return
        candidates = [t for t in self._targets if t.confirmed and not t.missed and t.born_ns > kept.last_seen_ns
                      and t.look is not None]
        if not candidates:
            return
        mean, _ = _stack([kept, *candidates])
        unseen_s = max(0, (self.look_ns or 0) - kept.last_seen_ns) / 1e9
        reach = kalman.sizes(mean[:1])[0] * (1.0 + self._c.relock_reach_s * unseen_s)
        near = np.linalg.norm(mean[1:, :2] - mean[0, :2], axis=1) <= reach
        strange = appearance.distance(kept.look[None], _looks(candidates, len(kept.look)))[0]
        like = np.flatnonzero(near & (strange <= self._c.relock_strangeness))
        if len(like) == 1:
            self._continue(kept, candidates[int(like[0])])

    def _continue(self, old: _Target, new: _Target) -> None:
        """``new`` is ``old`` seen again: one target with the old identity and the new state."""
        old.mean, old.cov, old.missed, old.found, old.lost = new.mean, new.cov, 0, new.found, False
        old.score, old.last_seen_ns, old.hits = new.score, new.last_seen_ns, old.hits + new.hits
        if old.look is not None and new.look is not None:
            old.strangeness = 1.0 - float(old.look @ new.look)
        self._targets.remove(new)

    def _look_cost(self, known: F32, seen: F32) -> F64:
        """Log-likelihood ratio of looks, linear about 0.45, where same and different are as likely."""
        return self._c.appearance_weight * (appearance.distance(known, seen) - 0.45)

    def vouched(self, track_id: int) -> bool:
        """Whether the last looks in a row have all shown this track, and it looks like itself."""
        t = next((t for t in self._targets if t.id == track_id), None)
        return t is not None and t.found >= self._c.relock_looks and t.strangeness <= self._c.relock_strangeness

    def _be_born(self, columns: np.ndarray, detections: Detections, looks: F32 | None) -> None:
        mean, cov = kalman.initiate(detections.xyxy_px[columns], self.noise)
        for m, p, i in zip(mean, cov, columns.tolist(), strict=True):
            score = float(detections.score[i])
            look = looks[i] if looks is not None and looks[i].any() else None
            self._targets.append(_Target(self.new_id(), m, p, score, detections.stamp_ns, look, detections.stamp_ns,
                                         {int(detections.class_id[i]): score}, confirmed=self._c.confirm_hits <= 1))

    def pin(self, track_id: int, xyxy_px: ArrayLike, class_id: int) -> None:
        """Tell that the target tracker saw ``track_id`` at this box at ``look_ns``.

        An id that is gone lives again; when the target was out of sight before, other identities its reappearance
        may have been given are taken back.
        """
        box = np.asarray(xyxy_px, dtype=np.float64).reshape(1, 4)
        stamp_ns = self.look_ns or 0
        target = next((t for t in self._targets if t.id == track_id), None)
        if target is None or target.missed:
            others = [t for t in self._targets if t.id != track_id]
            same = box_iou(box, kalman.centre_to_box(_stack(others)[0]))[0] > 0.5 if others else np.zeros(0, bool)
            keep = [t for t, double in zip(others, same, strict=True) if not double]
            self._targets = keep + ([target] if target is not None else [])
        if target is None:
            mean, cov = kalman.initiate(box, self.noise)
            self._targets.append(_Target(track_id, mean[0], cov[0], 0.0, stamp_ns, None, stamp_ns, {class_id: 0.0},
                                         found=0, confirmed=True))
            return
        mean, cov = kalman.update(target.mean[None], target.cov[None], box, self.noise)
        target.mean, target.cov = mean[0], cov[0]
        target.confirmed, target.lost, target.missed = True, False, 0
        target.last_seen_ns = max(target.last_seen_ns, stamp_ns)

    def tracks(self, stamp_ns: int, now_from_look: F64, reliable: bool, size_px: tuple[int, int],
               frame_id: str = "camera_optical") -> tuple[Track, ...]:
        """All targets as they should be at ``stamp_ns`` >= look_ns; those predicted outside the image are left out."""
        if not self._targets or self.look_ns is None:
            return ()
        mean, _ = self._carried(stamp_ns, now_from_look, reliable)
        boxes = kalman.centre_to_box(mean)
        width, height = size_px
        inside = np.all((boxes[:, :2] < [width, height]) & (boxes[:, 2:] > 0), axis=1)
        return tuple(
            Track(stamp_ns, t.id, t.state, box, m[4:6], t.score, t.class_id, min(t.last_seen_ns, stamp_ns), frame_id)
            for t, m, box, seen in zip(self._targets, mean, boxes, inside.tolist(), strict=True) if seen)

    def boxes(self) -> F64:
        """(N, 4) boxes at the last look, of everything that may move."""
        return kalman.centre_to_box(_stack(self._targets)[0]) if self._targets else np.zeros((0, 4))

    def _carried(self, stamp_ns: int, now_from_look: F64, reliable: bool) -> tuple[F64, F64]:
        assert self.look_ns is not None
        mean, cov = kalman.warp(*_stack(self._targets), now_from_look)
        mean, cov = kalman.predict(mean, cov, (stamp_ns - self.look_ns) / 1e9, self.noise)
        if not reliable:  # the camera moved we know not how: give the centre room
            shake = np.diag([1.0, 1.0, 0, 0, 0, 0]) * self._c.blind_noise**2
            cov = cov + kalman.sizes(mean)[:, None, None] ** 2 * shake
        return mean, cov


def _looks(targets: list[_Target], size: int) -> F32:
    """(N, size) descriptions, zeros where not known."""
    return np.stack([np.zeros(size, np.float32) if t.look is None else t.look for t in targets])


def _stack(targets: list[_Target]) -> tuple[F64, F64]:
    return np.stack([t.mean for t in targets]), np.stack([t.cov for t in targets])
