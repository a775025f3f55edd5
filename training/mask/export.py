"""The mask network as ONNX with its manifest, and the model card."""

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

from .network import CHANNELS, MaskNet
from .train import Plan


def export(model: MaskNet, path: Path, training: dict[str, Any]) -> float:
    """Write ``path``, for pictures of any size, and return the largest difference of its output to PyTorch's on noise.

    Raises:
        WorkFailed: the file computes something else.
    """
    import onnxruntime

    torch.manual_seed(0)
    flying, seen = model.float().eval(), torch.rand(1, CHANNELS, 64, 96) * 255
    free = {2: "height", 3: "width"}
    partial = path.with_suffix(".tmp.onnx")
    torch.onnx.export(flying, (seen,), str(partial), input_names=["seen"], output_names=["moving"],
                      dynamic_axes={"seen": free, "moving": free}, opset_version=17, dynamo=False)
    proto = onnx.load(str(partial))
    onnx.helper.set_model_props(proto, {"family": "uavmask", "precision": "fp32", "training": json.dumps(training)})
    onnx.save(proto, str(partial))
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    other = torch.rand(1, CHANNELS, 48, 40) * 255  # another size than the one it was traced with
    with torch.no_grad():
        difference = max(float(np.abs(session.run(None, {"seen": x.numpy()})[0] - flying(x).numpy()).max())
                         for x in (seen, other))
    if difference > 1e-2:
        raise WorkFailed(f"exported network differs from PyTorch's by {difference:.3g}", "at most 0.01",
                         "check training/mask/network.py for what ONNX does otherwise")
    os.replace(partial, path)
    digest = sha256_of(path)
    tensors = [[{"name": t.name, "shape": [n if isinstance(n, int) else None for n in t.shape], "dtype": "float32"}
                for t in of] for of in (session.get_inputs(), session.get_outputs())]
    manifest = Manifest(path.stem, {"file": path.name, "sha256": digest},
                        (EngineFile(path.name, digest, "onnxruntime", "fp32"),), metadata=dict(
                            session.get_modelmeta().custom_metadata_map), inputs=tuple(tensors[0]),
                        outputs=tuple(tensors[1]), tools={"torch": torch.__version__, "onnx": onnx.__version__})
    (path.parent / "manifest.json").write_text(manifest.to_json())
    return difference


def write_card(path: Path, summary: dict[str, Any], plan: Plan) -> None:
    """Write the card of one run."""
    path.write_text(f"""# Mask of what moves: model card

A U-Net on the differences of a picture to three earlier ones, warped by depth and camera motion.
{summary['parameters'] / 1e6:.2f} M parameters. Trained for {plan.steps} steps of {plan.batch} crops, seed {plan.seed},
on {plan.flights} short flights of this project's simulator (Apache-2.0), every tenth of them held out: IoU there
{summary['iou']:.3f}.
""")
