"""Draw, ranges, rounding and rewrites against brute force."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from uav_perception.builder.accuracy import output_error_percent, run
from uav_perception.builder.calibrate import collect
from uav_perception.builder.data import draw, parse_preprocess
from uav_perception.builder.graph import load_float_model, name_nodes
from uav_perception.builder.prepare import prepare
from uav_perception.builder.qdq import activation_params, quantise_weight
from uav_perception.builder.quantiser import calibrate
from uav_perception.builder.ranges import METHODS, TensorStats, clamped, merged
from uav_perception.builder.rounding import round_weight
from uav_perception.builder.search import fewest_in_float
from uav_perception.errors import InputError, ModelError, SourceError, WorkFailed


def stats_of(values: np.ndarray) -> TensorStats:
    stats = TensorStats()
    tensor = values.astype(np.float32).reshape(1, 1, 1, -1)
    stats.see_extremes("t", tensor)
    stats.see_values(tensor, tensor.size)
    return stats


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    levels = np.clip(np.rint((values - low) / step), 0, 255) * step + low
    return float(((levels - values) ** 2).mean())


def test_draw_is_a_function_of_names_and_seed(pictures: Path) -> None:
    a, b = draw([pictures], 5, 7), draw([str(pictures)], 5, 7)
    assert a.names == b.names and a.sha256 == b.sha256 and len(set(a.names)) == 5 and a.population == 12
    assert draw([pictures], 5, 8).names != a.names
    assert len(draw([pictures], 500, 0).pictures) == 12
    pairs = draw([pictures], 4, 0, window=2).names
    assert all(int(b[:3]) == int(a[:3]) + 1 for a, b in zip(pairs[::2], pairs[1::2], strict=True))


def test_bad_calibration_folders(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(SourceError, match="without pictures"):
        draw([tmp_path], 4, 0)
    with pytest.raises(SourceError, match="nowhere"):
        draw([tmp_path / "nowhere"], 4, 0)
    (tmp_path / "a.png").write_bytes((pictures / "000.png").read_bytes()[:60])
    with pytest.raises(SourceError, match=r"a\.png"):
        draw([tmp_path], 4, 0)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint16))
    with pytest.raises(SourceError, match="16 bits"):
        draw([tmp_path], 4, 0)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 9, np.uint8))
    assert draw([tmp_path], 4, 0).pictures[0].shape == (8, 8, 3)


def test_draws_from_a_bag(shared: Path) -> None:
    drawn = draw([shared / "data" / "bags" / "derived_kitti_a_mcap"], 3, 0)
    assert len(drawn.pictures) == 3 and drawn.population == 24


def test_preprocess_words() -> None:
    spec = parse_preprocess("color=rgb,mean=1/2/3,scale=0.5,fit=stretch,width_px=64,height_px=48")
    assert (spec.width_px, spec.height_px, spec.mean, spec.scale) == (64, 48, (1.0, 2.0, 3.0), (0.5, 0.5, 0.5))
    for bad in ("colour=rgb", "mean=a", "fit=crop"):
        with pytest.raises((InputError, ModelError)):
            parse_preprocess(bad)


def test_mse_is_near_the_best_clipping() -> None:
    values = np.append(np.random.default_rng(0).laplace(size=400000), 60.0)
    low, high = METHODS["mse"](stats_of(values), False)
    grid = [squared_error(values, -t, t) for t in np.linspace(2, np.abs(values).max(), 120)]
    assert squared_error(values, low, high) < 1.05 * min(grid)
    assert squared_error(values, low, high) < 0.7 * squared_error(values, values.min(), values.max())


def test_percentile_and_minmax() -> None:
    values = np.random.default_rng(1).normal(size=100000)
    low, high = METHODS["percentile"](stats_of(values), False)
    wanted = np.quantile(values, [5e-5, 1 - 5e-5])
    assert np.allclose([low, high], wanted, atol=0.05)
    assert METHODS["minmax"](stats_of(values), True) == (np.float32(values.min()), np.float32(values.max()))


def test_entropy_cuts_a_far_outlier_and_keeps_a_uniform_range() -> None:
    rng = np.random.default_rng(2)
    with_outlier = np.concatenate([rng.normal(size=100000), [300.0]])
    low, high = METHODS["entropy"](stats_of(with_outlier), False)
    assert high < 60 and low > -60
    flat = rng.uniform(-1, 1, 100000)
    assert METHODS["entropy"](stats_of(flat), False)[1] > 0.9


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=40), st.floats(-20, -0.1), st.floats(0.1, 20))
@settings(max_examples=40)
def test_ranges_hold_zero_and_clamping_never_widens(values: list[float], low: float, high: float) -> None:
    stats = stats_of(np.array(values))
    cut = clamped(stats, low, high)
    assert cut.low >= stats.low and cut.high <= stats.high
    for method in METHODS.values():
        a, b = method(stats, False)
        assert a <= b
        scale, zero = activation_params((a, b), "onnxruntime")
        assert scale > 0 and 0 <= int(zero) <= 255
        assert int(activation_params((a, b), "tensorrt")[1]) == 0


def test_merged_histogram_is_that_of_all_values() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=5000), rng.uniform(-8, 2, 5000)
    both, whole = merged([stats_of(a), stats_of(b)]), stats_of(np.concatenate([a, b]))
    assert (both.low, both.high) == (whole.low, whole.high)
    assert np.abs(np.cumsum(both.histogram) - np.cumsum(whole.histogram)).max() < 0.01 * 10000


@pytest.mark.parametrize("groups", [1, 4])
def test_rounding_by_covariance_loses_less_than_to_nearest(groups: int) -> None:
    rng = np.random.default_rng(4)
    k = 3 * 3 * 8 // groups
    mixing = rng.normal(size=(groups, k, k)) * np.linspace(0.05, 1, k)
    covariance = mixing @ mixing.transpose(0, 2, 1) / k
    weight = rng.normal(size=(8, 8 // groups, 3, 3)).astype(np.float32)
    scale = (np.abs(weight.reshape(8, -1)).max(axis=1) / 7).astype(np.float32)  # few levels: the effect is plain

    def loss(levels: np.ndarray) -> float:
        error = (levels.astype(float) * scale[:, None, None, None] - weight).reshape(groups, 8 // groups, k)
        return float(np.einsum("gok,gkl,gol->", error, covariance, error))

    assert loss(round_weight(weight, scale, covariance)) < 0.6 * loss(round_weight(weight, scale, None))


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=30)
def test_cpu_weights_cannot_saturate_sixteen_bits(seed: int, spiky: bool) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(5, 6, 3, 3)).astype(np.float32)
    if spiky:
        weight[:, 2:4] = np.abs(weight[:, 2:4]).max()
    levels, scale = quantise_weight(weight, 0, "onnxruntime")
    order = levels.transpose(0, 2, 3, 1).reshape(5, -1).astype(int)
    up, down = np.maximum(order, 0), np.maximum(-order, 0)
    assert 255 * max((up[:, 1:] + up[:, :-1]).max(), (down[:, 1:] + down[:, :-1]).max()) <= 32767
    assert np.abs(levels * scale[:, None, None, None] - weight).max() <= scale.max() / 2 + 1e-6
    full = quantise_weight(weight, 0, "tensorrt")[1]
    assert (scale >= full * 0.999).all() and (scale <= full * 2.001).all()


def focus_model(order: list[tuple[int, int]]) -> onnx.ModelProto:
    rng = np.random.default_rng(6)
    values = {"w": rng.normal(size=(5, 12, 3, 3)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32),
              "end": np.array([2**31 - 1], np.int64), "two": np.array([2], np.int64),
              "h": np.array([2], np.int64), "v": np.array([3], np.int64),
              "0": np.array([0], np.int64), "1": np.array([1], np.int64)}
    nodes = []
    for y, x in order:
        nodes += [helper.make_node("Slice", ["x", str(y), "end", "h", "two"], [f"r{y}{x}"]),
                  helper.make_node("Slice", [f"r{y}{x}", str(x), "end", "v", "two"], [f"p{y}{x}"])]
    nodes += [helper.make_node("Concat", [f"p{y}{x}" for y, x in order], ["c"], axis=1),
              helper.make_node("Conv", ["c", "w", "b"], ["y"], pads=[1] * 4)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 24))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5, 8, 12))],
                              [numpy_helper.from_array(v, k) for k, v in values.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_focus_stem_becomes_one_convolution(tmp_path: Path) -> None:
    onnx.save(focus_model([(0, 0), (1, 0), (0, 1), (1, 1)]), str(tmp_path / "f.onnx"))
    model = load_float_model(tmp_path / "f.onnx")
    name_nodes(model)
    merged_model = prepare(model, "onnxruntime")
    assert [n.op_type for n in merged_model.graph.node] == ["Conv"]
    feeds = [{"x": np.random.default_rng(1).random((1, 3, 16, 24), np.float32)}]
    assert output_error_percent(run(model, feeds), run(merged_model, feeds)) < 1e-3


def detector_tail(channels_last: bool = True) -> onnx.ModelProto:
    """Two scales, each with boxes and Sigmoid classes, laid behind one another as detectors do."""
    rng = np.random.default_rng(8)
    values = {f"w{i}": rng.normal(size=(k, 8, 1, 1)).astype(np.float32) for i, k in enumerate((4, 3, 4, 3))}
    values |= {f"b{i}": rng.normal(size=len(values[f"w{i}"])).astype(np.float32) for i in range(4)}
    values |= {"stem": rng.normal(size=(8, 3, 3, 3)).astype(np.float32) / 5, "flat": np.array([1, 7, -1], np.int64)}
    node = helper.make_node
    nodes = [node("Conv", ["x", "stem"], ["c"], "stem", pads=[1] * 4), node("Relu", ["c"], ["f0"]),
             node("MaxPool", ["f0"], ["f1"], kernel_shape=[2, 2], strides=[2, 2])]
    for s in range(2):
        nodes += [node("Conv", [f"f{s}", f"w{2 * s}", f"b{2 * s}"], [f"box{s}"], f"box{s}"),
                  node("Conv", [f"f{s}", f"w{2 * s + 1}", f"b{2 * s + 1}"], [f"raw{s}"], f"class{s}"),
                  node("Sigmoid", [f"raw{s}"], [f"class{s}"]),
                  node("Concat", [f"box{s}", f"class{s}"], [f"map{s}"], axis=1),
                  node("Reshape", [f"map{s}", "flat"], [f"flat{s}"])]
    shape = (1, 80, 7) if channels_last else (1, 7, 80)
    nodes.append(node("Concat", ["flat0", "flat1"], ["all" if channels_last else "y"], axis=2))
    nodes += [node("Transpose", ["all"], ["y"], perm=[0, 2, 1])] if channels_last else []
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
                              [numpy_helper.from_array(v, k) for k, v in values.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("channels_last", [True, False])
def test_heads_that_end_as_rows_become_products_of_rows(tmp_path: Path, channels_last: bool) -> None:
    onnx.save(detector_tail(channels_last), str(tmp_path / "t.onnx"))
    model = load_float_model(tmp_path / "t.onnx")
    name_nodes(model)
    rows = prepare(model, "onnxruntime")
    kinds = [n.op_type for n in rows.graph.node]
    assert kinds.count("Gemm") == 4 and kinds.count("Conv") == 1
    assert {"box0", "class1"} <= {n.name for n in rows.graph.node if n.op_type == "Gemm"}  # manifests name them so
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 3, 8, 8)).astype(np.float32)} for i in range(4)]
    reference = run(model, feeds)
    assert output_error_percent(reference, run(rows, feeds)) < 1e-4
    assert "Gemm" not in {n.op_type for n in prepare(model, "tensorrt").graph.node}
    calibrated = calibrate(model, feeds, "onnxruntime")
    int8 = calibrated.quantised("minmax", ["stem"])
    assert output_error_percent(reference, run(int8, feeds)) < 2.0
    import onnxruntime as ort

    onnx.save(int8, str(tmp_path / "q.onnx"))
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "o.onnx"), 4
    ort.InferenceSession(str(tmp_path / "q.onnx"), options, providers=["CPUExecutionProvider"])
    assert [n.op_type for n in onnx.load(str(tmp_path / "o.onnx")).graph.node].count("QGemm") == 4


def test_a_head_that_ends_otherwise_keeps_all_heads_as_they_are(tmp_path: Path) -> None:
    model = detector_tail()
    model.graph.output.append(helper.make_tensor_value_info("class0", TensorProto.FLOAT, (1, 3, 8, 8)))
    onnx.save(model, str(tmp_path / "t.onnx"))
    model = load_float_model(tmp_path / "t.onnx")
    name_nodes(model)
    assert [n.op_type for n in prepare(model, "onnxruntime").graph.node] == [n.op_type for n in model.graph.node]


def test_parallel_pools_become_a_cascade(tmp_path: Path) -> None:
    nodes = [helper.make_node("MaxPool", ["x"], [f"p{k}"], kernel_shape=[k, k], pads=[k // 2] * 4, strides=[1, 1])
             for k in (13, 5, 9)]
    nodes.append(helper.make_node("Concat", ["x", "p5", "p9", "p13"], ["y"], axis=1))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 17, 16))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 17, 16))])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "p"))
    model = load_float_model(tmp_path / "p")
    name_nodes(model)
    cascade = prepare(model, "tensorrt")
    windows = [list(a.ints) for n in cascade.graph.node for a in n.attribute if a.name == "kernel_shape"]
    assert windows == [[5, 5]] * 3
    feeds = [{"x": np.random.default_rng(2).normal(size=(1, 2, 17, 16)).astype(np.float32) - 5}]
    assert np.array_equal(run(model, feeds)[0]["y"], run(cascade, feeds)[0]["y"])


@pytest.mark.parametrize(("mode", "nearest", "doubled"), [
    ("asymmetric", "floor", True), ("half_pixel", "round_prefer_floor", True), ("asymmetric", "ceil", False)])
def test_doubling_a_map_becomes_copies(tmp_path: Path, mode: str, nearest: str, doubled: bool) -> None:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", nearest_mode=nearest,
                            coordinate_transformation_mode=mode)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 5, 4))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 10, 8))],
                              [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "r"))
    model = load_float_model(tmp_path / "r")
    name_nodes(model)
    copies = prepare(model, "onnxruntime")
    assert ("Resize" not in {n.op_type for n in copies.graph.node}) == doubled
    feeds = [{"x": np.random.default_rng(2).normal(size=(1, 3, 5, 4)).astype(np.float32)}]
    assert np.array_equal(run(model, feeds)[0]["y"], run(copies, feeds)[0]["y"])


def test_nan_activation_is_named(toy: Path) -> None:
    model = load_float_model(toy)
    with pytest.raises(WorkFailed, match="NaN"):
        collect(model, [{"x": np.full((1, 3, 32, 32), np.nan, np.float32)}])


@given(st.lists(st.integers(1, 100), min_size=1, max_size=24), st.integers(0, 600))
@settings(max_examples=40)
def test_search_finds_the_shortest_head_that_passes(noise: list[int], gate: int) -> None:
    names = [str(i) for i in range(len(noise))]
    order = sorted(names, key=lambda n: -noise[int(n)])

    def cost(head: object) -> int:
        return sum(noise) - sum(noise[int(n)] for n in head)  # type: ignore[attr-defined]

    found, reached = fewest_in_float(order, cost, gate, len(names))
    shortest = next(i for i in range(len(names) + 1) if cost(order[:i]) <= gate)
    assert len(found) == shortest and reached == cost(found)
