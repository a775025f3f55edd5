"""A trained network as an ONNX file that computes the same, with its manifest beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from uav_perception.engine.manifest import EngineFile, Manifest, sha256_of
from uav_perception.errors import WorkFailed

DIFFERENCE_MAX = 1e-2


def write_traced(network: nn.Module, cases: Sequence[tuple[Tensor, ...]], inputs: list[str], outputs: list[str],
                 path: Path, metadata: Mapping[str, str], free: Mapping[str, Mapping[int, str]] | None = None) -> float:
    """Trace ``network`` with the first of ``cases``; write ``path`` and ``manifest.json``.

    Args:
        network: in evaluation mode; gives one output, or a tuple of them.
        cases: inputs with which the file must compute what PyTorch does.
        inputs: their names. outputs: the names of what comes out.
        metadata: properties of the file.
        free: dimensions of any size, by name of the input or output.

    Returns:
        The largest difference to PyTorch's outputs.

    Raises:
        WorkFailed: the file computes something else.
    """
    import onnxruntime

    partial = path.with_suffix(".tmp.onnx")
    torch.onnx.export(network, cases[0], str(partial), input_names=inputs, output_names=outputs, dynamic_axes=free,
                      opset_version=17, dynamo=False)
    proto = onnx.load(str(partial))
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.save(proto, str(partial))
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    difference = max(_difference(network, session, dict(zip(inputs, case, strict=True))) for case in cases)
    if difference > DIFFERENCE_MAX:
        raise WorkFailed(f"exported network {path.name} differs from PyTorch's by {difference:.3g}",
                         f"at most {DIFFERENCE_MAX}", "check the network for what ONNX does otherwise")
    os.replace(partial, path)
    _write_manifest(path, session)
    return difference


def _difference(network: nn.Module, session: Any, feeds: Mapping[str, Tensor]) -> float:
    found = session.run(None, {name: value.numpy() for name, value in feeds.items()})
    with torch.no_grad():
        wanted = network(*feeds.values())
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, wanted, strict=True))


def _write_manifest(path: Path, session: Any) -> None:
    digest = sha256_of(path)

    def described(tensors: Any) -> tuple[dict[str, Any], ...]:
        return tuple({"name": t.name, "shape": [n if isinstance(n, int) else None for n in t.shape], "dtype": "float32"}
                     for t in tensors)

    manifest = Manifest(path.stem, {"file": path.name, "sha256": digest},
                        (EngineFile(path.name, digest, "onnxruntime", "fp32"),),
                        metadata=dict(session.get_modelmeta().custom_metadata_map),
                        inputs=described(session.get_inputs()), outputs=described(session.get_outputs()),
                        tools={"torch": torch.__version__, "onnx": onnx.__version__})
    (path.parent / "manifest.json").write_text(manifest.to_json())
