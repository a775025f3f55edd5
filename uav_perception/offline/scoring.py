"""Collects what the stages said beside what is true, writes both in the field's formats, and scores what was written.

Rows wait on disk: memory does not grow with the boxes of a recording, and by a few hundred bytes a frame in the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import EvaluateConfig, FlightConfig
from ..depth_pose.estimator import base_from_optical
from ..geometry import box_iou, matrix_from_quaternion, quaternion_from_matrix, se3
from ..pipeline import FrameResult
from ..records import F32, Bool, DepthMap, Detections, Scale, TargetStatus, TrackState
from . import exports
from .exports import PIXEL_DIGITS, SCORE_DIGITS, xywh
from .metrics.depth import DepthScores, depth_errors
from .metrics.detection import score_boxes
from .metrics.target import overlaps, score_target
from .metrics.tracking import score_tracks, summary
from .metrics.trajectory import aligned_positions, interpolate_poses, pose_matrices, score_trajectory
from .rows import Changed, Table
from .stages import Followed
from .truth import BoxTruth, Truth
from .worst import WorstFrames

F64 = NDArray[np.float64]
MATCH_IOU = 0.5  # for picking worst frames only; scores use COCO's and trackeval's own thresholds


class Scorer:
    """One recording's results; ``scratch`` is an empty folder for the time of the run."""

    def __init__(self, out: Path, scratch: Path, config: FlightConfig, settings: EvaluateConfig,
                 class_map: tuple[tuple[str, tuple[str, ...]], ...], has_detector: bool) -> None:
        self._out, self._settings = out, settings
        self._has_detector = has_detector
        self._map = {name.lower(): truth for truth, names in class_map for name in names}
        self._class_names: tuple[str, ...] = ()
        self._mount = base_from_optical(config.depth_pose)
        self._worst = WorstFrames(settings)
        self._depth = DepthScores()
        self._metric_depth = False
        self._names: list[str] = []  # truth classes as met; sorted at the end
        self._objects: dict[str, int] = {}  # truth identity -> number in gt.txt
        self._size = (0, 0)
        self.frames = 0
        self._scratch, self._first_ns, self._last_ns = scratch, 0, 0
        # seconds and ns (a float holds no whole stamp), counts, target state and quality, inliers, ego, depth, resets
        self._rows = Table(scratch, 10)
        self._found, self._true = Table(scratch, 7), Table(scratch, 8)
        self._tracks, self._true_tracks = Table(scratch, 7), Table(scratch, 7)
        self._target, self._true_target = Table(scratch, 4), Table(scratch, 4)
        self._poses = Table(scratch, 10)  # seconds, ns, position, quaternion, metric
        self._scored_images = Table(scratch, 2)
        self._is_scored = bytearray(1)  # by frame number, from 1

    @property
    def span_s(self) -> float:
        """Recorded time from the first to the last frame, plus one mean period."""
        n = self.frames
        return (self._last_ns - self._first_ns) * 1e-9 * n / (n - 1) if n > 1 else 0.0

    def add(self, one: Followed, depth_truth: tuple[F32, Bool] | None) -> None:
        """One frame, as the stages followed it."""
        result, scored, truth = one.result, one.scored, one.truth
        self._class_names = self._worst.class_names = one.class_names
        frame = result.frame
        self.frames += 1
        image_id = self.frames
        self._size = (frame.image.shape[1], frame.image.shape[0])
        self._first_ns, self._last_ns = self._first_ns or frame.stamp_ns, frame.stamp_ns
        self._is_scored.append(truth is not None)
        if truth is not None:
            self._scored_images.add(image_id, frame.stamp_ns * 1e-9)
            self._add_truth(image_id, truth)
        self._add_found(image_id, scored, result)
        self._add_target(result, truth, one.locked, one.just_locked)
        self._add_depth_pose(result, depth_truth, truth)
        if truth is not None and len(truth.ids) and self._has_detector and result.detections is not None:
            self._offer_detection(result, truth)

    def _add_truth(self, image_id: int, truth: BoxTruth) -> None:
        self._names += [n for n in dict.fromkeys(truth.names) if n not in self._names]
        for who in truth.ids:
            if who:
                self._objects.setdefault(who, len(self._objects) + 1)
        boxes = xywh(truth.xyxy_px)
        names = np.array([self._names.index(n) for n in truth.names], np.float64)
        numbers = np.array([self._objects.get(who, 0) for who in truth.ids], np.float64)
        ignore = truth.visibility < self._settings.visibility_min
        self._true.extend(image_id, names, *boxes.T, ignore, numbers)
        known = numbers > 0
        self._true_tracks.extend(image_id, numbers[known], *boxes[known].T, ~ignore[known])

    def _add_found(self, image_id: int, scored: Detections | None, result: FrameResult) -> None:
        if scored is not None:
            score = np.round(scored.score.astype(np.float64), SCORE_DIGITS)
            self._found.extend(image_id, scored.class_id, *xywh(scored.xyxy_px).T, score)
        counts = {c: self._counts(c) for c in {t.class_id for t in result.tracks}}
        tracks = [t for t in result.tracks if t.state is TrackState.TRACKED and counts[t.class_id]]
        if tracks:
            boxes = xywh(np.stack([t.xyxy_px for t in tracks]))
            score = np.round([t.score for t in tracks], SCORE_DIGITS)
            self._tracks.extend(image_id, [t.id for t in tracks], *boxes.T, score)

    def _counts(self, class_id: int) -> bool:
        """Whether a track's class is one the truth could hold (unknown classes are)."""
        if not self._names or not 0 <= class_id < len(self._class_names):
            return True
        return self._truth_name(self._class_names[class_id]) is not None

    def _truth_name(self, model_name: str) -> str | None:
        wanted = self._map.get(model_name.lower(), model_name if not self._map else None)
        return next((n for n in self._names if wanted is not None and n.lower() == wanted.lower()), None)

    def _add_target(self, result: FrameResult, truth: BoxTruth | None, target_id: str | None, given: bool) -> None:
        nan = (float("nan"),) * 4
        true = nan
        if truth is not None and target_id in truth.ids:
            true = tuple(xywh(truth.xyxy_px[truth.ids.index(target_id)])[0])
        track = result.target.track
        found = true if given else nan if track is None else tuple(xywh(track.xyxy_px)[0])
        if target_id is None:
            found = true = nan
        self._true_target.add(*true)
        self._target.add(*found)
        if target_id is not None and not given and true[0] == true[0]:
            iou = overlaps(np.array([true]), np.array([found]))[0]
            self._worst.offer("target", 1 - iou, f"overlap {iou:.2f}, {result.target.state}", result, truth)

    def _add_depth_pose(self, result: FrameResult, depth_truth: tuple[F32, Bool] | None,
                        truth: BoxTruth | None) -> None:
        said = result.depth_pose
        ego = said.ego_motion if said else None
        stamp = divmod(result.frame.stamp_ns, 10**9)
        self._rows.add(*stamp, len(result.detections) if result.detections is not None else -1, len(result.tracks),
                       TargetStatus.STATES.index(result.target.state), round(result.target.quality, SCORE_DIGITS),
                       ego.inliers if ego else -1, 0 if ego is None else 2 if ego.scale is Scale.METRIC else 1,
                       0 if said is None or said.depth is None else 2 if isinstance(said.depth, DepthMap) else 1,
                       said.pose.reset_counter if said and said.pose else -1)
        if said is None:
            return
        if said.pose is not None:
            odom = se3(matrix_from_quaternion(said.pose.quaternion_wxyz), said.pose.position_m) @ self._mount
            w = quaternion_from_matrix(odom[:3, :3])
            self._poses.add(*stamp, *odom[:3, 3], *w, said.pose.scale is Scale.METRIC)
        if said.depth is not None and depth_truth is not None:
            self._metric_depth |= isinstance(said.depth, DepthMap)
            limits = (self._settings.depth_min_m, self._settings.depth_max_m)
            errors = depth_errors(said.depth.depth, said.depth.valid, *depth_truth, limits)
            self._depth.add(errors)
            if errors:
                self._worst.offer("depth", errors["abs_rel"], f"abs rel {errors['abs_rel']:.3f}", result, truth)

    def _offer_detection(self, result: FrameResult, truth: BoxTruth) -> None:
        assert result.detections is not None
        wanted = truth.xyxy_px[truth.visibility >= self._settings.visibility_min]
        iou = box_iou(wanted, result.detections.xyxy_px)
        found = iou.max(axis=1, initial=0) >= MATCH_IOU
        right = iou.max(axis=0, initial=0) >= MATCH_IOU
        missed, wrong = int((~found).sum()), int((~right).sum())
        caption = f"{missed} of {len(wanted)} missed, {wrong} that are not there"
        self._worst.offer("detection", float(missed + wrong), caption, result, truth)

    def finish(self, truth: Truth, target_id: str | None) -> dict[str, Any]:
        """Write every file and score it."""
        scores = {**self._finish_boxes(), **self._finish_target(target_id)}
        if self._depth.images:
            scores["depth"] = self._depth.summary(self._metric_depth)
        scores.update(self._finish_trajectory(truth))
        exports.write_text(self._out / "frames.csv", self._frame_lines())
        return {"counts": self._counted(), "scores": scores, "size": list(self._size),
                "span_s": round(self.span_s, 6), "worst": self._worst.write(self._out / "worst")}

    def _counted(self) -> dict[str, Any]:
        names = ("detections", "tracks", "odometry", "odometry_metric", "depth", "depth_metric")
        counts, states, resets = dict.fromkeys(names, 0), np.zeros(len(TargetStatus.STATES), int), 0
        for r in self._rows:
            sums = (r[:, 2].clip(0).sum(), r[:, 3].sum(), *(n for c in (r[:, 7], r[:, 8])
                                                            for n in ((c > 0).sum(), (c == 2).sum())))
            counts = {k: counts[k] + int(v) for k, v in zip(names, sums, strict=True)}
            states += np.bincount(r[:, 4].astype(int), minlength=len(states))
            resets = max(resets, int(r[:, 9].max()))
        ids: np.ndarray[Any, Any] = np.zeros(0)
        for piece in self._tracks:
            ids = np.union1d(ids, piece[:, 1])
        return {"frames": self.frames, "track_ids": len(ids), "resets": resets, **counts,
                "target": dict(zip(TargetStatus.STATES, states.tolist(), strict=True))}

    def _finish_target(self, target_id: str | None) -> dict[str, Any]:
        if target_id is None:
            return {}
        exports.write_otb(self._out / "target.txt", self._target)
        exports.write_otb(self._out / "target_gt.txt", self._true_target)
        return {"target": score_target(self._true_target.rows(), self._target.rows())}

    def _finish_boxes(self) -> dict[str, Any]:
        """Detection and tracking: files always, scores where truth exists."""
        if not any(self._is_scored):
            exports.write_coco(self._out, self._scored_images, self._size, None, self._found, self._class_names)
            exports.write_mot(self._out / "tracks.txt", self._tracks, truth=False)
            return {}
        names = sorted(self._names)
        category = [-1 if (name := self._truth_name(n)) is None else names.index(name) for n in self._class_names]
        true, found, tracks = self._in_truths_terms(names, category)
        exports.write_coco(self._out, self._scored_images, self._size, true, found, names)
        exports.write_mot(self._out / "tracks.txt", tracks, truth=False)
        exports.write_mot(self._out / "gt.txt", self._true_tracks, truth=True)
        scores: dict[str, Any] = {}
        if self._has_detector or any(map(len, found)):
            scores["detection"] = score_boxes(true, found, names, self._scratch)
            scores["detection"]["model_classes_used"] = sum(c >= 0 for c in category)
        if len(self._objects) and (self._has_detector or any(map(len, tracks))):
            counts = score_tracks(self._true_tracks, tracks)
            scores["tracking"] = {**summary(counts), "counts": counts}
        return scores

    def _in_truths_terms(self, names: list[str], category: list[int]) -> tuple[Changed, Changed, Changed]:
        """Truth, detections and tracks of the frames with truth; classes are places in ``names``, others left out."""
        scored = np.frombuffer(self._is_scored, bool)
        of_truth, of_model = np.array([names.index(n) for n in self._names] or [0]), np.array([*category, -1])

        def classes(rows: F64) -> F64:
            return np.column_stack([rows[:, 0], of_truth[rows[:, 1].astype(int)], rows[:, 2:]])

        def of_scored(rows: F64) -> F64:
            return np.asarray(rows[scored[rows[:, 0].astype(int)]])

        def matched(rows: F64) -> F64:
            rows = of_scored(rows)
            ids = rows[:, 1].astype(int)
            place = of_model[np.where((ids >= 0) & (ids < len(category)), ids, -1)]
            return np.asarray(np.column_stack([rows[:, 0], place, rows[:, 2:]])[place >= 0])

        return Changed(self._true, classes), Changed(self._found, matched), Changed(self._tracks, of_scored)

    def _finish_trajectory(self, truth: Truth) -> dict[str, Any]:
        poses = self._poses.rows()
        if not len(poses):
            return {}
        at = poses[:, :2].astype(np.int64) @ np.array([10**9, 1], np.int64)
        matrices = pose_matrices(poses[:, 2:5], poses[:, 5:9])
        exports.write_tum(self._out / "poses.tum", at, matrices)
        known = truth.poses()
        if known is None:
            return {}
        exists, true = interpolate_poses(at, known.stamps_ns, known.position_m, known.quaternion_wxyz,
                                         round(self._settings.pose_gap_ms * 1e6))
        metric = bool(poses[:, 9].all())
        exports.write_tum(self._out / "poses_gt.tum", at[exists], true[exists])
        aligned = aligned_positions(matrices[exists], true[exists], metric)
        error = np.linalg.norm(aligned - true[exists][:, :3, 3], axis=1) if len(aligned) else np.zeros(0)
        exports.write_text(self._out / "trajectory.csv", _trajectory_lines(at[exists], aligned, true[exists], error))
        return {"trajectory": score_trajectory(at[exists], matrices[exists], true[exists], metric)}

    def _frame_lines(self) -> Iterator[str]:
        yield "frame,stamp_ns,detections,tracks,target,quality,ego_inliers,ego,depth,resets"
        kinds, states, i = ("none", "unit", "metric"), TargetStatus.STATES, 0
        for rows in self._rows:
            for s, ns, found, tracks, state, quality, inliers, ego, depth, resets in rows.tolist():
                i += 1
                yield (f"{i},{int(s) * 10**9 + int(ns)},{found:.0f},{tracks:.0f},{states[int(state)]},{quality:g},"
                       f"{inliers:.0f},{kinds[int(ego)]},{kinds[int(depth)]},{resets:.0f}")


def _trajectory_lines(stamps: Any, aligned: Any, true: Any, error: Any) -> Iterator[str]:
    yield "stamp_ns,x,y,z,true_x,true_y,true_z,error_m"
    if len(aligned):
        for stamp, a, t, e in zip(stamps.tolist(), aligned, true[:, :3, 3], error, strict=True):
            yield ",".join([str(stamp), *(f"{round(float(v), PIXEL_DIGITS)}" for v in (*a, *t, e))])
