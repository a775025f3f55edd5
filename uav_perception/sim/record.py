"""Flights as bags: frames are drawn into a folder beside the bag, one file each, then put together.

An interrupted render leaves that folder; ``resume`` goes on where it ended. Topics are those of docs/truth.md.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, WorkFailed
from ..geometry import quaternion_from_matrix
from ..offline import messages
from ..offline.bags import BagWriter
from ..records import CameraModel
from .actors import CLASS_NAMES
from .flight import SCENES, Flight, FlightOptions, SimFrame


@dataclasses.dataclass(frozen=True)
class BagOptions:
    """``jpeg_quality`` 1–100; depth is written for every ``depth_every``-th frame (0 = never)."""

    seconds: float = 10.0
    jpeg_quality: int = 92
    depth_every: int = 1

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("seconds", self.seconds, 0.05, 3600),
            ("JPEG quality", self.jpeg_quality, 1, 100),
            ("depth every", self.depth_every, 0, 10**6),
        ):
            if not low <= value <= high:
                raise InputError(f"{name} {value}", f"{low} to {high}", "correct the argument")


def render_bag(
    scene: str,
    out: Path,
    options: FlightOptions,
    bag: BagOptions,
    resume: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Render ``bag.seconds`` of ``scene`` into the bag ``out``; returns the number of frames.

    Raises:
        InputError: ``out`` exists, or an unfinished render of another flight (without ``resume``: of any) is there.
        MissingDependency: without the extra ``sim``.
    """
    if scene not in SCENES:
        raise InputError(f"scene {scene!r}", f"one of {', '.join(SCENES)}", "choose a scene by name")
    if out.exists():
        raise InputError(f"output {out} that exists", "a new path", "remove it or choose another")
    folder = out.with_name(out.name + ".partial")
    plan = json.dumps(
        {
            "scene": scene,
            **dataclasses.asdict(options),
            "jpeg_quality": bag.jpeg_quality,
            "depth_every": bag.depth_every,
        },
        sort_keys=True,
    )
    if folder.exists() and not resume:
        raise InputError(f"an unfinished render in {folder}", "none", "go on with --resume, or remove that folder")
    if folder.exists() and (folder / "plan.json").is_file() and (folder / "plan.json").read_text() != plan:
        raise InputError(
            f"an unfinished render of another flight in {folder}",
            "the same scene and options",
            "give the same arguments, or remove that folder",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "plan.json", plan.encode())
    except OSError as e:
        raise InputError(f"output {out}: {e.strerror}", "a folder that can be written", "choose another path") from e
    total = max(1, round(bag.seconds * options.fps))
    done = 0
    while done < total and _file(folder, done).is_file():
        done += 1
    if done < total:
        for number, sim_frame in enumerate(Flight(scene, options).frames(skip=done), start=done):
            _write(_file(folder, number), _pack(sim_frame, bag))
            progress(number + 1, total)
            if number + 1 == total:
                break
    _assemble(folder, out, total, options)
    shutil.rmtree(folder)
    return total


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _pack(f: SimFrame, bag: BagOptions) -> bytes:
    ok, jpeg = cv2.imencode(".jpg", f.frame.image, [cv2.IMWRITE_JPEG_QUALITY, bag.jpeg_quality])
    if not ok:
        raise WorkFailed(f"frame {f.frame.seq} as JPEG", "an encoder", "check the OpenCV installation")
    fields = {
        "stamp_ns": np.int64(f.frame.stamp_ns),
        "jpeg": jpeg,
        "pose": f.world_from_camera,
        "object_id": f.object_id,
        "class_id": f.class_id,
        "xyxy_px": f.xyxy_px,
        "full_xyxy_px": f.full_xyxy_px,
        "visibility": f.visibility,
        "height_agl_m": np.float64(f.height_agl_m),
        "K": np.asarray(f.frame.camera.K if f.frame.camera else 0),
    }
    if bag.depth_every and f.frame.seq % bag.depth_every == 0:
        message = messages.depth_image(f.depth.depth, f.depth.valid, f.frame.stamp_ns, f.frame.frame_id)
        fields["depth"] = np.asarray(message.data)
    buffer = io.BytesIO()
    np.savez(buffer, **fields)  # type: ignore[arg-type]
    return buffer.getvalue()


def _assemble(folder: Path, out: Path, total: int, options: FlightOptions) -> None:
    frame_id = "camera_optical"
    with BagWriter(out, compression="chunk") as writer:  # boxes are mostly empty covariances
        for number in range(total):
            with np.load(_file(folder, number)) as d:
                stamp = int(d["stamp_ns"])
                camera = CameraModel(d["K"], np.zeros(5), options.width_px, options.height_px, frame_id)
                names = [CLASS_NAMES[c] for c in d["class_id"]]
                ids = [str(i) for i in d["object_id"]]
                seen = np.flatnonzero(d["visibility"] > 0)
                pose, visibility = d["pose"], d["visibility"]
                writer.write("image/compressed", messages.compressed_image(d["jpeg"], "jpeg", stamp, frame_id), stamp)
                writer.write("camera_info", messages.camera_info(camera, stamp), stamp)
                writer.write("height_agl", messages.range_m(float(d["height_agl_m"]), stamp, frame_id), stamp)
                writer.write(
                    "truth/pose", messages.pose_stamped(pose[:3, 3], quaternion_from_matrix(pose[:3, :3]), stamp), stamp
                )
                writer.write(
                    "truth/boxes",
                    messages.boxes(
                        d["xyxy_px"][seen],
                        [ids[i] for i in seen],
                        [names[i] for i in seen],
                        visibility[seen],
                        stamp,
                        frame_id,
                    ),
                    stamp,
                )
                writer.write(
                    "truth/boxes_full",
                    messages.boxes(d["full_xyxy_px"], ids, names, visibility, stamp, frame_id),
                    stamp,
                )
                if "depth" in d:
                    depth = messages.compressed_image(d["depth"], "32FC1; compressedDepth png", stamp, frame_id)
                    writer.write("truth/depth/compressedDepth", depth, stamp)
