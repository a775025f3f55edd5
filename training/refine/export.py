"""The refinement network as ONNX with its geometry in the metadata, its manifest, and the model card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from uav_perception.engine.manifest import EngineFile, Manifest, sha256_of
from uav_perception.errors import WorkFailed

from .network import CELLS, MEMORY, SIDE_PX, Exported, Refiner
from .train import Plan

OUTPUTS = ["edges", "spread", "present", "key", "value"]


def export(model: Refiner, path: Path, plan: Plan) -> float:
    """Write ``path`` and return the largest difference of its outputs to PyTorch's on noise.

    Raises:
        WorkFailed: the file computes something else.
    """
    import onnxruntime

    torch.manual_seed(0)
    flying = Exported(model.float()).eval()
    memory = torch.randn(1, MEMORY, CELLS**2)
    inputs = (torch.rand(1, 3, SIDE_PX, SIDE_PX) * 255 - 114, memory / memory.norm(dim=1, keepdim=True), memory.relu())
    partial = path.with_suffix(".tmp.onnx")
    torch.onnx.export(flying, inputs, str(partial), input_names=["image", "keys", "values"], output_names=OUTPUTS,
                      opset_version=17, dynamo=False)
    proto = onnx.load(str(partial))
    onnx.helper.set_model_props(proto, {
        "family": "uavrefine", "precision": "fp32",
        "preprocess": json.dumps({"color": "bgr", "mean": [114.0] * 3, "side_px": SIDE_PX, "box": "middle half"}),
        "training": json.dumps({"steps": plan.steps, "seed": plan.seed})})
    onnx.save(proto, str(partial))
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    found = session.run(None, dict(zip(("image", "keys", "values"), (x.numpy() for x in inputs), strict=True)))
    with torch.no_grad():
        wanted = flying(*inputs)
    difference = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, wanted, strict=True))
    if difference > 1e-2:
        raise WorkFailed(f"exported network differs from PyTorch's by {difference:.3g}", "at most 0.01",
                         "check training/refine/network.py for what ONNX does otherwise")
    os.replace(partial, path)
    _write_manifest(path, session)
    return difference


def _write_manifest(path: Path, session: Any) -> None:
    digest = sha256_of(path)

    def described(tensors: Any) -> tuple[dict[str, Any], ...]:
        return tuple({"name": t.name, "shape": list(t.shape), "dtype": "float32"} for t in tensors)

    manifest = Manifest(path.stem, {"file": path.name, "sha256": digest},
                        (EngineFile(path.name, digest, "onnxruntime", "fp32"),),
                        metadata=dict(session.get_modelmeta().custom_metadata_map),
                        inputs=described(session.get_inputs()), outputs=described(session.get_outputs()),
                        tools={"torch": torch.__version__, "onnx": onnx.__version__})
    (path.parent / "manifest.json").write_text(manifest.to_json())


def write_card(path: Path, summary: dict[str, Any], plan: Plan) -> None:
    """Write the card of one run."""
    kinds = sorted(k.removesuffix("_iou") for k in summary["held_out"] if k.endswith("_iou"))
    rows = "\n".join(f"| {k} | {summary['held_out'][f'{k}_before']:.3f} | {summary['held_out'][f'{k}_iou']:.3f} |"
                     for k in kinds)
    path.write_text(f"""# Box refinement: model card

Memory reading between template crops and the current crop on frozen MobileNetV2 blocks; edges as distributions.
{summary['parameters'] / 1e6:.2f} M parameters, crops of {SIDE_PX} px.

## Training

{summary['steps']} steps of {plan.batch} samples, seed {plan.seed}.
Data: {', '.join(Path(d).name for d in (*plan.data, *plan.rendered, *plan.flights))}. State their licences here before
shipping weights.

## Scores

Mean IoU with the truth on held-out samples, of the box believed and of the box refined:

| samples | believed | refined |
| --- | --- | --- |
{rows}
""")
