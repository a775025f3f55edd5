"""The detector stage on real engines: small ONNX files made here, and real models and pictures where they are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from uav_perception.cli.main import main
from uav_perception.config import DetectorConfig
from uav_perception.detect import Detector
from uav_perception.detect.detector import make_detector, own_model
from uav_perception.errors import ConfigError, ModelError
from uav_perception.geometry import box_iou
from uav_perception.records import Frame

STRIDES = (4, 8, 16)


def bright_square_model(path: Path, classes: tuple[str, ...] = ("square", "never"), **metadata: str) -> Path:
    """A uavdet network that sees white squares of a 16 px grid: the logit is a cell's brightness."""
    nodes, flat, values = [], [], [numpy_helper.from_array(np.array([1, len(classes) + 4, -1], np.int64), "flat")]
    for s in STRIDES:
        weight = np.zeros((len(classes) + 4, 3, s, s), np.float32)
        weight[0] = 0.1 / (3 * s * s) if s == 16 else 0  # white minus 114 is 141: a full cell reaches a logit of 4
        bias = np.array([-10.0, *[-50.0] * (len(classes) - 1), *[np.log(8 / s)] * 4], np.float32)
        values += [numpy_helper.from_array(weight, f"w{s}"), numpy_helper.from_array(bias, f"b{s}")]
        nodes += [helper.make_node("Conv", ["image", f"w{s}", f"b{s}"], [f"c{s}"], strides=[s, s]),
                  helper.make_node("Reshape", [f"c{s}", "flat"], [f"f{s}"])]
        flat.append(f"f{s}")
    nodes.append(helper.make_node("Concat", flat, ["points"], axis=2))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
    out = helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, len(classes) + 4, "n"])
    model = helper.make_model(helper.make_graph(nodes, "g", [image], [out], values),
                              opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"family": "uavdet", "classes": json.dumps(classes), **metadata})
    onnx.save(model, str(path))
    return path


def frame_with_squares(*corners: tuple[int, int], width: int = 256, height: int = 160) -> Frame:
    image = np.zeros((height, width, 3), np.uint8)
    for x, y in corners:
        image[y : y + 16, x : x + 16] = 255
    return Frame(3, 77, image, frame_id="front_optical")


def test_finds_squares_in_source_pixels_with_the_frames_identity(tmp_path: Path) -> None:
    detector = make_detector(DetectorConfig(model=str(bright_square_model(tmp_path / "m.onnx")), nms_iou=0.3))
    assert isinstance(detector, Detector)
    found = detector.detect(frame_with_squares((48, 32), (160, 96)))
    assert found.stamp_ns == 77 and found.frame_id == "front_optical" and set(found.class_id) == {0}
    wanted = [[48, 32, 64, 48], [160, 96, 176, 112]]
    assert box_iou(wanted, found.xyxy_px).max(1).min() > 0.95
    assert (np.diff(found.score) <= 0).all()


def test_seeing_nothing_is_an_empty_record(tmp_path: Path) -> None:
    detector = make_detector(DetectorConfig(model=str(bright_square_model(tmp_path / "m.onnx"))))
    found = detector.detect(frame_with_squares())
    assert len(found) == 0 and found.stamp_ns == 77
    assert detector.last_cost.passes == 1 and detector.last_cost.inference_ns > 0


def test_large_frames_get_a_coarse_look_that_finds_what_the_first_is_too_close_for(tmp_path: Path) -> None:
    path = str(bright_square_model(tmp_path / "m.onnx"))
    frame = frame_with_squares(*((x, y) for x in (96, 112) for y in (32, 48)), width=384, height=256)  # 32 x 32 px
    boxes = {}
    for coarse_px in (0, 160, 250):
        detector = make_detector(DetectorConfig(model=path, input_px=320, coarse_px=coarse_px, nms_iou=0.3))
        boxes[coarse_px] = detector.detect(frame).xyxy_px
        assert detector.last_cost.passes == (2 if coarse_px == 160 else 1)  # 250 is too near to the 314 of the frame
    whole = [96, 32, 128, 64]
    assert box_iou(whole, boxes[160]).max() > 0.9 and box_iou(whole, boxes[0]).max() < 0.4
    np.testing.assert_array_equal(boxes[250], boxes[0])


