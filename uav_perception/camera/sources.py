"""Which camera a word on the command line means: one visible table."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from ..config import CameraConfig
from ..errors import MissingDependency, SourceError
from . import CameraSource
from .bag import BagPictures
from .device import csi_pipeline, open_gstreamer, open_stream, open_v4l2
from .files import SUFFIXES, FolderPictures, VideoPictures
from .finite import FiniteCamera

DEMO_FOLDER = Path(__file__).resolve().parents[1] / "sim" / "demo"


def _sim(scene: str, config: CameraConfig) -> CameraSource:
    try:
        module = importlib.import_module("uav_perception.sim.source")  # heavy, and an extra: only when asked for
    except ImportError as e:
        raise MissingDependency(f"source sim:{scene} ({e})", "the `sim` extra",
                                "pip install 'uav-perception[sim]'") from e
    source: CameraSource = module.SimSource(scene, config)
    return source


def _demo(_: str, config: CameraConfig) -> CameraSource:
    recordings = sorted(p for p in DEMO_FOLDER.rglob("*") if p.suffix in (".mcap", ".db3", ".mp4"))
    if not recordings:
        raise SourceError(f"demo flight in {DEMO_FOLDER}", "the recording that ships with the package",
                          "install the package again, or name a video or an image folder with --source")
    return _path(str(recordings[0]), config)


def _bag(path: str, config: CameraConfig) -> CameraSource:
    return FiniteCamera(BagPictures(Path(path), config.image_topic, config.frame_id), config)


def _path(path: str, config: CameraConfig) -> CameraSource:
    """A video, an image folder, or a bag given without ``bag:``."""
    place = Path(path)
    if place.suffix in (".mcap", ".db3", ".bag") or (place / "metadata.yaml").is_file():
        return _bag(path, config)
    if place.is_dir():
        return FiniteCamera(FolderPictures(place, config.fps), config)
    if place.suffix.lower() in SUFFIXES:
        raise SourceError(f"single picture {path}", "a video, an image folder, or a bag", "give its folder")
    if not place.exists():
        kinds = ", ".join(f"{k}:" for k in KINDS)
        raise SourceError(f"source {path!r}", f"demo, a path that exists, or one of {kinds}", "check the path")
    return FiniteCamera(VideoPictures(place, config.fps), config)


# kind (what stands before ":") -> opener of (what stands after, config)
KINDS: dict[str, Callable[[str, CameraConfig], CameraSource]] = {
    "sim": _sim,
    "bag": _bag,
    "file": _path,
    "v4l2": open_v4l2,
    "csi": lambda sensor, config: open_gstreamer(csi_pipeline(sensor, config), config),
    "gstreamer": open_gstreamer,
    "rtsp": lambda rest, config: open_stream(f"rtsp:{rest}", config),
    "http": lambda rest, config: open_stream(f"http:{rest}", config),
}


def open_camera(config: CameraConfig) -> CameraSource:
    """Open what ``config.source`` names.

    Raises:
        SourceError: unknown kind, missing or unreadable path or device, broken calibration.
        BagError: a bag without a usable image topic.
        MissingDependency: a simulated flight without the ``sim`` extra.
    """
    kind, colon, rest = config.source.partition(":")
    if config.source == "demo":
        return _demo("", config)
    if colon and kind in KINDS:
        return KINDS[kind](rest, config)
    return _path(config.source, config)
