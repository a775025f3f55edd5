"""Scores against the reference libraries, against brute force, and against what must come out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.geometry import matrix_from_quaternion, se3, so3_exp
from uav_perception.offline.exports import write_coco, write_mot
from uav_perception.offline.metrics import tracking
from uav_perception.offline.metrics.depth import DepthScores, depth_errors
from uav_perception.offline.metrics.detection import NAMES, score_boxes
from uav_perception.offline.metrics.target import score_target
from uav_perception.offline.metrics.trajectory import interpolate_poses, score_trajectory, umeyama
from uav_perception.offline.verify import score_files, score_tracks_by_files

CLASSES = ["car", "bus", "person"]


def random_boxes(seed: int, images: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Truth and detections of all sizes, with ties, crowds, doubles, empty images and more than 100 boxes in one."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for i in range(1, images + 1):
        for _ in range(rng.integers(0, 9)):
            size = np.round(rng.choice([12, 50, 140]) * rng.uniform(0.5, 2, 2), 3)
            at, kind = np.round(rng.uniform(0, 400, 2), 3), rng.integers(0, 3)
            truth.append([i, kind, *at, *size, rng.random() < 0.15, 0])
            for _ in range(rng.integers(0, 3)):
                seen = kind if rng.random() < 0.8 else rng.integers(0, 3)
                score = rng.choice([0.3, 0.5, round(rng.random(), 6)])
                found.append([i, seen, *np.round(at + rng.normal(0, 0.08, 2) * size, 3),
                              *np.round(size * rng.uniform(0.85, 1.2, 2), 3), score])
        for _ in range(150 if i == 7 else rng.integers(0, 4)):
            found.append([i, rng.integers(0, 3), *np.round(rng.uniform(0, 400, 2), 3),
                          *np.round(rng.uniform(5, 90, 2), 3), round(rng.random(), 6)])
    return np.array(truth, float), np.array(found, float)


@pytest.mark.parametrize("seed", range(4))
def test_coco_scores_equal_the_reference_library(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    truth, found = random_boxes(seed)
    images = np.column_stack([np.arange(1, 26), np.arange(25)])
    write_coco(tmp_path, images, (640, 640), truth, found, CLASSES)
    ours = score_boxes(truth, found, CLASSES)
    theirs = score_files(tmp_path / "annotations.json", tmp_path / "detections.json")
    for a, b in ((ours, theirs), (ours["any_class"], theirs["any_class"])):
        for name in NAMES:
            assert (a[name] is None) == (b[name] is None) and (a[name] is None or abs(a[name] - b[name]) < 1e-12), name


def test_coco_scores_of_nothing() -> None:
    truth, found = random_boxes(0)
    assert score_boxes(truth, np.zeros((0, 7)), CLASSES)["AP"] == 0.0
    assert "AP" not in score_boxes(np.zeros((0, 8)), found, CLASSES)
    perfect = np.hstack([truth[:, :6], np.ones((len(truth), 1))])
    whole = truth.copy()
    whole[:, 6] = 0
    assert score_boxes(whole, perfect, CLASSES)["AP"] == pytest.approx(1.0)


def random_tracks(seed: int, frames: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for who in range(1, 6):
        at, speed = rng.uniform(0, 300, 2), rng.normal(0, 4, 2)
        for f in range(rng.integers(1, 10), rng.integers(20, frames)):
            box = np.round([*(at + f * speed), 40, 30], 3)
            truth.append([f, who, *box, rng.random() > 0.05])
            if rng.random() < 0.85:
                name = who if f < 15 or who % 2 else who + 10  # identity switches
                found.append([f, name, *np.round(box + rng.normal(0, 2, 4), 3), 0.9])
    return np.array(truth), np.array(found)


@pytest.mark.parametrize("seed", range(3))
def test_tracking_scores_equal_trackevals_own_program(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("trackeval")
    truth, found = random_tracks(seed)
    write_mot(tmp_path / "gt.txt", truth, truth=True)
    write_mot(tmp_path / "tracks.txt", found, truth=False)
    ours = tracking.summary(tracking.score_tracks(truth, found))
    theirs = score_tracks_by_files(tmp_path / "gt.txt", tmp_path / "tracks.txt", 30)
    assert all(abs(ours[k] - v) < 1e-9 for k, v in theirs.items()) and 0.1 < ours["HOTA"] < 1
    again = tracking.read_mot(tmp_path / "gt.txt")
    assert np.array_equal(again[:, :7], truth)


def test_sequences_are_combined_by_counts() -> None:
    pytest.importorskip("trackeval")
    parts = {str(s): tracking.score_tracks(*random_tracks(s)) for s in range(3)}
    through_json = json.loads(json.dumps(parts))
    both = tracking.summary(tracking.combine(through_json))
    assert both == tracking.summary(tracking.combine(parts))
    assert both["IDSW"] == sum(tracking.summary(p)["IDSW"] for p in parts.values())


def test_real_motchallenge_text(shared: Path) -> None:
    """TUD-Campus with the tracker result that ships beside it."""
    pytest.importorskip("trackeval")
    folder = shared / "data" / "mot" / "TUD-Campus"
    gt, found = next(folder.rglob("gt.txt")), next(folder.rglob("res*.txt"))
    truth, tracks = tracking.read_mot(gt), tracking.read_mot(found)
    ours = tracking.summary(tracking.score_tracks(truth, tracks[tracks[:, 0] <= truth[:, 0].max()]))
    assert 0.2 < ours["HOTA"] < 0.9 and 0.2 < ours["MOTA"] < 1


def test_perfect_target_scores_twenty_of_twentyone() -> None:
    truth = np.array([[10.0, 10, 20, 20]] * 5)
    assert score_target(truth, truth)["success_auc"] == pytest.approx(20 / 21)
    assert score_target(truth, np.full((5, 4), np.nan))["success_auc"] == 0.0
    half = truth.copy()
    half[3:] = np.nan
    said = score_target(half, truth)
    assert said["frames"] == 3 and score_target(np.full((2, 4), np.nan), truth[:2])["frames"] == 0


def test_target_scores_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    truth = np.column_stack([rng.uniform(0, 100, (40, 2)), rng.uniform(5, 60, (40, 2))])
    found = truth + rng.normal(0, 8, truth.shape)
    found[:, 2:] = np.abs(found[:, 2:])
    said = score_target(truth, found)
    ious, close = [], 0
    for (x, y, w, h), (u, v, p, q) in zip(truth, found, strict=True):
        inter = max(0, min(x + w, u + p) - max(x, u)) * max(0, min(y + h, v + q) - max(y, v))
        ious.append(inter / (w * h + p * q - inter))
        close += np.hypot(x + w / 2 - u - p / 2, y + h / 2 - v - q / 2) <= 20
    auc = np.mean([np.mean([i > t for i in ious]) for t in np.arange(0, 1.05, 0.05)])
    assert said["success_auc"] == pytest.approx(auc) and said["precision_20px"] == pytest.approx(close / 40)


def test_depth_errors_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(2, 50, (24, 32)).astype(np.float32)
    depth = (truth * rng.uniform(0.8, 1.3, truth.shape) * 0.37).astype(np.float32)
    known, valid = rng.random(truth.shape) > 0.2, rng.random(truth.shape) > 0.1
    said = depth_errors(depth, valid, truth, known, (1e-3, 40.0))
    used = [i for i in np.ndindex(truth.shape) if known[i] and valid[i] and truth[i] <= 40]
    both = [(float(depth[i]), float(truth[i])) for i in used]
    scale = np.median([t for _, t in both]) / np.median([d for d, _ in both])
    relative = [abs(min(d * scale, 40.0) - t) / t for d, t in both]
    assert said["abs_rel"] == pytest.approx(np.mean(relative), rel=1e-6) and said["scale"] == pytest.approx(scale)
    near = [max(min(d * scale, 40.0) / t, t / min(d * scale, 40.0)) < 1.25 for d, t in both]
    assert said["d1"] == pytest.approx(np.mean(near))
    assert said["abs_rel_metric"] > 0.5  # unscaled it is far off
    scores = DepthScores()
    scores.add(said)
    scores.add({})
    assert scores.images == 1 and "abs_rel_metric" not in scores.summary(metric=False)


def test_depth_of_another_size_is_brought_to_the_truth() -> None:
    truth = np.full((40, 60), 10.0, np.float32)
    small = np.full((20, 30), 10.0, np.float32)
    said = depth_errors(small, small > 0, truth, truth > 0, (1e-3, 80.0))
    assert said["abs_rel"] == 0 and said["coverage"] == 1
    assert depth_errors(small, small < 0, truth, truth > 0, (1e-3, 80.0)) == {}


def path(n: int = 40) -> np.ndarray:
    t = np.linspace(0, 3, n)
    return np.array([se3(so3_exp([0.1 * np.sin(a), 0.2 * a, 0.0]), [3 * a, np.sin(a), 0.3 * a * a]) for a in t])


@given(st.floats(0.05, 20), st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.lists(st.floats(-50, 50), min_size=3,
                                                                                     max_size=3))
@settings(max_examples=25)
def test_alignment_undoes_any_similarity(scale: float, rotation: list[float], shift: list[float]) -> None:
    truth = path()
    r = so3_exp(rotation)
    found = truth.copy()
    found[:, :3, :3] = r @ truth[:, :3, :3]
    found[:, :3, 3] = scale * truth[:, :3, 3] @ r.T + shift
    said = score_trajectory(np.arange(len(truth)) * 10**8, found, truth, metric=False)
    assert said["ate_rmse_m"] < 1e-6 and said["rpe_rot_mean_deg"] < 1e-4 and said["drift_percent"] < 1e-4
    assert said["scale"] == pytest.approx(1 / scale, rel=1e-6)


def test_metric_trajectories_may_not_be_scaled() -> None:
    truth = path()
    found = truth.copy()
    found[:, :3, 3] *= 2
    stamps = np.arange(len(truth)) * 10**8
    assert score_trajectory(stamps, found, truth, metric=True)["ate_rmse_m"] > 1
    assert score_trajectory(stamps, found, truth, metric=False)["ate_rmse_m"] < 1e-6
    assert score_trajectory(stamps[:2], found[:2], truth[:2], metric=True) == {"poses": 2}


def test_alignment_is_the_best_there_is() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    s, r, t = umeyama(a, b, with_scale=True)
    best = ((b - (s * a @ r.T + t)) ** 2).sum()
    assert np.allclose(r @ r.T, np.eye(3)) and np.linalg.det(r) > 0
    for _ in range(200):
        r2 = so3_exp(rng.normal(0, 0.05, 3)) @ r
        other = ((b - (s * rng.uniform(0.95, 1.05) * a @ r2.T + t + rng.normal(0, 0.02, 3))) ** 2).sum()
        assert other >= best - 1e-9


def test_poses_between_known_ones() -> None:
    known = np.array([0, 100, 200, 1000], np.int64) * 10**6
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [10, 0, 0]])
    half = np.array([np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8)])  # 45 degrees about z
    quaternions = np.array([[1.0, 0, 0, 0], half, -half, [1, 0, 0, 0]])
    asked = np.array([-1, 50, 150, 500, 1000], np.int64) * 10**6
    exists, poses = interpolate_poses(asked, known, positions, quaternions, 200 * 10**6)
    assert exists.tolist() == [False, True, True, False, True]
    assert np.allclose(poses[1, :3, 3], [0.5, 0, 0])
    assert np.allclose(poses[1, :3, :3], so3_exp([0, 0, np.pi / 8]))
    assert np.allclose(poses[2, :3, :3], matrix_from_quaternion(half))  # q and -q are the same rotation
