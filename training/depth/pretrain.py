"""The depth network's supervised start: pictures of the simulator and of boxes, with exact depth. Seeded, resumable.

``python -m training.depth.pretrain --data DIR --out DIR``: DIR gets the pictures (those missing are rendered), `--out`
the checkpoint and at the end ``uav_depth.onnx`` and ``start.pt``, which `train depth` starts from. The pose network is
carried along as it is.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.run import Run, save
from training.traced import write_traced
from uav_perception.depth_pose.dense import network_size
from uav_perception.records import U8

from .export import metadata
from .losses import deviation_loss, edge_loss, scale_invariant_loss
from .networks import DepthNet
from .train import START
from .views import ASPECTS, FAR_M, WIDTH, render_chunks

F16 = NDArray[np.float16]
SAVE_EVERY = 100
HELD_OUT = range(10000, 10004)  # places to validate on, pictures of all shapes among them


@dataclass(frozen=True)
class Plan:
    """One run; everything that decides the result."""

    data: str
    out: str
    places: int = 100
    first: int = 0  # of the places
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
    """Of every place pictures (N, H, W, 3) BGR and depth (N, H, W) m, ``FAR_M`` at the sky."""

    places: list[tuple[U8, F16]]

    @classmethod
    def read(cls, folder: Path, places: range) -> Data:
        """All pictures of ``places``, rendered first where they are missing."""
        found = []
        for path in render_chunks(folder, places):
            with np.load(path) as file:
                found.append((file["image"], file["depth"]))
        return cls(found)

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """RGB 0..255 (count, 3, h, w) and depth (count, 1, h, w) in the network's size for one shape of picture.

        Most are a random part of a picture, as other lenses and other pitches would show it (depth is learnt up to a
        factor, so it stays); some are mirrored; all are of changed light.
        """
        shape = self.places[int(rng.integers(len(self.places)))][0].shape[1:]
        alike = [place for place in self.places if place[0].shape[1:] == shape]
        size = network_size(shape[1], shape[0])
        images, depths = [], []
        for _ in range(count):
            images_there, depth_there = alike[int(rng.integers(len(alike)))]
            k, part = int(rng.integers(len(images_there))), _part(shape[0], shape[1], rng)
            image, depth = images_there[k][part], depth_there[k][part].astype(np.float32)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shape[1] > size[0] else cv2.INTER_LINEAR)
            depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
            flip = slice(None, None, -1 if rng.random() < 0.5 else 1)
            images.append(image[:, flip])
            depths.append(depth[:, flip])
        return augmented(planes(np.stack(images)), rng), torch.from_numpy(np.stack(depths))[:, None]


def _part(height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random part of a picture, or all of them."""
    if rng.random() < 0.3:
        return slice(height), slice(width)
    rows, cols = (round(n * rng.uniform(0.55, 1.0)) for n in (height, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - cols + 1))
    return slice(top, top + rows), slice(left, left + cols)


def planes(images: U8) -> Tensor:
    """(N, 3, H, W) RGB of (N, H, W, 3) BGR."""
    return torch.from_numpy(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))).float()


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
    return (0.5 * scale_invariant_loss(predicted, truth, valid) + deviation_loss(predicted, truth, valid)
            + 0.5 * edge_loss(predicted, truth, valid) + 0.02 * level + 0.05 * sky.mean())


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
        image, truth = data.batch(self.plan.batch, rng)
        return self.descend(depth_loss(self.model(image.contiguous(memory_format=torch.channels_last)), truth))


def depth_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The depth network's part of a start for `train depth`."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["nets"]
    return {name.removeprefix("depth."): value for name, value in saved.items() if name.startswith("depth.")}


@torch.no_grad()
def abs_rel(model: DepthNet, data: Data) -> float:
    """Mean over the pictures of |d - t| / t after scaling by the medians; the sky is left out."""
    errors = []
    for images, depths in data.places:
        size = network_size(images.shape[2], images.shape[1])
        for image, depth in zip(images, depths.astype(np.float32), strict=True):
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            found = 1.0 / F.interpolate(model.eval()(planes(small[None])), depth.shape, mode="bilinear")[0, 0].numpy()
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
    data = Data.read(Path(plan.data), range(plan.first, plan.first + plan.places))
    trainer = Trainer(plan)
    return trainer.to_the_end(lambda: trainer.step(data), lambda: {"abs_rel": round(abs_rel(trainer.average, kept), 4)},
                              out / "checkpoint.pt", plan.validate_every, SAVE_EVERY)


def write_onnx(net: DepthNet, path: Path, report: dict[str, int]) -> None:
    """``net`` for pictures of every aspect; engines are calibrated in that of most cameras."""
    sizes = [network_size(WIDTH, round(WIDTH / aspect)) for aspect in dict.fromkeys(ASPECTS)]
    free = {"image": {2: "height", 3: "width"}, "disparity": {2: "half_height", 3: "half_width"}}
    write_traced(net.eval(), [(255 * torch.rand(1, 3, h, w),) for w, h in sizes], ["image"], ["disparity"], path,
                 metadata(*sizes[0], report), free)


def main() -> None:
    """Train, then write ``start.pt`` and ``uav_depth.onnx``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    for name in ("places", "first", "steps", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, default=Plan.__dataclass_fields__[name].default)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--start", default=str(START), help="checkpoint to start from")
    plan = Plan(**vars(parser.parse_args()))
    net, _ = train(plan)
    saved = torch.load(plan.start, map_location="cpu", weights_only=True)
    write_onnx(net, Path(plan.out) / "uav_depth.onnx", {
        "places": plan.places, "first": plan.first, "steps": plan.steps, "seed": plan.seed})
    saved["nets"].update({f"depth.{name}": value for name, value in net.state_dict().items()})
    halved = {name: value.half() if value.is_floating_point() else value for name, value in saved["nets"].items()}
    save(Path(plan.out) / "start.pt", {"nets": halved})


if __name__ == "__main__":
    main()
