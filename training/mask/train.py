"""Train the network that outlines what moves: seeded, resumable, one thread.

A checkpoint is written every ``SAVE_EVERY`` steps; a run that is interrupted goes on from it when started again with
the same folder.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from training.run import Run
from uav_perception.depth_pose.motion_mask import MaskNetwork
from uav_perception.records import F64, U8

from .flights import PICTURES, read, rendered
from .network import MaskNet
from .samples import FIRST, sample
from .start import blended, go_on_from, stored

SAVE_EVERY = 100
CROP = (160, 192)  # rows, cols: few things in each, so that a walker counts
NOTHING_PX = 8.0  # where nothing moves, so many pixels drawn in vain cost half of what a crop can
ON_MOVING = 0.8  # share of the crops that are laid around something that moves, each thing alike


@dataclass(frozen=True)
class Plan:
    """One run; everything that decides the result."""

    folder: str  # of the rendered flights; those missing are rendered
    out: str = "training/runs/mask"
    flights: int = 400
    start: str = ""  # an exported mask network to go on from
    blend: float = 1.0  # share of what was learnt in the result; the rest is the start's
    steps: int = 2000
    batch: int = 12
    rate: float = 3e-3
    warmup: int = 100
    ema: float = 0.998
    seed: int = 0
    validate_every: int = 300


@dataclass(frozen=True)
class Data:
    """Samples, of different sizes: (C, h, w) channels and (3, h, w) shares of 255 that move, could move, count."""

    seen: list[U8]
    truth: list[U8]

    @cached_property
    def _middles(self) -> list[F64]:
        """Of the things that move in each sample, (N, 2) x, y px."""
        return [np.asarray(cv2.connectedComponentsWithStats((truth[0] > 127).astype(np.uint8))[3][1:])
                for truth in self.truth]

    @cached_property
    def _shares(self) -> F64:
        """How often each sample is drawn from: more often where more things move, but less so for each of them."""
        weights = np.sqrt([1 + len(middles) for middles in self._middles])
        return np.asarray(weights / weights.sum())

    def crops(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Channels (count, C, *CROP) and shares 0..1 (count, 3, *CROP), mirrored and of changed contrast and colour at
        random."""
        seen, truth = [], []
        for k in rng.choice(len(self.seen), count, p=self._shares):
            h, w = self.truth[k].shape[1:]
            top, left = rng.integers(h - CROP[0] + 1), rng.integers(w - CROP[1] + 1)
            middles = self._middles[k]
            if len(middles) and rng.random() < ON_MOVING:
                x, y = middles[rng.integers(len(middles))].astype(int)
                top, left = (int(np.clip(at - rng.integers(side), 0, whole - side))
                             for at, side, whole in zip((y, x), CROP, (h, w), strict=True))
            rows, cols = slice(top, top + CROP[0]), slice(left, left + CROP[1])
            a = self.seen[k][:, rows, cols].astype(np.float32)
            a[:3] = a[:3] * rng.uniform(0.8, 1.2, (3, 1, 1)) + rng.uniform(-20, 20)  # the colours
            stretch = rng.uniform(0.7, 1.3)  # of the differences
            a[3:-6] *= stretch
            a[-6:-3] = 128 + stretch * (a[-6:-3] - 128)
            flips = [slice(None, None, int(rng.choice([-1, 1]))) for _ in CROP]
            seen.append(a[:, flips[0], flips[1]])
            truth.append(self.truth[k][:, rows, cols][:, flips[0], flips[1]].astype(np.float32) / 255)
        return torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(truth))


def read_data(plan: Plan) -> tuple[Data, Data]:
    """To learn from, and to validate on: every tenth flight, of all scenes in turn."""
    data = Data([], []), Data([], [])
    for i, path in enumerate(rendered(Path(plan.folder), plan.flights)):
        clip, rng, kept = read(path), np.random.default_rng([plan.seed, i]), int(i % 20 in (7, 18))
        runs = (clip, clip if kept else clip.backwards())
        for k in range(FIRST, PICTURES):
            seen, truth = sample(runs[rng.integers(2)], k, rng)
            data[kept].seen.append(seen)
            data[kept].truth.append(truth)
    return data


def loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Of what moves, in the pixels that count, and of what could: cross entropy, and one minus the soft intersection
    over union of each crop, so that a walker is worth as much as a bus."""
    counts = torch.cat([truth[:, 2:], torch.ones_like(truth[:, 2:])], 1)
    truth, p = truth[:, :2], torch.sigmoid(logits)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, truth, counts, reduction="none")
    both, either = (counts * p * truth).sum((2, 3)), (counts * (p + truth - p * truth)).sum((2, 3))
    apart = 1 - (both + NOTHING_PX) / (either + NOTHING_PX)
    return 4 * entropy.mean() + 2 * apart.mean()


class Trainer(Run[MaskNet]):
    """``step`` of one batch."""

    plan: Plan

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        super().__init__(plan, MaskNet())
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=plan.rate, weight_decay=1e-3)

    def step(self, data: Data) -> float:
        """One update; returns the loss."""
        seen, truth = data.crops(self.plan.batch, np.random.default_rng([self.plan.seed, 1, self.step_index]))
        self.model.train(not self.plan.start)  # what goes on is normalised as before: few crops are unlike pictures
        return self.descend(loss(self.model.both(seen.contiguous(memory_format=torch.channels_last)), truth))


@torch.no_grad()
def overlap(model: MaskNet, data: Data) -> float:
    """Intersection over union of all pixels that count."""
    both = either = 0
    for seen, truth in zip(data.seen, data.truth, strict=True):
        h, w = (side // MaskNetwork.STEP * MaskNetwork.STEP for side in seen.shape[1:])
        found = model.eval()(torch.from_numpy(seen[None, :, :h, :w]).float())[0, 0].numpy() > 0
        moving, _, counts = truth[:, :h, :w] > 127
        both += int((found & moving & counts).sum())
        either += int(((found | moving) & counts).sum())
    return both / max(either, 1)


def train(plan: Plan) -> tuple[MaskNet, list[dict[str, float]]]:
    """Run ``plan`` to its end (going on from its checkpoint); the averaged network and the run's history."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    checkpoint = Path(plan.out) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    data, kept = read_data(plan)
    trainer = Trainer(plan)
    some = data.crops(4 * plan.batch, np.random.default_rng(plan.seed))[0]
    if plan.start and not checkpoint.exists():
        go_on_from(Path(plan.start), trainer.model, some)
        trainer.average = copy.deepcopy(trainer.model)
    model, history = trainer.to_the_end(lambda: trainer.step(data),
                                        lambda: {"iou": round(overlap(trainer.average, kept), 4)},
                                        checkpoint, plan.validate_every, SAVE_EVERY)
    if plan.start and plan.blend < 1:
        model = blended(model, stored(Path(plan.start)), plan.blend, some)
        history.append({"step": plan.steps, "iou": round(overlap(model, kept), 4)})
    return model, history
