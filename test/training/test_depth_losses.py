from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from training.depth.losses import (  # noqa: E402
    deviation_loss,
    edge_loss,
    geometry_loss,
    motion_matrix,
    photometric_error,
    reprojection_loss,
    scale_invariant_loss,
    smoothness_loss,
    ssim_distance,
    warp,
)
from uav_perception.geometry import se3, so3_exp  # noqa: E402

K = np.array([[90.0, 0, 47.5], [0, 90.0, 31.5], [0, 0, 1]])


def picture(seed: int = 0) -> torch.Tensor:
    noise = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 8, 12))).float()
    return torch.nn.functional.interpolate(noise, (64, 96), mode="bicubic").clamp(0, 1)


def batch(m: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(m).float()[None]


def test_warp_over_a_plane_is_its_homography() -> None:
    motion = se3(so3_exp([0.01, -0.02, 0.015]), [0.1, -0.05, 0.2])
    _, z, inside = warp(picture(), torch.full((1, 1, 64, 96), 5.0), batch(motion), batch(K))
    ramp = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij"))[None]
    where, _, _ = warp(ramp, torch.full((1, 1, 64, 96), 5.0), batch(motion), batch(K))
    homography = K @ (motion[:3, :3] + np.outer(motion[:3, 3], [0, 0, 1]) / 5.0) @ np.linalg.inv(K)
    for v, u in ((10, 20), (32, 48), (50, 70)):
        p = homography @ [u, v, 1.0]
        assert bool(inside[0, 0, v, u])
        np.testing.assert_allclose(where[0, :, v, u].numpy(), [p[1] / p[2], p[0] / p[2]], atol=2e-3)
        expected = (motion[:3, :3] @ (np.linalg.inv(K) @ [u, v, 1.0]) * 5 + motion[:3, 3])[2]
        assert float(z[0, 0, v, u]) == pytest.approx(expected, rel=1e-5)


def test_warp_without_motion_changes_nothing_and_tells_what_leaves_the_picture() -> None:
    view, _, inside = warp(picture(), torch.full((1, 1, 64, 96), 3.0), batch(np.eye(4)), batch(K))
    torch.testing.assert_close(view, picture(), atol=1e-4, rtol=0)
    assert float(inside.mean()) > 0.99
    _, _, gone = warp(picture(), torch.full((1, 1, 64, 96), 3.0), batch(se3(np.eye(3), [50.0, 0, 0])), batch(K))
    assert float(gone.sum()) == 0


def test_gradient_of_the_warp_points_to_the_true_depth() -> None:
    source, motion = picture(3), batch(se3(np.eye(3), [0.15, 0, 0]))
    target = warp(source, torch.full((1, 1, 64, 96), 4.0), motion, batch(K))[0]
    depth = torch.tensor(4.3, requires_grad=True)
    (warp(source, depth.expand(1, 1, 64, 96), motion, batch(K))[0] - target).abs().mean().backward()
    assert float(depth.grad) > 0


def test_ssim_and_photometric_values_on_known_pairs() -> None:
    a = picture(1)
    assert float(ssim_distance(a, a).max()) < 1e-5
    black, white = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    assert float(ssim_distance(black, white).mean()) == pytest.approx(0.5 * (1 - 1e-4 / (1 + 1e-4)), abs=1e-5)
    assert float(photometric_error(black, white).mean()) == pytest.approx(0.85 * 0.49995 + 0.15, abs=1e-4)


def test_the_better_source_counts_and_what_stands_still_does_not() -> None:
    target, wrong = picture(4), picture(5)
    ones = torch.ones(1, 1, 64, 96)
    assert float(reprojection_loss(target, [target, wrong], [ones, ones], [wrong, wrong])) < 1e-5
    assert float(reprojection_loss(target, [wrong], [ones], [wrong])) > 0.05
    assert float(reprojection_loss(target, [wrong], [ones], [target])) == 0.0  # auto-mask: nothing moved
    assert float(reprojection_loss(target, [wrong], [0 * ones], [wrong])) == 0.0  # outside the source


def test_scale_invariance_edges_and_consistency() -> None:
    truth = torch.rand(2, 1, 16, 20) * 5 + 1
    valid = torch.ones_like(truth)
    assert float(scale_invariant_loss(3 * truth, truth, valid)) < 2e-3
    assert float(scale_invariant_loss(3 * truth, truth, valid, invariance=0.0)) == pytest.approx(np.log(3), rel=1e-3)
    assert float(deviation_loss(3 * truth, truth, valid)) < 1e-6
    half = torch.cat([truth[..., :10], 4 * truth[..., 10:]], -1)
    assert float(deviation_loss(half, truth, valid)) == pytest.approx(np.log(2), rel=1e-5)
    assert float(edge_loss(7 * truth, truth, valid)) < 1e-6
    assert float(edge_loss(truth.flip(-1), truth, valid)) > 0.1
    assert float(geometry_loss(truth, truth, valid)) == 0.0
    assert float(geometry_loss(3 * truth, truth, valid)) == pytest.approx(0.5, abs=1e-6)


def test_smoothness_ignores_scale_and_spares_edges_of_the_picture() -> None:
    disparity = torch.ones(1, 1, 16, 20)
    assert float(smoothness_loss(disparity, torch.rand(1, 3, 16, 20))) == 0.0
    step = disparity.clone()
    step[..., 10:] = 3.0
    flat, edged = torch.zeros(1, 3, 16, 20), torch.zeros(1, 3, 16, 20)
    edged[..., 10:] = 1.0
    assert float(smoothness_loss(step, edged)) < 0.01 * float(smoothness_loss(step, flat))
    torch.testing.assert_close(smoothness_loss(step, flat), smoothness_loss(5 * step, flat))


def test_motion_matrix_is_rodrigues() -> None:
    twist = np.array([[0.1, -0.2, 0.3, 0.4, -0.1, 0.2], [0, 0, 0, 0, 0, 0]])
    found = motion_matrix(torch.from_numpy(twist)).numpy()
    np.testing.assert_allclose(found[0], se3(so3_exp(twist[0, 3:]), twist[0, :3]), atol=1e-9)
    np.testing.assert_allclose(found[1], np.eye(4), atol=1e-9)
