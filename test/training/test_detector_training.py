"""Detector training on pictures made here: assignment, data, resumption, export."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from training.detector.export import export, to_onnx, weights_of  # noqa: E402
from training.detector.loss import SIDE_RANGE_PX, assign, decode, detection_loss, paired_iou  # noqa: E402
from training.detector.model import CLASSES, UavDet, macs, points  # noqa: E402
from training.detector.pictures import (  # noqa: E402
    IGNORE,
    OUTLINE,
    Objects,
    Sample,
    finish,
    load_coco,
    rounded_outline,
    similarity,
    warp,
)
from training.detector.sprites import cut_vehicles, outline_of_mask  # noqa: E402
from training.detector.stream import Stream  # noqa: E402
from training.detector.train import Plan, Trainer, train  # noqa: E402
from training.run import load_checkpoint  # noqa: E402
from uav_perception.cli.main import main  # noqa: E402
from uav_perception.config import DetectorConfig  # noqa: E402
from uav_perception.detect.detector import make_detector, own_model  # noqa: E402
from uav_perception.errors import InputError  # noqa: E402
from uav_perception.geometry import box_iou  # noqa: E402
from uav_perception.records import Frame  # noqa: E402

CAR = CLASSES.index("car")


def coco_folder(root: Path, count: int = 3, side: int = 160) -> Path:
    """Pictures of red blocks on grey, labelled as cars, and one DontCare."""
    rng = np.random.default_rng(5)
    (root / "images").mkdir(parents=True)
    images, notes = [], []
    for i in range(count):
        image = rng.integers(90, 120, (side, side, 3)).astype(np.uint8)
        for x, y in ((30, 40), (90, 100)):
            cv2.rectangle(image, (x, y), (x + 39, y + 19), (20, 20, 220), -1)
            notes.append({"id": len(notes), "image_id": i, "category_id": 2, "bbox": [x, y, 40, 20]})
        notes.append({"id": len(notes), "image_id": i, "category_id": 3, "bbox": [5, 120, 20, 20], "iscrowd": 1})
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        images.append({"id": i, "file_name": f"{i}.png", "width": side, "height": side})
    categories = [{"id": 2, "name": "Car"}, {"id": 3, "name": "DontCare"}]
    tree = {"images": images, "annotations": notes, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(tree))
    return root


def test_budget() -> None:
    model = UavDet()
    assert sum(p.numel() for p in model.parameters()) <= 1.5e6
    assert 2 * macs(model, 512) <= 2.0e9


def test_paired_iou_equals_the_geometry_module() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.concatenate([c := rng.uniform(0, 50, (200, 2)), c + rng.uniform(1, 40, (200, 2))], 1) for _ in range(2))
    iou, giou = paired_iou(torch.from_numpy(a), torch.from_numpy(b))
    assert np.allclose(iou.numpy(), np.diag(box_iou(a, b)), atol=1e-6)
    assert (giou <= iou + 1e-9).all() and (giou >= -1).all()


def test_assignment_teaches_the_best_points_inside_each_object() -> None:
    centres, strides = points(128, 128)
    gt = torch.tensor([[10.0, 10, 40, 30], [60, 50, 120, 110], [100, 6, 105, 11]])
    label = torch.tensor([1, 2, 0])
    rng = torch.Generator().manual_seed(0)
    boxes = decode(torch.randn(4, len(centres), generator=rng) * 0.3 + 1, centres, strides)
    score = torch.rand(5, len(centres), generator=rng)
    point, obj, target = assign(score, boxes, centres, strides, gt, label)
    assert len(set(point.tolist())) == len(point)  # a point teaches one object
    assert set(obj.tolist()) == {0, 1, 2}
    for n in range(3):
        mine = point[obj == n]
        side = float((gt[n, 2:] - gt[n, :2]).max())
        assert len(mine) <= 10
        assert all(low <= side < high for s in strides[mine].tolist() for low, high in [SIDE_RANGE_PX[s]])
        iou, _ = paired_iou(boxes[mine], gt[n].expand(len(mine), 4))
        metric = score[label[n], mine] ** 0.5 * iou**4
        expected = metric / metric.max() * iou.max()
        assert torch.allclose(target[obj == n], expected.float(), atol=1e-3)
    inside = ((centres > gt[0, :2]) & (centres < gt[0, 2:])).all(1)
    assert inside[point[obj == 0]].all()


def test_loss_is_small_for_a_perfect_answer_and_ignores_what_is_unlabelled() -> None:
    centres, strides = points(96, 96)
    box = np.array([[20.0, 24, 60, 56]])
    every = np.ones(len(CLASSES), bool)
    inside = ((centres > torch.tensor([20.0, 24])) & (centres < torch.tensor([60.0, 56]))).all(1)
    good = torch.full((1, len(CLASSES) + 4, len(centres)), -12.0)
    good[0, CAR, inside] = 12.0
    sides = torch.stack([centres[:, 0] - 20, centres[:, 1] - 24, 60 - centres[:, 0], 56 - centres[:, 1]]) / strides
    good[0, len(CLASSES):] = sides.clamp(min=1e-3).log()
    sample = Sample(np.zeros((96, 96, 3), np.uint8), box, np.array([CAR]), every)
    none = Sample(sample.image, np.zeros((0, 4)), np.zeros(0, np.int64), every)
    right, box_loss = detection_loss(good, [sample], centres, strides)
    wrong, _ = detection_loss(good, [none], centres, strides)
    assert float(box_loss) < 1e-3 and float(right) < 0.2 * float(wrong)
    unlabelled = Sample(sample.image, np.zeros((0, 4)), np.zeros(0, np.int64), every & (np.arange(len(CLASSES)) != CAR))
    ignored = Sample(sample.image, box, np.array([IGNORE]), every)
    for silent in (unlabelled, ignored):
        assert float(detection_loss(good, [silent], centres, strides)[0]) < 1e-3 * float(wrong)


def test_outlines_turn_without_growing() -> None:
    """A turned bar keeps the box of its silhouette, not of its box's corners."""
    mask = np.zeros((80, 120), np.uint8)
    cv2.rectangle(mask, (20, 30), (99, 49), 1, -1)
    outline = outline_of_mask(mask)
    assert np.allclose([outline.min(0), outline.max(0)], [[20, 30], [100, 50]], atol=0.51)
    matrix = similarity(1.0, np.pi / 4, False, np.array([60.0, 40]), 160)
    turned = cv2.warpAffine(mask * 255, matrix, (160, 160)) > 127
    y, x = np.nonzero(turned)
    moved = Objects(outline[None], np.array([CAR])).moved(matrix).xyxy[0]
    assert np.allclose(moved, [x.min(), y.min(), x.max() + 1, y.max() + 1], atol=3)
    box = rounded_outline(np.array([[10.0, 20, 50, 40]]), 2.5)
    assert box.shape == (1, OUTLINE, 2) and np.allclose([*box[0].min(0), *box[0].max(0)], [10, 20, 50, 40])


