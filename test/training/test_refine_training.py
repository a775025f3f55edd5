"""Training of the box refinement on pictures made here: truth of the samples, loss, pool, resumption, export."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from training.detector.pictures import Objects, Picture, rounded_outline  # noqa: E402
from training.refine import pairs  # noqa: E402
from training.refine.export import export  # noqa: E402
from training.refine.network import BINS, CELLS, MEMORY, POSITIONS, Refiner, edges  # noqa: E402
from training.refine.pairs import Flight, Stream  # noqa: E402
from training.refine.things import CANVAS, Thing, invent  # noqa: E402
from training.refine.train import Plan, Pool, Trainer, answer, iou, levels_of, losses, truth  # noqa: E402
from uav_perception.track.pyramid import Pyramid  # noqa: E402
from uav_perception.track.refine import BoxRefinement  # noqa: E402


def noise(seed: int, side: int = 160) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(60, 120, (20, 20, 3)).astype(np.uint8), (side, side))


def stream(seed: int = 1) -> Stream:
    """One red block in a picture, one in a flight that moves, one to paste."""
    image = noise(1)
    image[60:90, 50:100] = (20, 20, 220)
    box = np.array([[50.0, 60, 100, 90]])
    picture = Picture("p", image, Objects(rounded_outline(box, 8.0), np.array([1])), np.ones(5, bool), "rgb")
    frames, boxes = [], []
    for k in range(8):
        frame = noise(2)
        frame[60 : 84 + k, 40 + 3 * k : 80 + 3 * k] = (20, 20, 220)
        frames.append(frame)
        boxes.append([40.0 + 3 * k, 60, 80 + 3 * k, 84 + k])
    plate = np.zeros((40, 60, 4), np.uint8)
    plate[2:38, 2:58] = (20, 20, 220, 255)
    return Stream([picture], [Flight(frames, [(np.arange(8), np.array(boxes))])], [Thing((plate,))], [noise(3)], seed)


@pytest.mark.parametrize("kind", ["still", "flight", "pasted"])
def test_edges_are_where_the_target_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The red of the crop spans the stated box (to blur, resampling and the rounding of outlines)."""
    monkeypatch.setattr(pairs, "photographed", lambda image, rng, thermal: image)
    monkeypatch.setattr(pairs, "_varied", lambda crop, rng: crop)
    monkeypatch.setattr(pairs, "_loose", lambda rng: np.zeros(4))
    monkeypatch.setattr(pairs, "_cover", lambda canvas, seen, rng: None)
    samples, errors = stream(), []
    for i in range(60):
        s = samples.sample(i, kind)
        for crop, box, present in zip(s.crops[1:], s.edges, s.present, strict=True):
            red = crop[..., 2].astype(int) - crop[..., 0] > 90
            if not present or (kind == "pasted" and red.mean() > 0.4):  # a twin beside it
                continue
            y, x = np.nonzero(red)
            seen = (np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / red.shape[0] - 0.5) * 2
            inside = np.abs(box) < 0.95
            errors += list(np.abs(seen - box)[inside])
    assert len(errors) > 200 and np.median(errors) < 0.06


def test_stream_depends_on_seed_and_index_alone() -> None:
    a, b, other = stream().sample(5), stream().sample(5), stream(2).sample(5)
    assert (a.crops == b.crops).all() and (a.edges == b.edges).all() and a.kind == b.kind
    assert (a.crops != other.crops).any()
    first = [s for s in (stream().sample(i) for i in range(8))]
    assert all(s.crops.flags.c_contiguous and s.mask.shape == (pairs.SEARCHES, BINS, BINS) for s in first)


def test_invented_things_have_a_shape_and_little_moves_between_poses() -> None:
    rng = np.random.default_rng(0)
    for thing in (invent([noise(4)], rng) for _ in range(20)):
        assert all(p.shape == (CANVAS, CANVAS, 4) and p[..., 3].any() for p in thing.poses)
        assert all((p[..., :3][p[..., 3] == 0] == 0).all() for p in thing.poses)


def test_loss_is_small_for_a_perfect_answer() -> None:
    true = torch.tensor([[-0.5, -0.4, 0.45, 0.6], [0.0, 0.0, 0.0, 0.0]])
    distance = (true[..., None] - POSITIONS).abs() / (POSITIONS[1] - POSITIONS[0])
    logits = torch.log((1 - distance).clamp(min=1e-9))
    mask = torch.full((2, 1, BINS, BINS), -1.0)
    out = {"logits": logits, "present": torch.tensor([[9.0], [-9.0]]), "mask": torch.zeros(2, 1, BINS, BINS)}
    parts = losses(out, true, torch.tensor([1.0, 0.0]), mask)
    assert float(parts["edges"]) < 1e-4 and float(parts["iou"]) < 1e-3 and float(parts["present"]) < 1e-3
    assert float(parts["mask"]) == 0
    mean, spread = edges(logits[:1])
    torch.testing.assert_close(mean, true[:1], atol=1e-4, rtol=0)
    assert (spread < POSITIONS[1] - POSITIONS[0]).all()
    assert float(iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))) == pytest.approx(1 / 3)


def test_memory_is_read_by_likeness_not_by_place() -> None:
    torch.manual_seed(0)
    model = Refiner().eval()
    levels = model.backbone(torch.randn(1, 3, 96, 96) * 40)
    _, key, value = model.encode(levels)
    order = torch.randperm(CELLS**2)
    keys, values = torch.cat([key, key], 2), torch.cat([value, value], 2)
    a, b = model(levels, keys, values), model(levels, keys[..., order], values[..., order])
    torch.testing.assert_close(a["logits"], b["logits"], atol=1e-4, rtol=1e-3)


def test_pool_keeps_the_newest() -> None:
    pool = Pool(4)
    pool.add([torch.arange(3.0)])
    pool.add([torch.arange(3.0, 6.0)])
    (rows,) = pool.draw(9, np.random.default_rng(0))
    assert sorted(rows.tolist()) == [2, 3, 4, 5]


def test_learns_resumes_and_flies(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = Plan((), out=str(tmp_path), steps=30, batch=4, pool=40, warmup=2)
    samples, trainer = stream(), Trainer(plan)
    trainer.take([samples.sample(i) for i in range(8)])
    first = trainer.step()
    for _ in range(14):
        last = trainer.step()
    assert last["edges"] < 0.8 * first["edges"]
    again = Trainer(plan)
    again.restore(trainer.state())
    again.pool = trainer.pool
    assert again.step() == trainer.step()
    kept = [samples.sample(100)]
    before = answer(again.model, levels_of(again.model, kept))["logits"]
    assert before.shape == (pairs.SEARCHES, 4, BINS) and truth(kept)[0].shape == (1, pairs.SEARCHES, 4)
    assert export(trainer.average, tmp_path / "uav_refine.onnx", plan) < 1e-2
    flying = BoxRefinement(str(tmp_path))
    flying.start(Pyramid(noise(5)), np.array([80.0, 80]), np.array([40.0, 30]))
    assert flying._keys.shape == (1, MEMORY, CELLS**2)
    assert flying.measure(Pyramid(noise(5)), np.array([80.0, 80]), np.array([40.0, 30])) is not None
