"""What the networks are trained with: view synthesis by inverse warping and what is compared afterwards.

Images are (N, 3, H, W) in 0..1, depth (N, 1, H, W), intrinsics (N, 3, 3), motions ``source_from_target`` (N, 4, 4).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_rays(K: Tensor, height: int, width: int) -> Tensor:
    """Rays (N, 3, H*W) with unit depth through pixel centres (0, 0), (1, 0), ..."""
    v, u = torch.meshgrid(torch.arange(height, dtype=K.dtype), torch.arange(width, dtype=K.dtype), indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)]).reshape(1, 3, -1).to(K.device)
    return torch.linalg.inv(K) @ pixels


def warp(source: Tensor, depth: Tensor, source_from_target: Tensor, K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The target view synthesised from ``source``: p_s ~ K T D(p) K^-1 p (Zhou et al. 2017, eq. 2).

    Returns the synthesised view, the depth (N, 1, H, W) each target pixel has in the source camera, and a (N, 1, H, W)
    float mask of pixels that lie inside the source image.
    """
    n, _, height, width = depth.shape
    points = pixel_rays(K, height, width) * depth.reshape(n, 1, -1)
    moved = source_from_target[:, :3, :3] @ points + source_from_target[:, :3, 3:]
    z = moved[:, 2:].clamp(min=1e-3)
    p = (K @ moved)[:, :2] / z
    grid = torch.stack([2 * p[:, 0] / (width - 1) - 1, 2 * p[:, 1] / (height - 1) - 1], -1).reshape(n, height, width, 2)
    inside = ((grid.abs() <= 1).all(-1) & (moved[:, 2] > 1e-3).reshape(n, height, width))[:, None].to(depth.dtype)
    view = F.grid_sample(source, grid, padding_mode="border", align_corners=True)
    return view, z.reshape(n, 1, height, width), inside


def ssim_distance(a: Tensor, b: Tensor) -> Tensor:
    """(1 - SSIM) / 2 per pixel and channel over 3x3 windows (Wang et al. 2004), 0 = equal."""
    pad = lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)  # noqa: E731
    ma, mb = pad(a), pad(b)
    va, vb, cov = pad(a * a) - ma * ma, pad(b * b) - mb * mb, pad(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return ((1 - ssim) / 2).clamp(0, 1)


def photometric_error(a: Tensor, b: Tensor) -> Tensor:
    """0.85 SSIM distance + 0.15 L1 (Godard et al. 2019, eq. 2), (N, 1, H, W)."""
    return (0.85 * ssim_distance(a, b) + 0.15 * (a - b).abs()).mean(1, keepdim=True)


def reprojection_loss(target: Tensor, views: list[Tensor], insides: list[Tensor], sources: list[Tensor],
                      explain: Tensor | None = None) -> Tensor:
    """Minimum over sources, pixels that the unwarped source explains better left out (Godard et al. 2019, eq. 4-5).

    ``explain`` (N, 1, H, W) in 0..1 is SfM-Learner's optional explainability mask.
    """
    errors = torch.cat([photometric_error(target, v) + 10.0 * (1 - i) for v, i in zip(views, insides, strict=True)], 1)
    still = torch.cat([photometric_error(target, s) for s in sources], 1)
    best = errors.min(1, keepdim=True).values
    use = (best < still.min(1, keepdim=True).values + 1e-5) & (best < 5.0)
    weight = use.to(best.dtype) if explain is None else use * explain
    return (best * weight).sum() / weight.sum().clamp(min=1.0)


def smoothness_loss(disparity: Tensor, image: Tensor) -> Tensor:
    """Edge-aware first-order smoothness of mean-normalised disparity (Godard et al. 2019, eq. 3)."""
    d = disparity / disparity.mean((2, 3), keepdim=True).clamp(min=1e-6)
    gx, gy = (d[..., 1:] - d[..., :-1]).abs(), (d[..., 1:, :] - d[..., :-1, :]).abs()
    ix = (image[..., 1:] - image[..., :-1]).abs().mean(1, keepdim=True)
    iy = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(1, keepdim=True)
    return (gx * torch.exp(-10 * ix)).mean() + (gy * torch.exp(-10 * iy)).mean()


def geometry_loss(computed: Tensor, sampled: Tensor, inside: Tensor) -> Tensor:
    """Depth inconsistency |a - b| / (a + b) of the same points seen from two views (Bian et al. 2019, eq. 3)."""
    return ((computed - sampled).abs() / (computed + sampled) * inside).sum() / inside.sum().clamp(min=1.0)


def scale_invariant_loss(depth: Tensor, truth: Tensor, valid: Tensor, invariance: float = 1.0) -> Tensor:
    """Spread of the log ratio (Eigen et al. 2014, eq. 4): 0 for truth times any factor when ``invariance`` is 1."""
    r = (torch.log(depth.clamp(min=1e-4)) - torch.log(truth.clamp(min=1e-4))) * valid
    n = valid.sum((1, 2, 3)).clamp(min=1.0)
    mean = r.sum((1, 2, 3)) / n
    return torch.sqrt(((r * r).sum((1, 2, 3)) / n - invariance * mean**2).clamp(min=0) + 1e-6).mean()


def deviation_loss(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean distance of the log ratio from its mean: 0 for truth times any factor; outliers count little."""
    r = torch.log(depth.clamp(min=1e-4)) - torch.log(truth.clamp(min=1e-4))
    n = valid.sum((1, 2, 3), keepdim=True).clamp(min=1.0)
    mean = (r * valid).sum((1, 2, 3), keepdim=True) / n
    return (((r - mean).abs() * valid).sum((1, 2, 3), keepdim=True) / n).mean()


def edge_loss(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """L1 of log-depth differences between pixels 1, 4 and 16 apart: sharp edges and right slopes."""
    r, total = (torch.log(depth.clamp(min=1e-4)) - torch.log(truth.clamp(min=1e-4))) * valid, depth.new_zeros(())
    for step in (1, 4, 16):
        for a, b, m in ((r[..., step:], r[..., :-step], valid[..., step:] * valid[..., :-step]),
                        (r[..., step:, :], r[..., :-step, :], valid[..., step:, :] * valid[..., :-step, :])):
            total = total + ((a - b).abs() * m).sum() / m.sum().clamp(min=1.0)
    return total / 3


def motion_matrix(twist: Tensor) -> Tensor:
    """(N, 4, 4) motions of (N, 6) translation and rotation vector (Rodrigues' formula)."""
    t, w = twist[:, :3], twist[:, 3:]
    angle = torch.sqrt((w * w).sum(1) + 1e-12)[:, None, None]
    zero = torch.zeros_like(w[:, 0])
    k = torch.stack([zero, -w[:, 2], w[:, 1], w[:, 2], zero, -w[:, 0], -w[:, 1], w[:, 0], zero], 1).reshape(-1, 3, 3)
    rotation = torch.eye(3, device=w.device, dtype=w.dtype) + torch.sin(angle) / angle * k
    rotation = rotation + (1 - torch.cos(angle)) / angle**2 * (k @ k)
    top = torch.cat([rotation, t[:, :, None]], 2)
    bottom = torch.tensor([[[0.0, 0, 0, 1]]], device=w.device, dtype=w.dtype).expand(len(t), 1, 4)
    return torch.cat([top, bottom], 1)
