"""The network that outlines what moves by itself: a small U-Net on differences to earlier pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uav_perception.depth_pose.motion_mask import MaskNetwork

CHANNELS = MaskNetwork.CHANNELS


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class MaskNet(nn.Module):
    """(B, CHANNELS, h, w) 0..255 to (B, 1, h, w) logits; h and w are multiples of ``MaskNetwork.STEP``.

    Most of its width lies where a place of its maps is 8 pixels and more: what things look like, and how far a mover
    reaches whose middle differs from nothing. It learns to see all things that could move, too, which a picture shows
    far more of: what moves is such a thing, and not its shadow.
    """

    WIDTHS = (16, 32, 64, 96, 128)  # of the maps of 2, 4, 8, 16 and 32 pixels a place

    def __init__(self) -> None:
        super().__init__()
        inputs, downs, ups = CHANNELS, list[nn.Module](), list[nn.Module]()
        for level, width in enumerate(self.WIDTHS):
            more = (_conv(width, width) for _ in range(1 if level < 2 else 2))
            downs.append(nn.Sequential(_conv(inputs, width, 2), *more))
            inputs = width
        for width in self.WIDTHS[-2::-1]:
            ups.append(_conv(inputs + width, width))
            inputs = width
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)
        self.out = nn.Sequential(_conv(inputs, inputs), nn.Conv2d(inputs, 8, 3, 1, 1), nn.PixelShuffle(2))

    def forward(self, seen: Tensor) -> Tensor:
        return self.both(seen)[:, :1]

    def both(self, seen: Tensor) -> Tensor:
        """(B, 2, h, w) logits: moves, and could move; the first is never above the second."""
        maps, kept = seen / 64.0, list[Tensor]()
        for down in self.downs:
            maps = down(maps)
            kept.append(maps)
        kept.pop()
        for up in self.ups:
            maps = up(torch.cat([_doubled(maps), kept.pop()], 1))
        moves, could = self.out(maps).split(1, 1)
        return torch.cat([torch.minimum(moves, could), could], 1)


def _doubled(maps: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")
