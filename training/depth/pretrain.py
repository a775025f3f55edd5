"""The depth network's supervised start: pictures of the simulator and of boxes, with exact depth. Seeded, resumable.

``python -m training.depth.pretrain --data DIR --out DIR``: DIR gets the pictures (those missing are rendered), `--out`
the checkpoint and at the end ``start.pt``, which `train depth` starts from. The pose network is carried along as it is.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.run import Run, save
from uav_perception.records import F32, U8

from .losses import edge_loss, scale_invariant_loss
from .networks import DepthNet
from .train import START
from .views import FAR_M, render_chunks

SAVE_EVERY = 100
HELD_OUT = range(10000, 10003)  # places to validate on


@dataclass(frozen=True)
class Plan:
    """One run; everything that decides the result."""

    data: str
    out: str
    places: int = 100
    start: str = str(START)
    steps: int = 4500
    batch: int = 8
    rate: float = 5e-4
    warmup: int = 100
    ema: float = 0.998
    seed: int = 0
    validate_every: int = 250


@dataclass(frozen=True)
class Data:
    """Pictures (N, H, W, 3) BGR and depth (N, H, W) m, ``FAR_M`` at the sky."""

    images: U8
    depth: F32

    @classmethod
    def read(cls, folder: Path, places: range) -> Data:
        """All pictures of ``places``, rendered first where they are missing."""
        images, depth = [], []
        for path in render_chunks(folder, places):
            with np.load(path) as file:
                images.append(file["image"])
                depth.append(file["depth"])
        return cls(np.concatenate(images), np.concatenate(depth))

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """RGB 0..255 (count, 3, H, W) mirrored and of changed light, and depth (count, 1, H, W)."""
        chosen = rng.integers(len(self.images), size=count)
        image, depth = planes(self.images[chosen]), torch.from_numpy(self.depth[chosen].astype(np.float32))[:, None]
        mirrored = torch.from_numpy(rng.random(count) < 0.5).view(count, 1, 1, 1)
        image, depth = (torch.where(mirrored, a.flip(-1), a) for a in (image, depth))
        return augmented(image, rng), depth


def planes(images: U8) -> Tensor:
    """(N, 3, H, W) RGB of (N, H, W, 3) BGR."""
    return torch.from_numpy(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))).float()


def zoomed(images: Tensor, depth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random part of most pictures (N, 3, H, W) and depths (N, 1, H, W), made as large as the whole: as other lenses
    and other pitches would show it. Depth stays, for it is learnt up to a factor."""
    h, w = images.shape[2:]
    for image, far in zip(images, depth, strict=True):
        if rng.random() < 0.3:
            continue
        rows, cols = (round(n * rng.uniform(0.55, 1.0)) for n in (h, w))
        top, left = int(rng.integers(h - rows + 1)), int(rng.integers(w - cols + 1))
        part = (slice(None), slice(top, top + rows), slice(left, left + cols))
        image[:] = F.interpolate(image[part][None], (h, w), mode="bilinear", align_corners=False)[0]
        far[:] = F.interpolate(far[part][None], (h, w), mode="nearest")[0]
    return images, depth


def augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, colour and grey scale of (N, 3, H, W) 0..255."""
    n = len(images)
    gain = torch.from_numpy(rng.uniform(0.75, 1.3, (n, 3, 1, 1)) * rng.uniform(0.7, 1.4, (n, 1, 1, 1))).float()
    gamma = torch.from_numpy(rng.uniform(0.7, 1.4, (n, 1, 1, 1))).float()
    out = 255 * ((images * gain).clamp(0, 255) / 255) ** gamma
    grey = torch.from_numpy(rng.random(n) < 0.3).view(n, 1, 1, 1)
    return torch.where(grey, out.mean(1, keepdim=True), out)


def depth_loss(disparity: Tensor, truth: Tensor) -> Tensor:
    """Log depth up to a factor and its edges; small disparity at the sky; the free factor is kept near one.

    ``disparity`` (N, 1, H/2, W/2) of the network against ``truth`` (N, 1, H, W).
    """
    truth = truth[..., 1::2, 1::2]
    predicted, valid = 1.0 / disparity, (truth < 0.9 * FAR_M).float()
    level = (torch.log(disparity.clamp(min=1e-3)).mean((1, 2, 3)) ** 2).mean()
    sky = F.relu(disparity - 0.1 * disparity.detach().mean((2, 3), keepdim=True)) * (1 - valid)
    return (scale_invariant_loss(predicted, truth, valid) + 0.5 * edge_loss(predicted, truth, valid) + 0.02 * level
            + 0.05 * sky.mean())


class Trainer(Run[DepthNet]):
    """``step`` of one batch."""

    plan: Plan

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        net = DepthNet()
        net.load_state_dict(depth_weights(Path(plan.start)))
        super().__init__(plan, net.train())
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=plan.rate, weight_decay=1e-3)

    def step(self, data: Data) -> float:
        """One update; returns the loss."""
        rng = np.random.default_rng([self.plan.seed, self.step_index])
        image, truth = zoomed(*data.batch(self.plan.batch, rng), rng)
        return self.descend(depth_loss(self.model(image.contiguous(memory_format=torch.channels_last)), truth))


def depth_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The depth network's part of a start for `train depth`."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["nets"]
    return {name.removeprefix("depth."): value for name, value in saved.items() if name.startswith("depth.")}


@torch.no_grad()
def abs_rel(model: DepthNet, data: Data) -> float:
    """Mean over the pictures of |d - t| / t after scaling by the medians; the sky is left out."""
    errors = []
    for image, depth in zip(data.images, data.depth.astype(np.float32), strict=True):
        found = 1.0 / F.interpolate(model.eval()(planes(image[None])), depth.shape, mode="bilinear")[0, 0].numpy()
        seen = depth < 0.9 * FAR_M
        a, b = found[seen], depth[seen]
        errors.append(float(np.mean(np.abs(a * np.median(b) / np.median(a) - b) / b)))
    return float(np.mean(errors))


def train(plan: Plan) -> tuple[DepthNet, list[dict[str, float]]]:
    """Run ``plan`` to its end (going on from its checkpoint); the averaged network and the run's history."""
    torch.set_num_threads(max(1, min(4, len(os.sched_getaffinity(0)))))
    cv2.setNumThreads(1)
    out = Path(plan.out)
    out.mkdir(parents=True, exist_ok=True)
    kept = Data.read(Path(plan.data), HELD_OUT)
    data = Data.read(Path(plan.data), range(plan.places))
    trainer = Trainer(plan)
    return trainer.to_the_end(lambda: trainer.step(data), lambda: {"abs_rel": round(abs_rel(trainer.average, kept), 4)},
                              out / "checkpoint.pt", plan.validate_every, SAVE_EVERY)


def main() -> None:
    """Train, then write ``start.pt``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    for name in ("places", "steps", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, default=Plan.__dataclass_fields__[name].default)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--start", default=str(START), help="checkpoint to start from")
    plan = Plan(**vars(parser.parse_args()))
    net, _ = train(plan)
    saved = torch.load(plan.start, map_location="cpu", weights_only=True)
    saved["nets"].update({f"depth.{name}": value for name, value in net.state_dict().items()})
    halved = {name: value.half() if value.is_floating_point() else value for name, value in saved["nets"].items()}
    save(Path(plan.out) / "start.pt", {"nets": halved})


if __name__ == "__main__":
    main()
