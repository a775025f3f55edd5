"""``uav-perception depth``: depth and ego-motion over an ordered folder of images."""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import os
from pathlib import Path

import cv2
import numpy as np

from ..camera.files import image_files
from ..config import DepthPoseConfig
from ..depth_pose.estimator import make_depth_pose
from ..depth_pose.sequence import Sighting, depth_of, in_flight, lay_out, observe, run_scale, smooth
from ..errors import InputError
from ..geometry import quaternion_from_matrix
from ..records import CameraModel, Frame
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--images", type=Path, required=True, help="folder of images in name order")
    parser.add_argument("--camera", required=True, metavar="fx,fy,cx,cy", help="intrinsics of these images, px")
    parser.add_argument("--out", type=Path, required=True, help="gets depth/<frame>.npy, poses.tum, meta.json")
    parser.add_argument("--stamps", type=Path, help="one capture time in seconds a line (default: 30 Hz)")
    parser.add_argument("--agl", type=Path, help="height above ground, m, one a line (nan = unknown): makes it metric")
    parser.add_argument("--camera-pitch", type=float, metavar="DEG", help="camera below horizon (90 = down), if known")
    parser.add_argument("--model", default="", help="depth ONNX or engine folder; 'none' = geometry alone")
    parser.add_argument("--online", action="store_true", help="as in flight, without smoothing afterwards")
    parser.add_argument("--json", action="store_true", help="print meta.json as the last line")


def run(args: argparse.Namespace) -> int:
    """Read, estimate, smooth, write."""
    files = image_files(args.images)
    stamps = _stamps(args.stamps, len(files))
    heights = None if args.agl is None else dict(zip(stamps, _column(args.agl, len(files), "heights"), strict=True))
    camera = _camera(args.camera, files[0])
    mounted = args.camera_pitch is not None  # on what flies about level; of other cameras the mask knows little
    config = DepthPoseConfig(depth_model=args.model, camera_pitch_deg=args.camera_pitch or 0.0, expect_level=mounted,
                             motion_mask=mounted, gap_max_s=600.0)
    stage = make_depth_pose(config)

    sightings = list(observe(stage, (_read(k, f, stamps[k], camera) for k, f in enumerate(files)), heights))
    if not args.online:
        smooth(sightings, float(np.sqrt(camera.K[0, 0] * camera.K[1, 1])))
        lay_out(sightings, stage, camera)
    state, factor = run_scale(sightings)
    folder = args.out / "depth"
    folder.mkdir(parents=True, exist_ok=True)
    for k, file in enumerate(files):
        depth = in_flight(sightings[k], camera) if args.online else depth_of(sightings, k, camera, config.fuse_reach)
        if depth is None:
            depth = np.full((camera.height_px, camera.width_px), np.nan, np.float32)
        buffer = io.BytesIO()
        np.save(buffer, depth * np.float32(factor))
        _write(folder / f"{file.stem}.npy", buffer.getvalue())
    _write(args.out / "poses.tum", _trajectory(sightings, factor).encode())
    meta = {"scale": state.value, "metres_per_unit": factor if state.value == "METRIC" else None, "frames": len(files),
            "frames_with_motion": sum(s.world_from_camera is not None for s in sightings), "resets": stage.resets,
            "smoothed": not args.online, "engine": dataclasses.asdict(stage.engine_info), "camera": camera.K.tolist()}
    _write(args.out / "meta.json", (json.dumps(meta, indent=1) + "\n").encode())
    if args.json:
        print_json(meta)
    else:
        print(f"{len(files)} frames, scale {state.value}, {meta['resets']} resets -> {args.out}")
    return 0


def _read(seq: int, path: Path, stamp_ns: int, camera: CameraModel) -> Frame:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"picture {path}", "a readable image", "remove or repair it")
    if image.shape[:2] != (camera.height_px, camera.width_px):
        raise InputError(f"picture {path} of {image.shape[1]}x{image.shape[0]} px",
                         f"{camera.width_px}x{camera.height_px} as the first", "give images of one size")
    return Frame(seq, stamp_ns, np.asarray(image, np.uint8), camera)


def _camera(text: str, first: Path) -> CameraModel:
    try:
        fx, fy, cx, cy = (float(v) for v in text.split(","))
    except ValueError as e:
        raise InputError(f"--camera {text!r}", "four numbers fx,fy,cx,cy in pixels", "give the intrinsics") from e
    image = cv2.imread(str(first), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"picture {first}", "a readable image", "remove or repair it")
    return CameraModel(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.zeros(5), image.shape[1], image.shape[0])


def _column(path: Path, count: int, what: str) -> list[float]:
    try:
        values = [float(line.split()[-1]) for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
    except (OSError, ValueError) as e:
        raise InputError(f"{what} {path}: {e}", "one number a line", "check the file") from e
    if len(values) != count:
        raise InputError(f"{len(values)} {what} in {path}", f"{count}, one a picture", "check the file")
    return values


def _stamps(path: Path | None, count: int) -> list[int]:
    if path is None:
        return [round(k * 1e9 / 30) for k in range(count)]
    stamps = [round(v * 1e9) for v in _column(path, count, "stamps")]
    if stamps[0] < 0 or any(b <= a for a, b in itertools.pairwise(stamps)):
        raise InputError(f"stamps in {path}", "rising times in seconds", "sort them, remove doubles")
    return stamps


def _trajectory(sightings: list[Sighting], factor: float) -> str:
    """TUM text: camera to world (optical axes of the first frame); a frame without motion keeps the pose before it."""
    lines, pose = [], np.eye(4)
    for s in sightings:
        if s.world_from_camera is not None:
            pose = s.world_from_camera
        w, x, y, z = quaternion_from_matrix(pose[:3, :3])
        t = pose[:3, 3] * factor
        lines.append(f"{s.stamp_ns * 1e-9:.9f} {t[0]:.9f} {t[1]:.9f} {t[2]:.9f} {x:.9f} {y:.9f} {z:.9f} {w:.9f}\n")
    return "".join(lines)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
