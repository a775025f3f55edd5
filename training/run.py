"""What the training runs share: schedule, moving average, and checkpoints that an interruption leaves whole."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from uav_perception.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


class Plan(Protocol):
    """What a run's plan (a dataclass) says to all of them."""

    __dataclass_fields__: Any

    @property
    def steps(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def ema(self) -> float: ...


def rate_at(plan: Plan, step: int) -> float:
    """Linear warm-up, then half a cosine down to 2 %."""
    if step < plan.warmup:
        return plan.rate * (step + 1) / plan.warmup
    progress = min(1.0, (step - plan.warmup) / max(1, plan.steps - plan.warmup))
    return plan.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def save(path: Path, value: Any) -> None:
    """Write atomically: an interrupted run never leaves half a checkpoint."""
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at ``path`` or None when there is none.

    Raises:
        InputError: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as e:
        raise InputError(f"checkpoint {path}: {str(e).splitlines()[0]}", "a checkpoint of this training",
                         "remove it to start anew") from e


class Run(Generic[Network]):
    """A network, its moving average and, once a subclass has made it, its optimiser."""

    optimiser: torch.optim.Optimizer

    def __init__(self, plan: Plan, model: Network) -> None:
        self.plan = plan
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: Network = copy.deepcopy(self.model)
        self.step_index = 0
        self.history: list[dict[str, float]] = []

    def state(self) -> dict[str, Any]:
        """Everything to go on from."""
        return {"model": self.model.state_dict(), "average": self.average.state_dict(), "step": self.step_index,
                "optimiser": self.optimiser.state_dict(), "history": self.history, "plan": asdict(self.plan)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step_index, self.history = state["step"], state["history"]

    def advance(self) -> None:
        """A step was taken: the average follows, at first more quickly."""
        decay = min(self.plan.ema, (1 + self.step_index) / (10 + self.step_index))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.step_index += 1

    def descend(self, loss: Tensor) -> float:
        """One update of all parameters down ``loss``; the average takes the buffers as they are. Returns the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.plan, self.step_index)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        for kept, new in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(new)
        self.advance()
        return float(loss.detach())

    def to_the_end(self, step: Callable[[], float], score: Callable[[], dict[str, float]], checkpoint: Path,
                   validate_every: int, save_every: int) -> tuple[Network, list[dict[str, float]]]:
        """Take ``step`` until the plan's last, from ``checkpoint`` on if there is one; mean loss and ``score`` go into
        the history and are printed. Returns the averaged network and the history."""
        state = load_checkpoint(checkpoint)
        if state:
            self.restore(state)
        losses = list[float]()
        while self.step_index < self.plan.steps:
            losses.append(step())
            done = self.step_index == self.plan.steps
            if self.step_index % validate_every == 0 or done:
                row = {"step": float(self.step_index), "loss": round(float(np.mean(losses)), 4), **score()}
                self.history.append(row)
                print(json.dumps(row), flush=True)
                losses = []
            if self.step_index % save_every == 0 or done:
                save(checkpoint, self.state())
        return self.average.eval(), self.history
