"""A small network with everything a placement must know, and pictures to calibrate it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def toy_model(size: int = 32, wide: float = 1.0) -> onnx.ModelProto:
    """stem(BN) -> Relu -> depthwise -> SiLU -> residual Add of two 1x1 -> MaxPool, Concat -> head 1x1 -> Reshape.

    ``wide`` scales one channel of the stem, which then leaves the others few levels.
    """
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    first = weight(8, 3, 3, 3)
    first[0] *= wide
    values = {"w0": first, "w1": weight(8, 1, 3, 3), "w2": weight(8, 8, 1, 1), "w3": weight(8, 8, 1, 1),
              "w4": weight(6, 16, 1, 1), "b1": rng.normal(size=8).astype(np.float32) / 4,
              "bn_s": np.linspace(0.5, 1.5, 8, dtype=np.float32), "bn_b": np.zeros(8, np.float32),
              "bn_m": np.full(8, 0.1, np.float32), "bn_v": np.ones(8, np.float32),
              "shape": np.array([1, 2, 3, -1], np.int64)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "stem", pads=[1] * 4, strides=[2, 2]),
        node("BatchNormalization", ["c0", "bn_s", "bn_b", "bn_m", "bn_v"], ["n0"], "bn"),
        node("Relu", ["n0"], ["r0"], "relu"),
        node("Conv", ["r0", "w1", "b1"], ["c1"], "depthwise", pads=[1] * 4, group=8),
        node("Sigmoid", ["c1"], ["s1"], "sigmoid"), node("Mul", ["c1", "s1"], ["a1"], "silu"),
        node("Conv", ["a1", "w2"], ["c2"], "point"),
        node("Add", ["c2", "r0"], ["add"], "residual"),
        node("Conv", ["add", "w3"], ["c3"], "point2"),
        node("Concat", ["c3", "add"], ["cat"], "concat", axis=1),
        node("MaxPool", ["cat"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pool", "w4"], ["head"], "head"),
        node("Reshape", ["head", "shape"], ["y"], "reshape"),
    ]
    graph = helper.make_graph(nodes, "toy", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, size, size))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 3, (size // 4) ** 2))],
                              [numpy_helper.from_array(v, k) for k, v in values.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = "preprocess", ('{"width_px": 32, "height_px": 32, "color": "rgb", "fit": "stretch", '
                                            '"mean": [114, 114, 114], "scale": [0.02, 0.02, 0.02]}')
    return model


@pytest.fixture
def make_toy() -> Callable[..., onnx.ModelProto]:
    return toy_model


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.onnx"
    onnx.save(toy_model(), str(path))
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve smooth random pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for i in range(12):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i:03d}.png"), cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC))
    return folder
