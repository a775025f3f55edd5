"""The maths of the target tracker against dense or brute-force computation."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.track.krr import CrossPatchRegression, SupportTransform, fft2, gaussian_label, ifft2
from uav_perception.track.regions import RegionRegression, region_masks
from uav_perception.track.search import fuse


def make(seed=0, channels=2, shape=(12, 14), patch=(2, 2), ridge=0.3, beta=None):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(channels, *shape)).astype(np.float32)
    regression = CrossPatchRegression(shape, patch, 1.2, ridge, 0.3)
    if beta is not None:
        regression.beta = beta
    return regression, maps


def random_beta(seed):
    a = np.random.default_rng(seed).normal(size=(9, 9))
    beta = np.eye(9) + 0.2 * a @ a.T
    return beta * 9 / np.trace(beta)


@pytest.mark.parametrize("cross", [False, True])
def test_regression_equals_a_dense_solve(cross):
    """ADMM in the Fourier domain finds the filter of the dense ridge with penalty W^T (B^-1 (x) I) W."""
    regression, maps = make(beta=random_beta(1) if cross else None)
    regression.solve(fft2(maps), 400)
    c, (ph, pw) = len(maps), regression.patch
    top, left = regression.support[0].start, regression.support[1].start
    design, patch_of = [], []
    for m in range(9):
        for k in range(c):
            for y in range(ph):
                for x in range(pw):  # response of a unit filter tap at every shift u: maps[v + u]
                    v = (top + m // 3 * ph + y, left + m % 3 * pw + x)
                    design.append(np.roll(maps[k], (-v[0], -v[1]), (0, 1)).ravel())
                    patch_of.append((m, k, y, x))
    X = np.stack(design, 1).astype(np.float64)
    inverse = np.linalg.inv(regression.beta)
    penalty = np.array([[inverse[a[0], b[0]] if a[1:] == b[1:] else 0.0 for b in patch_of] for a in patch_of])
    # relative ridge: in units of the mean energy of a channel's spectrum, half planes counted as the solver does
    unit = float((np.abs(fft2(maps)) ** 2).sum(0).mean()) / c
    W = np.linalg.solve(X.T @ X + regression.ridge * unit * penalty, X.T @ regression.label.ravel())
    np.testing.assert_allclose(regression.response(fft2(maps)).ravel(), X @ W, atol=2e-3)


def test_responses_of_patch_pairs_are_the_kernel_products():
    """With B = I the sum over equal pairs is the filter's own response; a pair is symmetric in its patches."""
    regression, maps = make(seed=3)
    regression.solve(fft2(maps), 20)
    columns, pairs = regression.cross_responses(fft2(maps))
    assert len(pairs) == 45
    own = sum(columns[:, i] for i, (m, n) in enumerate(pairs) if m == n)
    np.testing.assert_allclose(own, regression.response(fft2(maps)).ravel(), atol=1e-4)


def test_beta_stays_symmetric_positive_definite_and_normalised():
    regression, maps = make(seed=5)
    regression.solve(fft2(maps), 20)
    regression.update_beta(fft2(maps))
    np.testing.assert_allclose(regression.beta, regression.beta.T)
    assert np.linalg.eigvalsh(regression.beta).min() > 0
    assert np.trace(regression.beta) == pytest.approx(9)
    assert not np.allclose(regression.beta, np.eye(9))


def test_filter_lives_on_its_support_and_finds_a_shift():
    regression, maps = make(seed=7, channels=6, shape=(24, 24), patch=(3, 3), ridge=1e-3)
    regression.solve(fft2(maps), 50)
    outside = np.ones(maps.shape[1:], bool)
    outside[regression.support] = False
    kernels = ifft2(regression._spectrum.conj(), (24, 24))
    assert np.abs(kernels[:, outside]).max() < 1e-6 < 1e-3 < np.abs(kernels).max()
    response = regression.response(fft2(np.roll(maps, (3, -2), (1, 2))))
    assert np.unravel_index(response.argmax(), response.shape) == (3, 22)


@pytest.mark.parametrize("shape", [(24, 24), (9, 8), (10, 11)])
def test_transform_of_the_support_is_the_fft_of_padded_maps(shape):
    rows, cols = slice(2, 7), slice(3, 6)
    padded = np.zeros((4, *shape), np.float32)
    padded[:, rows, cols] = np.random.default_rng(0).normal(size=(4, 5, 3))
    transform = SupportTransform(shape, (rows, cols))
    np.testing.assert_allclose(transform.forward(padded[:, rows, cols].copy()), fft2(padded).conj(), atol=1e-5)
    spectra = fft2(np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32))
    np.testing.assert_allclose(transform.inverse(spectra), ifft2(spectra.conj(), shape)[:, rows, cols], atol=1e-5)


def test_fourier_pair_and_label():
    label = gaussian_label(9, 8, 1.5)
    assert label[0, 0] == label.max() == 1.0
    np.testing.assert_allclose(ifft2(fft2(label[None]), (9, 8))[0], label, atol=1e-6)


def test_masks_are_four_row_bands_four_column_bands_then_random_taps():
    masks = region_masks(20)
    for k in range(4):
        assert masks[k, k : k + 2].all() and masks[k].sum() == 10
        assert masks[4 + k, :, k : k + 2].all() and masks[4 + k].sum() == 10
    assert (masks[8:].sum((1, 2)) >= 2).all() and 0.15 < masks[8:].mean() < 0.45
    np.testing.assert_array_equal(masks, region_masks(20))


def test_region_kernels_use_only_their_taps_and_match_a_masked_ridge():
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(6, 30, 30)).astype(np.float32)
    regions = RegionRegression((9.0, 9.0), 6, 1.0, 10, 3, 0.05, 0.1, 3)
    samples = regions.samples(maps)
    assert samples.shape == (13 * 13, 25 * 3)
    regions.learn(samples)
    ridge = 0.05 * np.trace(samples.T @ samples) / samples.shape[1]
    for k, mask in enumerate(region_masks(10)):
        on = np.repeat(mask.ravel(), 3)
        assert not regions._weights[k, ~on].any()
        dense = np.linalg.solve(samples[:, on].T @ samples[:, on] + ridge * np.eye(on.sum()),
                                samples[:, on].T @ regions.label.ravel())
        np.testing.assert_allclose(regions._weights[k, on], dense, rtol=2e-2, atol=2e-4)


def test_fusion_is_monotone_in_both_and_keeps_an_agreed_peak():
    rng = np.random.default_rng(4)
    whole, parts = rng.random((20, 20)).astype(np.float32), rng.random((9, 9)).astype(np.float32)
    before = fuse(whole, parts, 0.45, False)
    raised = whole.copy()
    raised[1, 2] += 0.3
    assert fuse(raised, parts, 0.45, False)[1, 2] > before[1, 2]
    more = parts.copy()
    more[4 + 1, 4 + 2] += 0.3  # the same shift in the other's numbering
    changed = fuse(whole, more, 0.45, False) - before
    assert changed[1, 2] > 0 and np.count_nonzero(np.abs(changed) > 1e-6) == 1
    whole[2, 18] = 5.0
    parts[4 + 2, 4 - 2] = 5.0
    for by_quality in (False, True):
        assert np.unravel_index(fuse(whole, parts, 0.45, by_quality).argmax(), whole.shape) == (2, 18)
