"""What the training commands check before anything is read or written; needs no PyTorch itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from uav_perception.errors import InputError, MissingDependency


def need_torch() -> None:
    """Raises MissingDependency: PyTorch is not installed."""
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise MissingDependency("torch is not installed", "PyTorch (extra `train`)", "run `make train-setup`") from e


def check_arguments(args: argparse.Namespace, counts: Sequence[str], files: Iterable[str]) -> None:
    """Raises InputError: one of ``counts`` is below 1, or one of ``files`` (empty = not given) does not exist."""
    for name in counts:
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}", "at least 1", "correct the arguments")
    for file in filter(None, files):
        if not Path(file).exists():
            raise InputError(f"{file}: no such file or folder", "an existing path", "correct the arguments")
