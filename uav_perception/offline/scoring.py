"""Collects what the stages said beside what is true, writes both in the field's formats, and scores the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..config import EvaluateConfig, FlightConfig
from ..depth_pose.estimator import base_from_optical
from ..geometry import box_iou, matrix_from_quaternion, quaternion_from_matrix, se3
from ..pipeline import FrameResult
from ..records import F32, Bool, DepthMap, Detections, Scale, TargetStatus, TrackState
from . import exports
from .exports import PIXEL_DIGITS, SCORE_DIGITS, Table, xywh
from .metrics import tracking
from .metrics.depth import DepthScores, depth_errors
from .metrics.detection import score_boxes
from .metrics.target import overlaps, score_target
from .metrics.trajectory import aligned_positions, interpolate_poses, pose_matrices, score_trajectory
from .stages import Followed
from .truth import BoxTruth, Truth
from .worst import WorstFrames

MATCH_IOU = 0.5  # for picking worst frames only; scores use COCO's and trackeval's own thresholds


class Scorer:
    """One recording's results; memory per frame is a few dozen numbers."""

    def __init__(self, out: Path, config: FlightConfig, settings: EvaluateConfig,
                 class_map: tuple[tuple[str, tuple[str, ...]], ...], has_detector: bool) -> None:
        self._out, self._settings = out, settings
        self._has_detector = has_detector
        self._score_min = config.detector.score_min
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
        self._stamps = Table(2)  # seconds, nanoseconds: a float holds no whole stamp
        self._rows = Table(8)  # detections, tracks, target state, quality, ego inliers, ego, depth, resets
        self._found, self._true = Table(7), Table(8)
        self._tracks, self._true_tracks = Table(7), Table(7)
        self._target, self._true_target = Table(4), Table(4)
        self._poses = Table(9)  # frame, position, quaternion, metric
        self._scored_images = Table(2)
        self._any_truth = False

    @property
    def span_s(self) -> float:
        """Recorded time from the first to the last frame, plus one mean period."""
        s = self._stamps.rows()
        if len(s) < 2:
            return 0.0
        span = (s[-1, 0] - s[0, 0]) + (s[-1, 1] - s[0, 1]) * 1e-9
        return float(span * len(s) / (len(s) - 1))

    def add(self, one: Followed, depth_truth: tuple[F32, Bool] | None) -> None:
        """One frame, as the stages followed it."""
        result, scored, truth = one.result, one.scored, one.truth
        self._class_names = self._worst.class_names = one.class_names
        frame = result.frame
        self.frames += 1
        image_id = self.frames
        self._size = (frame.image.shape[1], frame.image.shape[0])
        self._stamps.add(frame.stamp_ns // 10**9, frame.stamp_ns % 10**9)
        self._any_truth |= truth is not None
        if truth is not None:
            self._scored_images.add(image_id, frame.stamp_ns * 1e-9)
            self._add_truth(image_id, truth)
        self._add_found(image_id, scored, result)
        self._add_target(result, truth, one.locked, one.just_locked)
        self._add_depth_pose(image_id, result, depth_truth, truth)
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

    def _add_depth_pose(self, image_id: int, result: FrameResult, depth_truth: tuple[F32, Bool] | None,
                        truth: BoxTruth | None) -> None:
        said = result.depth_pose
        ego = said.ego_motion if said else None
        self._rows.add(len(result.detections) if result.detections is not None else -1, len(result.tracks),
                       TargetStatus.STATES.index(result.target.state), round(result.target.quality, SCORE_DIGITS),
                       ego.inliers if ego else -1, 0 if ego is None else 2 if ego.scale is Scale.METRIC else 1,
                       0 if said is None or said.depth is None else 2 if isinstance(said.depth, DepthMap) else 1,
                       said.pose.reset_counter if said and said.pose else -1)
        if said is None:
            return
        if said.pose is not None:
            odom = se3(matrix_from_quaternion(said.pose.quaternion_wxyz), said.pose.position_m) @ self._mount
            w = quaternion_from_matrix(odom[:3, :3])
            self._poses.add(image_id, *odom[:3, 3], *w, said.pose.scale is Scale.METRIC)
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
        rows = self._rows.rows()
        ego, depth = rows[:, 5], rows[:, 6]
        counts = {"frames": self.frames, "detections": int(rows[:, 0].clip(0).sum()), "tracks": int(rows[:, 1].sum()),
                  "track_ids": len(np.unique(self._tracks.rows()[:, 1])), "odometry": int((ego > 0).sum()),
                  "odometry_metric": int((ego == 2).sum()), "depth": int((depth > 0).sum()),
                  "depth_metric": int((depth == 2).sum()),
                  "resets": int(max(rows[:, 7].max(initial=0), 0)),
                  "target": {s: int((rows[:, 2] == i).sum()) for i, s in enumerate(TargetStatus.STATES)}}
        self._write_frames(rows)
        scores: dict[str, Any] = {}
        scores.update(self._finish_boxes())
        if target_id is not None:
            exports.write_otb(self._out / "target.txt", self._target.rows())
            exports.write_otb(self._out / "target_gt.txt", self._true_target.rows())
            scores["target"] = score_target(self._true_target.rows(), self._target.rows())
        if self._depth.images:
            scores["depth"] = self._depth.summary(self._metric_depth)
        scores.update(self._finish_trajectory(truth))
        return {"counts": counts, "scores": scores, "size": list(self._size), "span_s": round(self.span_s, 6),
                "worst": self._worst.write(self._out / "worst")}

    def _finish_boxes(self) -> dict[str, Any]:
        """Detection and tracking: files always, scores where truth exists."""
        images = self._scored_images.rows() if self._any_truth else np.zeros((0, 2))
        names = sorted(self._names)
        found, tracks = self._found.rows(), self._tracks.rows()
        truth_rows: np.ndarray[Any, Any] | None = None
        if self._any_truth:
            known = np.isin(found[:, 0], images[:, 0])
            to_truth = [self._truth_name(n) for n in self._class_names]
            index = np.array([names.index(n) if n is not None else -1 for n in to_truth] or [-1])
            ids = found[:, 1].astype(int)
            category = np.where((ids >= 0) & (ids < len(index)), index[np.clip(ids, 0, len(index) - 1)], -1)
            found = np.column_stack([found[:, 0], category, found[:, 2:]])[known & (category >= 0)]
            truth_rows = self._true.rows()
            truth_rows[:, 1] = np.array([names.index(n) for n in self._names] or [0])[truth_rows[:, 1].astype(int)]
            tracks = tracks[np.isin(tracks[:, 0], images[:, 0])]
        else:
            names = list(self._class_names)
        exports.write_coco(self._out, images, self._size, truth_rows, found, names)
        exports.write_mot(self._out / "tracks.txt", tracks, truth=False)
        if truth_rows is None:
            return {}
        exports.write_mot(self._out / "gt.txt", self._true_tracks.rows(), truth=True)
        scores: dict[str, Any] = {}
        if self._has_detector or len(found):
            scores["detection"] = score_boxes(truth_rows, found, names)
            scores["detection"]["model_classes_used"] = sum(n is not None for n in to_truth)
        if len(self._objects) and (len(tracks) or self._has_detector):
            raw = tracking.score_tracks(self._true_tracks.rows(), tracks, self.frames)
            scores["tracking"] = {**tracking.summary(raw), "raw": tracking.to_json(raw)}
        return scores

    def _finish_trajectory(self, truth: Truth) -> dict[str, Any]:
        poses = self._poses.rows()
        if not len(poses):
            return {}
        stamps = self._stamps.rows().astype(np.int64) @ np.array([10**9, 1], np.int64)
        at = stamps[poses[:, 0].astype(int) - 1]
        matrices = pose_matrices(poses[:, 1:4], poses[:, 4:8])
        exports.write_tum(self._out / "poses.tum", at, matrices)
        known = truth.poses()
        if known is None:
            return {}
        exists, true = interpolate_poses(at, known.stamps_ns, known.position_m, known.quaternion_wxyz,
                                         round(self._settings.pose_gap_ms * 1e6))
        metric = bool(poses[:, 8].all())
        exports.write_tum(self._out / "poses_gt.tum", at[exists], true[exists])
        aligned = aligned_positions(matrices[exists], true[exists], metric)
        error = np.linalg.norm(aligned - true[exists][:, :3, 3], axis=1) if len(aligned) else np.zeros(0)
        exports.write_text(self._out / "trajectory.csv", _trajectory_lines(at[exists], aligned, true[exists], error))
        return {"trajectory": score_trajectory(at[exists], matrices[exists], true[exists], metric)}

    def _write_frames(self, rows: np.ndarray[Any, Any]) -> None:
        def lines() -> Iterator[str]:
            yield "frame,stamp_ns,detections,tracks,target,quality,ego_inliers,ego,depth,resets"
            kinds = ("none", "unit", "metric")
            for i, ((s, ns), r) in enumerate(zip(self._stamps.rows().tolist(), rows.tolist(), strict=True), 1):
                yield (f"{i},{int(s) * 10**9 + int(ns)},{int(r[0])},{int(r[1])},{TargetStatus.STATES[int(r[2])]},"
                       f"{exports.number(r[3])},{int(r[4])},{kinds[int(r[5])]},{kinds[int(r[6])]},{int(r[7])}")

        exports.write_text(self._out / "frames.csv", lines())


def _trajectory_lines(stamps: Any, aligned: Any, true: Any, error: Any) -> Iterator[str]:
    yield "stamp_ns,x,y,z,true_x,true_y,true_z,error_m"
    if len(aligned):
        for stamp, a, t, e in zip(stamps.tolist(), aligned, true[:, :3, 3], error, strict=True):
            yield ",".join([str(stamp), *(f"{round(float(v), PIXEL_DIGITS)}" for v in (*a, *t, e))])