def test_more_views_cost_passes_and_find_the_same(tmp_path: Path) -> None:
    path = str(bright_square_model(tmp_path / "m.onnx"))
    frame = frame_with_squares((48, 32), (160, 96))
    one = make_detector(DetectorConfig(model=path)).detect(frame)
    for views in (2, 3, 4):
        detector = make_detector(DetectorConfig(model=path, views=views))
        found = detector.detect(frame)
        assert detector.last_cost.passes == views and len(found) == len(one)
        assert box_iou(one.xyxy_px, found.xyxy_px).max(1).min() > 0.9
        np.testing.assert_allclose(found.score, one.score, atol=0.05)


def test_tiles_cost_passes_and_find_the_same(tmp_path: Path) -> None:
    path = str(bright_square_model(tmp_path / "m.onnx"))
    tiled = make_detector(DetectorConfig(model=path, tile_px=128, tile_overlap=0.25, nms_iou=0.3))
    found = tiled.detect(frame_with_squares((112, 48), (64, 64)))  # the first lies across a tile border
    assert tiled.last_cost.passes == 3 * 2 + 1
    assert box_iou([[112, 48, 128, 64], [64, 64, 80, 80]], found.xyxy_px).max(1).min() > 0.9


def test_frames_of_changing_size(tmp_path: Path) -> None:
    detector = make_detector(DetectorConfig(model=str(bright_square_model(tmp_path / "m.onnx")), nms_iou=0.3))
    for width, height in ((256, 160), (96, 64), (640, 384)):
        found = detector.detect(frame_with_squares((32, 32), width=width, height=height))
        assert box_iou([[32, 32, 48, 48]], found.xyxy_px).max() > 0.8


def test_keep_and_wrong_names(tmp_path: Path) -> None:
    path = str(bright_square_model(tmp_path / "m.onnx"))
    assert len(make_detector(DetectorConfig(model=path, keep=("NEVER",))).detect(frame_with_squares((48, 32)))) == 0
    with pytest.raises(ConfigError, match="'cat'"):
        make_detector(DetectorConfig(model=path, keep=("cat",)))


def test_excluding_classes_share_suppression(tmp_path: Path) -> None:
    path = bright_square_model(tmp_path / "m.onnx", nms_groups=json.dumps([["square", "never"]]))
    detector = make_detector(DetectorConfig(model=str(path)))
    assert detector._group.tolist() == [0, 0]


@pytest.mark.parametrize(("config", "message"), [
    ({"model": "no/such.onnx"}, "no/such.onnx"),
    ({"family": "yolov8"}, "family yolov8"),
    ({"classes": ("a", "b", "c")}, "3 class names"),
])
def test_wrong_models_give_one_clear_error(tmp_path: Path, config: dict[str, object], message: str) -> None:
    path = bright_square_model(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=message):
        make_detector(DetectorConfig(**{"model": str(path), **config}))  # type: ignore[arg-type]


def test_broken_file_and_broken_metadata(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError):
        make_detector(DetectorConfig(model=str(tmp_path / "broken.onnx")))
    path = bright_square_model(tmp_path / "m.onnx", classes=("square", "never"))
    model = onnx.load(str(path))
    helper.set_model_props(model, {"family": "uavdet", "classes": "square"})
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="classes"):
        make_detector(DetectorConfig(model=str(path)))


def test_the_packages_own_model_is_found_and_fits() -> None:
    detector = make_detector(DetectorConfig())
    assert detector.class_names == ("person", "car", "truck", "bus", "two-wheeler")
    assert detector.family == "uavdet" and own_model().exists()
    size = sum(f.stat().st_size <= 4 << 20 for f in own_model().rglob("*.onnx")) if own_model().is_dir() else 1
    assert size


