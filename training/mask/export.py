"""The mask network as ONNX with its manifest, and the model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from training.traced import write_traced

from .network import CHANNELS, MaskNet
from .train import Plan


def export(model: MaskNet, path: Path, training: dict[str, Any]) -> float:
    """Write ``path``, for pictures of any size, and return the largest difference of its output to PyTorch's on noise.

    Raises:
        WorkFailed: the file computes something else.
    """
    torch.manual_seed(0)
    cases = [(torch.rand(1, CHANNELS, *shape) * 255,) for shape in ((64, 96), (32, 160))]
    free = {2: "height", 3: "width"}
    return write_traced(model.float().eval(), cases, ["seen"], ["moving"], path,
                        {"family": "uavmask", "precision": "fp32", "training": json.dumps(training)},
                        {"seen": free, "moving": free})


def write_card(path: Path, summary: dict[str, Any], plan: Plan) -> None:
    """Write the card of one run."""
    between = f" {plan.blend:g} of it was learnt so, the rest is the network it went on from." if plan.start else ""
    path.write_text(f"""# Mask of what moves: model card

A U-Net on the differences of a picture to three earlier ones, warped by depth and camera motion, and on the dense flow
that is left to the newest of them.
{summary['parameters'] / 1e6:.2f} M parameters. Trained for {plan.steps} steps of {plan.batch} crops, seed {plan.seed},
on {plan.flights} short flights of this project's simulator (Apache-2.0), every tenth of them held out: IoU there
{summary['iou']:.3f}.{between}
""")
