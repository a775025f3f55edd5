"""The model card of a trained detector: what it saw, what it scores, where it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .model import CLASSES
from .pictures import CLASS_MAP
from .train import Plan


def write_card(path: Path, summary: dict[str, Any], plan: Plan) -> None:
    """Write the card of one run."""
    scores = "\n".join(f"| {name} | {value:.3f} |" for name, value in summary["held_out_ap50"].items())
    gathered = {c: sorted(n for n, k in CLASS_MAP.items() if k == c) for c in CLASSES}
    classes = "\n".join(f"- `{c}`: {', '.join(names)}" for c, names in gathered.items())
    path.write_text(f"""# Aerial detector: model card

Family `uavdet`: MobileNetV2 blocks, light feature pyramid, anchor-free heads at strides 4, 8, 16.
{summary['parameters'] / 1e6:.2f} M parameters, {summary['flops_512'] / 1e9:.2f} GFLOP at 512 x 512 (two a
multiply-add).

## Classes

{classes}

Categories mapped to nothing (`othervehicle`, `dontcare`) are neither right nor wrong in training.

## Training

{summary['steps']} steps of {plan.batch} pictures a process, crops of {plan.size_px} px, seed {plan.seed}.
Data: {', '.join(Path(d).name for d in plan.data + plan.rendered)}. State their licences here before shipping weights.

## Scores

AP50 on pictures held out of the training data:

| pictures and class | AP50 |
| --- | --- |
{scores}
""")