def test_crops_carry_their_boxes_with_them(tmp_path: Path) -> None:
    picture = load_coco(coco_folder(tmp_path / "d"))[0]
    for angle, mirror, scale in ((0.0, False, 1.0), (np.pi / 2, True, 1.5), (0.0, True, 0.5)):
        matrix = similarity(scale, angle, mirror, np.array([80.0, 80]), 160)
        image, objects = warp(picture, matrix, 160)
        sample = finish(image, objects, picture.labelled)
        red = (image[..., 2].astype(int) - image[..., 0]) > 100
        for x1, y1, x2, y2 in sample.xyxy[sample.label == CAR]:
            block = red[int(y1 + 2) : int(y2 - 1), int(x1 + 2) : int(x2 - 1)]
            assert block.size and block.mean() > 0.95
            red[max(0, int(y1 - 2)) : int(y2 + 3), max(0, int(x1 - 2)) : int(x2 + 3)] = False
        assert not red.any()  # every block had its box


def test_vehicles_are_cut_out(tmp_path: Path) -> None:
    sprites = cut_vehicles(load_coco(coco_folder(tmp_path / "d", 1))[0])
    assert len(sprites) == 2
    for s in sprites:
        assert s.label == CAR and abs(s.length_px - 80) < 6  # twice the size
        assert 0.8 * 80 * 40 < s.alpha.sum() < 1.2 * 80 * 40


def test_stream_depends_on_seed_and_index_alone(tmp_path: Path) -> None:
    pictures = load_coco(coco_folder(tmp_path / "d"))
    sprites = cut_vehicles(pictures[0])
    a, b = (Stream(pictures, [], sprites, 64, seed=3) for _ in range(2))
    first = [a.sample(i) for i in range(8)]
    for i in (7, 2, 5):
        again = b.sample(i)
        assert np.array_equal(again.image, first[i].image) and np.array_equal(again.xyxy, first[i].xyxy)
    assert not np.array_equal(Stream(pictures, [], sprites, 64, seed=4).sample(0).image, first[0].image)


