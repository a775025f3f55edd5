"""The target trackers by name: ours, and those it is compared with, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable

from ..config import LsartConfig, TrackerConfig
from . import TargetTracker
from .lsart import LsartTracker


def _opencv(name: str) -> Callable[[LsartConfig], TargetTracker]:
    def make(config: LsartConfig) -> TargetTracker:
        from .opencv_trackers import OpenCvTracker

        return OpenCvTracker(name)

    return make


def _nano(config: LsartConfig) -> TargetTracker:
    from .nano import NanoTracker

    return NanoTracker(config)


TARGET_TRACKERS: dict[str, Callable[[LsartConfig], TargetTracker]] = {
    "lsart": LsartTracker,
    "kcf": _opencv("kcf"),
    "csrt": _opencv("csrt"),
    "nano": _nano,
}


def make_target_tracker(config: TrackerConfig, lsart: LsartConfig) -> TargetTracker:
    """The tracker that ``config.target_tracker`` names."""
    return TARGET_TRACKERS[config.target_tracker](lsart)
