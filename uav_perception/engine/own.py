"""Where the package's own models are."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def own_engine(name: str) -> Path | None:
    """Engine folder or ONNX file of this name in ``engines/`` of a checkout, else of the installation, else None."""
    places = [Path(__file__).resolve().parents[2] / "engines"]
    prefixes = [sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))]
    places += [Path(p) / "share" / "uav_perception" / "engines" for p in prefixes]
    for place in places:
        if (place / name / "manifest.json").is_file():
            return place / name
        if (place / name / f"{name}.onnx").is_file():
            return place / name / f"{name}.onnx"
    return None
