"""Intrinsics: ``camera_info_manager`` YAML, CameraInfo messages, and undistortion that keeps K."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from ..errors import RecordError, SourceError
from ..records import U8, CameraModel

_MODELS = ("plumb_bob", "rational_polynomial", "equidistant")
_REMEDY = "calibrate the camera again or correct the file (see docs/camera.md)"


def load_camera_info(path: str | Path, frame_id: str = "camera_optical") -> CameraModel:
    """Read the YAML that ``camera_calibration`` and ``camera_info_manager`` write.

    Raises:
        SourceError: unreadable, a key is missing, a matrix has the wrong size, NaN, or impossible values.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise SourceError(f"calibration {path}: {str(e).splitlines()[0]}", "a camera_info_manager YAML file",
                          "give the path of one (calib/camera/ has an example)") from e
    try:
        return camera_model(tree["image_width"], tree["image_height"], tree["camera_matrix"]["data"],
                            tree["distortion_coefficients"]["data"], str(tree.get("distortion_model", "plumb_bob")),
                            frame_id)
    except (KeyError, TypeError) as e:
        raise SourceError(f"calibration {path} without {e}",
                          "image_width, image_height, camera_matrix.data, distortion_coefficients.data", _REMEDY) from e
    except SourceError as e:
        raise SourceError(f"calibration {path}: {e.value}", e.expected, e.remedy) from e


def camera_model(width: Any, height: Any, k: Any, d: Any, model: str, frame_id: str) -> CameraModel:
    """A CameraModel from the numbers of a CameraInfo message or file.

    Raises:
        SourceError: NaN, wrong counts, focal length or size not positive, distortion model unknown.
    """
    model = {"": "plumb_bob", "fisheye": "equidistant"}.get(model, model)
    if model not in _MODELS:
        raise SourceError(f"distortion model {model!r}", f"one of {', '.join(_MODELS)}", _REMEDY)
    try:
        matrix, distortion = np.array(k, np.float64).ravel(), np.array(d, np.float64).ravel()
        width, height = int(width), int(height)
    except (TypeError, ValueError, OverflowError) as e:
        raise SourceError(f"intrinsics that are no numbers ({e})", "numbers", _REMEDY) from e
    if matrix.size != 9:
        raise SourceError(f"camera matrix of {matrix.size} numbers", "9", _REMEDY)
    if not (np.isfinite(matrix).all() and np.isfinite(distortion).all()):
        raise SourceError("intrinsics with NaN or infinity", "finite numbers", _REMEDY)
    if distortion.size not in ((0, 4) if model == "equidistant" else (0, 4, 5, 8, 12, 14)):
        raise SourceError(f"{distortion.size} {model} distortion coefficients",
                          "4" if model == "equidistant" else "4, 5, 8, 12 or 14", _REMEDY)
    try:
        return CameraModel(matrix.reshape(3, 3), distortion, width, height, frame_id, model)
    except RecordError as e:
        raise SourceError(e.value, e.expected, _REMEDY) from e


class Undistorter:
    """Remaps images to the ideal pinhole with the same K; pixels from outside the image are black."""

    def __init__(self, camera: CameraModel) -> None:
        size = (camera.width_px, camera.height_px)
        k, d = np.asarray(camera.K), np.asarray(camera.distortion)
        if camera.distortion_model == "equidistant":
            maps = cv2.fisheye.initUndistortRectifyMap(k, d, np.eye(3), k, size, cv2.CV_16SC2)
        else:
            maps = cv2.initUndistortRectifyMap(k, d, np.eye(3), k, size, cv2.CV_16SC2)
        self._maps = maps
        self.ideal = CameraModel(k, np.zeros(0), *size, camera.frame_id, "plumb_bob")

    def __call__(self, image: U8) -> U8:
        return np.asarray(cv2.remap(image, *self._maps, cv2.INTER_LINEAR), dtype=np.uint8)
