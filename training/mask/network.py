"""The network that outlines what moves by itself: a small U-Net on differences to earlier pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uav_perception.depth_pose.motion_mask import MaskNetwork

CHANNELS = MaskNetwork.CHANNELS


def _conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class MaskNet(nn.Module):
    """(B, CHANNELS, h, w) 0..255 to (B, 1, h, w) logits; h and w are multiples of 8.

    Two by two pixels are one place of its maps: a quarter of the work.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.PixelUnshuffle(2), _conv(4 * CHANNELS, 24), _conv(24, 24))
        self.middle = nn.Sequential(_conv(24, 40, 2), _conv(40, 40))
        self.coarse = nn.Sequential(_conv(40, 48, 2), _conv(48, 48, dilation=2), _conv(48, 48, dilation=4))
        self.to_middle, self.to_fine = _conv(48 + 40, 40), _conv(40 + 24, 24)
        self.out = nn.Sequential(nn.Conv2d(24, 4, 1), nn.PixelShuffle(2))

    def forward(self, seen: Tensor) -> Tensor:
        fine = self.fine(seen / 64.0)
        middle = self.middle(fine)
        middle = self.to_middle(torch.cat([_doubled(self.coarse(middle)), middle], 1))
        logits: Tensor = self.out(self.to_fine(torch.cat([_doubled(middle), fine], 1)))
        return logits


def _doubled(maps: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")
