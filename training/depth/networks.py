"""Two small networks: DepthNet (one image to disparity) and PoseNet (two images to the motion between them).

The roles are those of SfM-Learner (Zhou et al., CVPR 2017); the bodies are built for two CPU cores: DepthNet's encoder
is MobileNetV2 (Sandler et al., CVPR 2018) so that it can start from ImageNet weights, its decoder separable.
Both take RGB 0..255 as float32 (N, 3, H, W) with H and W multiples of 32, and normalise inside the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)  # ImageNet, 0..255
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))  # t, c, n, s
SKIPS = (1, 3, 6, 13)  # outputs with strides 2, 4, 8, 16; the last block has stride 32
DISPARITY_MAX, DISPARITY_MIN = 10.0, 0.01


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = c_in * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden),
                   nn.ReLU6(inplace=True), nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class Separable(nn.Sequential):
    """Depthwise 3x3, pointwise, batch norm, ReLU6."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(nn.Conv2d(c_in, c_in, 3, 1, 1, groups=c_in, bias=False), nn.BatchNorm2d(c_in),
                         nn.ReLU6(inplace=True), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
                         nn.ReLU6(inplace=True))


def normalise(image: Tensor) -> Tensor:
    """RGB 0..255 to zero mean and unit spread of ImageNet."""
    mean = torch.tensor(MEAN, device=image.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=image.device).view(1, 3, 1, 1)
    return (image - mean) / std


class DepthNet(nn.Module):
    """Disparity (N, 1, H/2, W/2), 0.01..10.01, up to scale: depth = 1 / disparity."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True))
        features: list[nn.Module] = [stem]
        c = 32
        for expand, c_out, count, stride in BLOCKS:
            for i in range(count):
                features.append(InvertedResidual(c, c_out, stride if i == 0 else 1, expand))
                c = c_out
        self.features = nn.ModuleList(features)
        widths, skips = (128, 64, 48, 32), (96, 32, 24, 16)
        self.reduce = nn.ModuleList()
        self.fuse = nn.ModuleList()
        for width, skip in zip(widths, skips, strict=True):
            self.reduce.append(Separable(c, width))
            self.fuse.append(Separable(width + skip, width))
            c = width
        self.head = nn.Conv2d(c, 1, 3, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, -2.2)  # disparity about 1 at the start

    def forward(self, image: Tensor) -> Tensor:
        x = normalise(image)
        kept: list[Tensor] = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in SKIPS:
                kept.append(x)
        for reduce, fuse, skip in zip(self.reduce, self.fuse, reversed(kept), strict=True):
            x = F.interpolate(reduce(x), scale_factor=2.0, mode="nearest")
            x = fuse(torch.cat([x, skip], 1))
        return DISPARITY_MAX * torch.sigmoid(self.head(x)) + DISPARITY_MIN


class PoseNet(nn.Module):
    """Motion (N, 6) from the first image to the second: translation (in units of median depth) and rotation vector."""

    def __init__(self) -> None:
        super().__init__()
        widths, c = (16, 32, 64, 96, 128, 128), 6
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            k = (7, 5, 3, 3, 3, 3)[i]
            layers += [nn.Conv2d(c, width, k, 2, k // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            c = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(c, 6, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        x = torch.cat([normalise(first), normalise(second)], 1)
        return 0.01 * self.head(self.body(x)).mean((2, 3))
