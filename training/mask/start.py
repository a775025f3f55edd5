"""Training goes on from a mask network that was exported, and may end between that one and what was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from uav_perception.errors import InputError

from .network import MaskNet

Kernels = list[tuple[Tensor, Tensor]]  # weight and bias of each convolution, the normalisation after it included


def go_on_from(path: Path, model: MaskNet, seen: Tensor) -> None:
    """Give ``model`` the weights of the file that ``export`` wrote.

    Raises:
        InputError: the file is another network's, or no ONNX file.
    """
    _give(stored(path), model, seen)


@torch.no_grad()
def blended(model: MaskNet, before: Kernels, share: float, seen: Tensor) -> MaskNet:
    """A network between ``model``, of whose weights it has this ``share``, and the one it has gone on from. Such a mean
    is often better than both (Wortsman et al., "Model soups", ICML 2022)."""
    mixed = MaskNet()
    _give([(share * a + (1 - share) * b, share * c + (1 - share) * d)
           for (a, c), (b, d) in zip(_folded(model), before, strict=True)], mixed, seen)
    return mixed


def stored(path: Path) -> Kernels:
    """What the file of a mask network holds. Raises InputError, see ``go_on_from``."""
    try:
        graph = onnx.load(str(path)).graph
    except Exception as e:  # protobuf and file errors of several kinds
        raise InputError(f"{path}: {str(e).splitlines()[0]}", "an ONNX file", "correct --start") from e
    values = {value.name: torch.from_numpy(numpy_helper.to_array(value).copy()) for value in graph.initializer}
    kernels = [tuple(values.get(name) for name in node.input[1:]) for node in graph.node if node.op_type == "Conv"]
    if [[None if v is None else v.shape for v in pair] for pair in kernels] != [
            [m.weight.shape, torch.Size([m.out_channels])] for m in MaskNet().modules() if isinstance(m, nn.Conv2d)]:
        raise InputError(f"{path}: convolutions of another network", "a mask network that `train mask` exported",
                         "correct --start")
    return cast(Kernels, kernels)


def _layers(model: MaskNet) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions in order, each with the normalisation after it: all have one but those with a bias."""
    norms = (m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    return [(m, next(norms) if m.bias is None else None) for m in model.modules() if isinstance(m, nn.Conv2d)]


def _folded(model: MaskNet) -> Kernels:
    kernels = list[tuple[Tensor, Tensor]]()
    for conv, norm in _layers(model):
        if norm is None:
            assert conv.bias is not None
            kernels.append((conv.weight, conv.bias))
        else:
            assert norm.running_var is not None and norm.running_mean is not None
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            kernels.append((conv.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor))
    return kernels


@torch.no_grad()
def _give(kernels: Kernels, model: MaskNet, seen: Tensor) -> None:
    """Set the model's weights; its normalisation so that on ``seen`` (B, CHANNELS, h, w) it adds the bias alone."""
    added = {}
    for (conv, norm), (weight, bias) in zip(_layers(model), kernels, strict=True):
        conv.weight.copy_(weight)
        if norm is None:
            assert conv.bias is not None
            conv.bias.copy_(bias)
        else:
            added[norm] = bias

    def fit(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        spread, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(spread)
        norm.weight.copy_((spread + norm.eps).sqrt())
        norm.bias.copy_(mean + added[norm])

    hooks = [norm.register_forward_pre_hook(fit) for norm in added]
    model.eval()(seen)
    for hook in hooks:
        hook.remove()
    model.train()
