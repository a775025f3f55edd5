from __future__ import annotations

import cv2
import numpy as np

from training.depth.scenes import Box, Scene, make_texture, random_pair, render
from training.depth.stereo import choose_sources, consistent, depth_labels, plane_sweep
from uav_perception.geometry import BODY_FROM_OPTICAL, se3, se3_inverse

K = np.array([[120.0, 0, 79.5], [0, 120.0, 59.5], [0, 0, 1]])


def wall_and_block() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Grey picture, depth and pose of five views sliding past a block in front of a wall."""
    rng = np.random.default_rng(3)
    boxes = (Box(np.array([9.0, 0, 0]), np.array([1.0, 30, 30]), 0.0, 0, 0.03),
             Box(np.array([5.0, 0.3, 0]), np.array([0.5, 0.8, 0.7]), 0.0, 1, 0.02))
    scene = Scene(boxes, tuple(make_texture(rng) for _ in range(2)), np.array([200.0] * 3), 1e5)
    shifted = K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    views = []
    for k in range(5):
        pose = se3(BODY_FROM_OPTICAL, np.array([0.0, 0.3 * k, 0.04 * k]))
        image, depth = render(scene, pose, shifted, 160, 120)
        views.append((cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), depth, pose))
    return views


def test_renderer_depth_agrees_between_views() -> None:
    (_, da, pa), (_, db, pb) = wall_and_block()[1:3]
    agree = consistent(1 / da, 1 / db, se3_inverse(pb) @ pa, K, tolerance=0.02)
    assert agree[8:-8, 8:-12].mean() > 0.93


def test_plane_sweep_finds_depth_where_it_claims_to() -> None:
    views = wall_and_block()
    sources = [(g, se3_inverse(p) @ views[2][2]) for k, (g, _, p) in enumerate(views) if k != 2]
    rho, match = plane_sweep(views[2][0], sources, K, 0.08, 0.4, 48)
    sure = match > 0.7
    assert sure.mean() > 0.3
    assert np.median(np.abs(rho * views[2][1] - 1)[sure]) < 0.04


def test_labels_come_with_weights_and_keep_the_unit() -> None:
    views = wall_and_block()
    priors = [np.full((120, 160), 1 / 7.0, np.float32) for _ in views]
    labels = depth_labels([g for g, _, _ in views], [p for _, _, p in views], K, priors, planes=32)
    found = [(r, w, d) for label, (_, d, _) in zip(labels, views, strict=True) if label is not None for r, w in [label]]
    assert found
    for rho, weight, depth in found:
        sure = weight > 0.9
        assert sure.mean() > 0.2
        assert np.median(np.abs(rho * depth - 1)[sure]) < 0.05


def test_sources_need_parallax_and_a_pose() -> None:
    poses = [se3(np.eye(3), [0.1 * k, 0, 0]) for k in range(8)]
    chosen = choose_sources(0, [*poses, None], 5.0, 500.0)
    assert 0 not in chosen and 8 not in chosen and len(set(chosen)) == len(chosen) >= 2
    assert choose_sources(0, [np.eye(4)] * 5, 5.0, 500.0) == []


def test_random_scenes_have_depth_that_motion_confirms() -> None:
    a, b, da, db, motion, scaled = random_pair(np.random.default_rng(11), 160, 64)
    assert a.shape == b.shape == (64, 160, 3) and da.min() > 0
    centred = scaled - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    agree = consistent((1 / da).astype(np.float32), (1 / db).astype(np.float32), motion, centred)
    assert agree[4:-4, 8:-8].mean() > 0.6
