"""Training goes on from a mask network that was exported."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from uav_perception.errors import InputError

from .network import MaskNet


@torch.no_grad()
def go_on_from(path: Path, model: MaskNet, seen: Tensor) -> None:
    """Give ``model`` the weights of the file that ``export`` wrote. Its convolutions hold the normalisation, too; the
    model's is set so that on ``seen`` (B, CHANNELS, h, w) it changes nothing but what the file adds.

    Raises:
        InputError: the file is another network's, or no ONNX file.
    """
    try:
        graph = onnx.load(str(path)).graph
    except Exception as e:  # protobuf and file errors of several kinds
        raise InputError(f"{path}: {str(e).splitlines()[0]}", "an ONNX file", "correct --start") from e
    values = {value.name: torch.from_numpy(numpy_helper.to_array(value).copy()) for value in graph.initializer}
    stored = [[values.get(name) for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if [[None if v is None else v.shape for v in pair] for pair in stored] != [
            [m.weight.shape, torch.Size([m.out_channels])] for m in convolutions]:
        raise InputError(f"{path}: convolutions of another network", "a mask network that `train mask` exported",
                         "correct --start")
    added = {}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for conv, (weight, bias) in zip(convolutions, stored, strict=True):
        conv.weight.copy_(weight)
        if conv.bias is not None:
            conv.bias.copy_(bias)
        else:
            added[norms[len(added)]] = bias

    def fit(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        spread, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(spread)
        norm.weight.copy_((spread + norm.eps).sqrt())
        norm.bias.copy_(mean + added[norm])

    hooks = [norm.register_forward_pre_hook(fit) for norm in norms]
    model.eval()(seen)
    for hook in hooks:
        hook.remove()
    model.train()
