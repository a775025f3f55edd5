"""What can be evaluated: a bag, or a folder in the layout of a public set; its pictures and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..camera.bag import BagPictures
from ..camera.files import image_files
from ..camera.finite import FiniteCamera, PictureSource
from ..config import CameraConfig, EvaluateConfig
from ..errors import SourceError
from .importers import open_folder
from .truth import BagTruth, NoTruth, Truth

BAG_SUFFIXES = (".mcap", ".db3", ".bag")


@dataclass
class Recording:
    """Pictures without pacing, the truth about them, and what was lost."""

    path: Path
    source: PictureSource
    camera: FiniteCamera
    truth: Truth

    def loss(self) -> dict[str, Any]:
        """What could not be used, in plain words and numbers; known in full after the last frame."""
        loss: dict[str, Any] = {"unreadable_frames": self.camera.unreadable}
        if isinstance(self.source, BagPictures):
            loss["bag"] = list(self.source.bag.losses)
            loss["topics_not_read"] = getattr(self.truth, "mismatched", [])
            loss["frames"] = {k: v for k, v in sorted(self.source.counts.items()) if k != "read"}
            loss["longest_gap_s"] = round(self.source.longest_gap_ns * 1e-9, 6)
        status = self.camera.status
        loss["status"] = "" if status in ("ok", "ended") else status
        return loss

    def close(self) -> None:
        """Release the files."""
        self.camera.close()
        self.truth.close()


def is_bag(path: Path) -> bool:
    """A bag file, or a rosbag2 folder (also one whose metadata was never written: files named after the folder)."""
    if path.is_dir():
        named = (p.name.startswith(path.name) and p.suffix in BAG_SUFFIXES for p in path.iterdir())
        return (path / "metadata.yaml").is_file() or any(named)
    return path.suffix in (*BAG_SUFFIXES, ".zst", ".zstd")


def open_recording(path: Path, camera: CameraConfig, config: EvaluateConfig,
                   truth_file: Path | None = None) -> Recording:
    """Open a bag, or a folder of pictures with the truth files of its kind.

    Raises:
        BagError: a bag without images, or of which nothing can be read.
        SourceError: neither a bag nor a folder of pictures.
    """
    if is_bag(path):
        pictures = BagPictures(path, camera.image_topic, camera.frame_id)
        truth: Truth = BagTruth(path, round(config.truth_tolerance_ms * 1e6))
        source: PictureSource = pictures
    elif path.is_dir():
        source, known = open_folder(path, camera.fps, truth_file)
        truth = known or NoTruth()
    else:
        raise SourceError(f"recording {path}", "a bag (folder, .mcap, .db3, .bag) or an image folder", "check the path")
    return Recording(path, source, FiniteCamera(source, camera), truth)


def find_recordings(paths: list[Path]) -> list[Path]:
    """The recordings named, or found one and two levels below a folder that is none itself, in order.

    Raises:
        SourceError: a path that does not exist, or a folder without recordings.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise SourceError(f"recording {path}", "an existing bag or folder", "check the path")
        if _is_recording(path):
            found.append(path)
            continue
        inside = [p for pattern in ("*", "*/*") for p in sorted(path.glob(pattern))
                  if not p.name.startswith(".") and _is_recording(p)] if path.is_dir() else []
        inside = [p for p in inside if not any(q in p.parents for q in inside)]
        if not inside:
            raise SourceError(f"folder {path} without a recording", "bags, or folders of pictures", "check the path")
        found += inside
    return found


def _is_recording(path: Path) -> bool:
    if is_bag(path):
        return True
    try:
        return path.is_dir() and bool(image_files(path))
    except SourceError:
        return False
