"""The network: where are the edges of what the template showed, in a crop around where the tracker believes it to be?

Both crops are cut so that the (believed) box is their middle half, so the answer is near (-1/2, -1/2, 1/2, 1/2) in box
sides. Memory reading after Oh et al., "Video Object Segmentation using Space-Time Memory Networks" (ICCV 2019): every
cell of a template crop leaves a key (what it looks like) and a value (where it lay, inside or outside of the box);
every cell of the current crop reads the values whose keys are like its own. Nothing in it knows classes. Edges come
from profiles of the decoded map along x and y as distributions, whose spread says how sure they are.

The backbone is the first part of the detector's (thinned MobileNetV2, ImageNet weights), frozen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.detector.model import LEVEL_AFTER, Separable, UavDet

SIDE_PX = 96
CELLS = SIDE_PX // 8  # a side of the memory's map
WIDTH, MEMORY, FINE = 48, 32, 32  # channels at stride 8, of keys and values, at stride 4
BINS = SIDE_PX // 4  # places an edge may be at, a stride-4 cell each
BLOCKS_USED = 9  # of the detector's: up to 96 channels at stride 16
POSITIONS = (torch.arange(BINS) + 0.5) / BINS * 2 - 1  # of the bins, in box sides from the crop's middle


class Edges(nn.Module):
    """Profile along one axis (B, C, 1, BINS) to logits of the near and the far edge (B, 2, BINS)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 64, (1, 5), padding=(0, 2)), nn.ReLU(inplace=True),
                                    nn.Conv2d(64, 64, (1, 5), padding=(0, 2)), nn.ReLU(inplace=True),
                                    nn.Conv2d(64, 2, (1, 3), padding=(0, 1)))

    def forward(self, profile: Tensor) -> Tensor:
        return self.layers(profile).squeeze(2)


class Refiner(nn.Module):
    """``backbone`` takes crops (B, 3, SIDE_PX, SIDE_PX) BGR minus 114, ``forward`` its maps."""

    def __init__(self) -> None:
        super().__init__()
        base = UavDet()
        self.stem, self.blocks = base.stem, base.blocks[:BLOCKS_USED]
        self.lateral = nn.ModuleList([nn.Conv2d(24, FINE, 1), nn.Conv2d(32, WIDTH, 1), nn.Conv2d(96, WIDTH, 1)])
        self.mix = Separable(WIDTH)
        self.key = nn.Conv2d(WIDTH, MEMORY, 1)
        self.value = nn.Conv2d(WIDTH, MEMORY, 1)
        self.place = nn.Parameter(torch.randn(1, MEMORY, CELLS, CELLS) * 0.1)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.join = nn.Sequential(nn.Conv2d(WIDTH + MEMORY, WIDTH, 1), nn.ReLU(inplace=True), Separable(WIDTH),
                                  Separable(WIDTH), nn.Conv2d(WIDTH, FINE, 1))
        self.fine = nn.Sequential(nn.ReLU(inplace=True), Separable(FINE), Separable(FINE))
        self.mask = nn.Conv2d(FINE, 1, 1)
        self.across, self.down = Edges(3 * FINE + 2), Edges(3 * FINE + 2)
        self.present = nn.Linear(2 * FINE, 1)

    @torch.no_grad()
    def backbone(self, image: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8 and 16 of 24, 32 and 96 channels."""
        x, levels = self.stem(image), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in LEVEL_AFTER:
                levels.append(x)
        return levels

    def encode(self, levels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """A map at stride 8, and the keys and values (B, MEMORY, CELLS^2) that this crop leaves as a template."""
        top = nn.functional.interpolate(self.lateral[2](levels[2]), scale_factor=2.0, mode="nearest")
        coarse = self.mix(torch.relu(self.lateral[1](levels[1]) + top))
        key = self.key(coarse).flatten(2)
        key = key / (key.square().sum(1, keepdim=True) + 1e-6).sqrt()
        return coarse, key, torch.relu(self.value(coarse) + self.place).flatten(2)

    def forward(self, levels: list[Tensor], keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        """``levels`` of the backbone; ``keys`` and ``values`` (B, MEMORY, CELLS^2) of the template.

        Returns:
            ``logits`` (B, 4, BINS) of left, top, right, bottom edge; ``mask`` (B, 1, BINS, BINS) logits; ``present``
            (B, 1) logit; ``key`` and ``value`` of this crop.
        """
        coarse, key, value = self.encode(levels)
        weight = torch.softmax(self.sharpness * torch.matmul(key.transpose(1, 2), keys), 2)  # (B, here, there)
        read = torch.matmul(weight, values.transpose(1, 2)).transpose(1, 2)
        read = read.reshape(-1, MEMORY, CELLS, CELLS)
        joined = nn.functional.interpolate(self.join(torch.cat([coarse, read], 1)), scale_factor=2.0, mode="nearest")
        x = self.fine(joined + self.lateral[0](levels[0]))
        mask = self.mask(x)
        sides = self.across(_profile(x, mask)), self.down(_profile(x.transpose(2, 3), mask.transpose(2, 3)))
        logits = torch.stack(sides, 2).flatten(1, 2)  # near edges of both axes, then far ones
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return {"logits": logits, "mask": mask, "present": self.present(pooled), "key": key, "value": value}


def _profile(x: Tensor, mask: Tensor) -> Tensor:
    """What every column shows: mean, largest, and mean of what the mask holds to be the target."""
    inside = torch.sigmoid(mask)
    share = inside.sum(2, keepdim=True)
    held = (inside * x).sum(2, keepdim=True) / (share + 0.1)
    return torch.cat([x.mean(2, keepdim=True), x.amax(2, keepdim=True), held, share / BINS,
                      inside.amax(2, keepdim=True)], 1)


def edges(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, 4) of the edges' distributions, in box sides from the crop's middle."""
    share, at = torch.softmax(logits, 2), POSITIONS.to(logits)
    mean = (share * at).sum(2)
    return mean, ((share * (at - mean[..., None]).square()).sum(2) + 1e-8).sqrt()


class Exported(nn.Module):
    """What flies: crop and memory to ``edges``, ``spread``, ``present`` (probability), ``key``, ``value``."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, image: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        out = self.refiner(self.refiner.backbone(image), keys, values)
        mean, spread = edges(out["logits"])
        return mean, spread, torch.sigmoid(out["present"]), out["key"], out["value"]
