"""Both networks as ONNX with the preprocessing and provenance in their metadata, and a model card beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from .networks import DepthNet, PoseNet


def export(depth: DepthNet, pose: PoseNet, out: Path, width: int, height: int, report: dict[str, Any]) -> None:
    """Write ``depth.onnx``, ``pose.onnx`` (static shapes, batch 1) and ``card.json`` into ``out``."""
    image = torch.zeros(1, 3, height, width)
    _write(depth, (image,), ["image"], ["disparity"], out / "depth.onnx", report)
    _write(pose, (image, image), ["first", "second"], ["motion"], out / "pose.onnx", report)
    temporary = out / "card.json.tmp"
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, out / "card.json")


def _write(net: nn.Module, inputs: tuple[torch.Tensor, ...], names: list[str], outputs: list[str], path: Path,
           report: dict[str, Any]) -> None:
    net.eval()
    temporary = path.with_suffix(".tmp.onnx")
    torch.onnx.export(net, inputs, str(temporary), input_names=names, output_names=outputs, opset_version=17,
                      dynamo=False)
    model = onnx.load(str(temporary))
    onnx.helper.set_model_props(model, metadata(inputs[0].shape[3], inputs[0].shape[2], report))
    onnx.save(model, str(temporary))
    os.replace(temporary, path)


def metadata(width: int, height: int, report: dict[str, Any]) -> dict[str, str]:
    """What a file says of itself: how a picture becomes its input, of this size at least in calibration, and how it was
    trained."""
    preprocess = {"color": "rgb", "mean": [0, 0, 0], "scale": [1, 1, 1], "fit": "stretch", "shrink": "mean",
                  "width_px": width, "height_px": height}
    return {"preprocess": json.dumps(preprocess), "precision": "fp32", "training": json.dumps(report)}