def test_rare_classes_are_looked_at_more_often_than_they_occur(tmp_path: Path) -> None:
    pictures = load_coco(coco_folder(tmp_path / "d", 9))
    rare = pictures[0].objects
    rare.label[:] = np.where(rare.label == CAR, CLASSES.index("person"), rare.label)
    stream, rng = Stream(pictures, [], [], 64, seed=0), np.random.default_rng(0)
    drawn = [stream._subject("rgb", rng) for _ in range(600)]
    aimed = [p.objects.label[i] for p, i in drawn if i is not None]
    assert len(aimed) / 600 == pytest.approx(0.85, abs=0.06)
    assert np.mean(np.array(aimed) != CAR) == pytest.approx(np.sqrt(2) / (np.sqrt(2) + np.sqrt(16)), abs=0.06)


@pytest.mark.parametrize("damage", ["missing", "category", "picture", "json"])
def test_bad_data_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    folder = coco_folder(tmp_path / "d", 1)
    if damage == "missing":
        folder = tmp_path / "nowhere"
    elif damage == "category":
        tree = json.loads((folder / "annotations.json").read_text())
        tree["categories"].append({"id": 9, "name": "zebra"})
        (folder / "annotations.json").write_text(json.dumps(tree))
    elif damage == "picture":
        (folder / "images" / "0.png").write_bytes(b"no picture")
    else:
        (folder / "annotations.json").write_text("{")
    with pytest.raises(InputError):
        load_coco(folder)


def test_resumed_training_equals_uninterrupted_training(tmp_path: Path) -> None:
    folder = str(coco_folder(tmp_path / "d"))
    common = {"data": (folder,), "steps": 3, "batch": 2, "size_px": 64, "warmup": 2}
    whole = train(Plan(**common, out=str(tmp_path / "a")), 1)  # type: ignore[arg-type]
    interrupted = Plan(**{**common, "out": str(tmp_path / "b")})  # type: ignore[arg-type]

    class Interrupt(Exception): ...

    from training.detector import train as module

    step = module.Trainer.step
    try:
        def stop_at_two(self: module.Trainer, samples: list[Sample], processes: int) -> tuple[float, float]:
            if self.step_index == 2:
                module.save(Path(interrupted.out) / "checkpoint.pt", self.state())
                raise Interrupt
            return step(self, samples, processes)

        module.Trainer.step = stop_at_two  # type: ignore[method-assign]
        with pytest.raises(Interrupt):
            train(interrupted, 1)
    finally:
        module.Trainer.step = step  # type: ignore[method-assign]
    resumed = train(interrupted, 1)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_broken_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none.pt") is None
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match="checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_exported_network_runs_as_detector(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = UavDet().eval()
    assert export(model, tmp_path / "m.onnx", {"training": "none"}) < 1e-3
    assert [o.version for o in to_onnx(model, {}).opset_import] == [13]
    detector = make_detector(DetectorConfig(model=str(tmp_path / "m.onnx"), score_min=0.0))
    assert detector.class_names == CLASSES and detector.family == "uavdet"
    found = detector.detect(Frame(0, 0, np.full((100, 180, 3), 90, np.uint8)))
    assert len(found) and (found.xyxy_px >= 0).all() and (found.xyxy_px <= [180, 100, 180, 100]).all()


def test_training_goes_on_from_an_exported_network(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = UavDet().eval()
    export(model, tmp_path / "m.onnx", {})
    for name, tensor in weights_of(tmp_path / "m.onnx").items():
        assert torch.equal(tensor, model.state_dict()[name])
    trainer = Trainer(Plan((), start=str(tmp_path / "m.onnx")))
    assert torch.equal(trainer.average.head[0].weight, model.head[0].weight)
    (tmp_path / "half.onnx").write_bytes((tmp_path / "m.onnx").read_bytes()[:999])
    with pytest.raises(InputError, match=r"half\.onnx"):
        weights_of(tmp_path / "half.onnx")
    with pytest.raises(InputError, match="no weights for"):
        weights_of(own_model() / "uav_detector.int8.onnx")


def test_one_command_from_pictures_to_model_and_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = coco_folder(tmp_path / "d"), tmp_path / "run"
    words = ["train", "detector", "--data", str(folder), "--out", str(out), "--steps", "2", "--batch", "1",
             "--size", "64", "--processes", "1"]
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["steps"] == 2 and (out / "README.md").read_text().startswith("# Aerial detector")
    make_detector(DetectorConfig(model=summary["onnx"]))
    for wrong in (["--size", "100"], ["--steps", "0"], ["--pretrained", str(tmp_path / "no.whl")],
                  ["--start", str(tmp_path / "no.onnx")]):
        assert main([*words, *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