def test_own_model_finds_most_vehicles_on_a_real_nadir_street(shared: Path) -> None:
    """Of the best detections, as many as there are vehicles, at least 60 % are right."""
    folder = shared / "data" / "aerial_det" / "cats_madison"
    tree = json.loads((folder / "annotations.json").read_text())
    detector = make_detector(DetectorConfig(score_min=0.1, keep=("car", "truck", "bus")))
    ranked: list[tuple[float, bool]] = []
    total = 0
    for info in tree["images"][::20]:
        image = cv2.imread(str(folder / "images" / info["file_name"]))
        found = detector.detect(Frame(0, 0, image))
        boxes = np.array([a["bbox"] for a in tree["annotations"] if a["image_id"] == info["id"]]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        total += len(boxes)
        right = box_iou(found.xyxy_px, boxes).max(1, initial=0) > 0.5
        ranked += list(zip(found.score.tolist(), right.tolist(), strict=True))
    best = sorted(ranked, reverse=True)[:total]
    assert total > 30 and sum(right for _, right in best) >= 0.6 * total


def test_yolox_equals_the_reference_decoding(shared: Path) -> None:
    """Against the straightforward decoding of every point, one picture."""
    path = shared / "data" / "models" / "yolox_nano.onnx"
    image = cv2.imread(str(shared / "data" / "aerial_det" / "psu_roundabout" / "images" / "02041.webp"))
    detector = make_detector(DetectorConfig(model=str(path), keep=("car",), score_min=0.1, nms_iou=0.65))
    found = detector.detect(Frame(0, 0, image))
    import onnxruntime

    ratio = 416 / 1920
    canvas = np.full((416, 416, 3), 114, np.uint8)
    canvas[:234] = cv2.resize(image, (416, 234))
    blob = canvas.transpose(2, 0, 1)[None].astype("f4")
    raw = onnxruntime.InferenceSession(str(path)).run(None, {"images": blob})[0][0]
    boxes, scores = [], []
    i = 0
    for s in (8, 16, 32):
        for r in range(416 // s):
            for c in range(416 // s):
                x, y, w, h = raw[i, 0] + c, raw[i, 1] + r, np.exp(raw[i, 2]), np.exp(raw[i, 3])
                boxes.append([(x - w / 2) * s / ratio, (y - h / 2) * s / ratio, w * s / ratio, h * s / ratio])
                scores.append(float(raw[i, 4] * raw[i, 5 + 2]))
                i += 1
    kept = np.array(cv2.dnn.NMSBoxes(boxes, scores, 0.1, 0.65)).ravel()
    assert len(kept) == len(found) > 0
    wanted = np.array(boxes)[kept]
    wanted[:, 2:] += wanted[:, :2]
    wanted = wanted.clip(0, [1920, 1080, 1920, 1080])
    assert np.allclose(found.xyxy_px, wanted, atol=0.5)


def test_command_writes_coco_results_and_refuses_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = bright_square_model(tmp_path / "m.onnx")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), frame_with_squares((48, 32)).image)
    tree = {"images": [{"id": 9, "file_name": "a.png"}], "categories": [{"id": 4, "name": "Square"}], "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps(tree))
    base = ["detect", "--images", str(tmp_path / "images"), "--coco", str(tmp_path / "a.json"),
            "--out", str(tmp_path / "d.json"), "--detector", str(model)]
    assert main([*base, "--json"]) == 0
    rows = json.loads((tmp_path / "d.json").read_text())
    assert {(r["image_id"], r["category_id"]) for r in rows} == {(9, 4)}
    x, y, w, h = max(rows, key=lambda r: r["score"])["bbox"]
    assert box_iou([[x, y, x + w, y + h]], [[48, 32, 64, 48]])[0, 0] > 0.9
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 1
    for extra in (["--map", "Square=dog"], ["--map", "nothing"], ["--map", "round=never"], ["--tile", "-3"]):
        assert main([*base, *extra]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    (tmp_path / "images" / "a.png").unlink()
    assert main(base) == 2
