"""The refinement network as ONNX with its geometry in the metadata, its manifest, and the model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from training.traced import write_traced

from .network import CELLS, MEMORY, SIDE_PX, Exported, Refiner
from .train import Plan

OUTPUTS = ["edges", "spread", "present", "key", "value"]


def export(model: Refiner, path: Path, plan: Plan) -> float:
    """Write ``path`` and return the largest difference of its outputs to PyTorch's on noise.

    Raises:
        WorkFailed: the file computes something else.
    """
    torch.manual_seed(0)
    memory = torch.randn(1, MEMORY, CELLS**2)
    inputs = (torch.rand(1, 3, SIDE_PX, SIDE_PX) * 255 - 114, memory / memory.norm(dim=1, keepdim=True), memory.relu())
    return write_traced(Exported(model.float()).eval(), [inputs], ["image", "keys", "values"], OUTPUTS, path, {
        "family": "uavrefine", "precision": "fp32",
        "preprocess": json.dumps({"color": "bgr", "mean": [114.0] * 3, "side_px": SIDE_PX, "box": "middle half"}),
        "training": json.dumps({"steps": plan.steps, "seed": plan.seed})})


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
