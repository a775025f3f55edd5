"""Depth and ego-motion: speed of the stage by parts, and accuracy beside ORB + essential matrix on posed sequences.

Speed is measured on pictures of 128 x 416 px of a rendered street, as in flight, with depth not set right by parallax,
and with the mask network asked as well, once it has earlier pictures to compare with. A sequence is a folder of images
with ``--camera`` and ``--truth`` (TUM text, KITTI 3x4 or 4x4 rows, camera to world); both methods see the same
pictures: ours as in flight and smoothed afterwards, the peer matches ORB features frame by frame (MAGSAC).
``--flights N`` renders N flights (extra `sim`) of places that no training has seen and measures depth, metres, drift and
the mask of moving things as in flight, with the mask by threshold, and the drift of the peer, whose steps are given their
true lengths.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench._flights import measure, peer_drift, rendered
from training.depth.scenes import make_scene, render
from uav_perception.camera.files import image_files
from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose.dense import planes
from uav_perception.depth_pose.estimator import make_depth_pose
from uav_perception.depth_pose.sequence import observe, smooth
from uav_perception.errors import InputError
from uav_perception.geometry import matrix_from_quaternion, se3, se3_inverse, so3_log
from uav_perception.records import CameraModel, Frame

F64 = NDArray[np.float64]
SIZE = (416, 128)
SETTLED = 42  # frames at 30 Hz until the mask has all its earlier pictures
FLIGHTS = ("street", "town", "low-oblique", "roundabout", "plaza", "survey-high", "junction",
           "park", "night", "parking", "avenue", "underpass", "field")
SEED = 920  # of the rendered flights; training/ uses other places


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--images", type=Path, help="folder of a posed sequence (without it: speed alone)")
    parser.add_argument("--camera", metavar="fx,fy,cx,cy")
    parser.add_argument("--truth", type=Path, help="camera-to-world poses, one a line")
    parser.add_argument("--flights", type=int, default=0, help=f"rendered flights, 0 to {len(FLIGHTS)}")
    parser.add_argument("--seed", type=int, default=SEED, help="of the places flown over; with 901 to 911 settings were found")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each flight")
    parser.add_argument("--frames", type=int, default=110, help="rendered frames of the speed run, at 30 Hz")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; CPU time of this process a frame stands beside wall time, for machines that do other things too."""
    if args.frames <= SETTLED:
        raise InputError(f"--frames {args.frames}", f"more than {SETTLED}, in which there is no mask yet", "give more")
    frames = street(args.frames)
    result: dict[str, Any] = {"speed_128x416": speed(frames, mask_network=False),
                              "speed_128x416_without_parallax": speed(frames, mask_network=False, parallax=False),
                              "speed_128x416_with_mask_network": speed(frames, mask_network=True)}
    if args.images is not None:
        if not args.camera or not args.truth:
            raise InputError("a sequence without --camera or --truth", "both", "give intrinsics and poses")
        result["motion"] = accuracy(args.images, args.camera, args.truth)
    if args.flights:
        result["flights"] = {}
        for scene in FLIGHTS[:args.flights]:
            pitch, flight = rendered(scene, args.seed, args.seconds, 20.0)
            frames = list(flight)
            scores, kept, true = measure(frames, pitch)
            threshold = measure(frames, pitch, mask_model="none")[0]
            camera = kept[0].camera
            assert camera is not None
            steps = orb_poses([f.image for f in kept], camera.K)
            result["flights"][scene] = {**scores, "moving_iou_by_threshold": threshold["moving_iou"],
                                        "frame_ms_p50_by_threshold": threshold["frame_ms_p50"],
                                        "orb_drift_percent": peer_drift(kept, true, steps)}
    return result


def street(count: int) -> list[Frame]:
    """A rendered street from a car, 30 frames a second."""
    K = np.array([[240.0, 0, 207.5], [0, 240.0, 63.5], [0, 0, 1]])
    rng = np.random.default_rng(2)
    while True:
        scene, pose, step = make_scene(rng)
        if 1.0 < pose[2, 3] < 3.0 and step > 0.3:
            break
    camera = CameraModel(K, np.zeros(5), *SIZE)
    frames = []
    for k in range(count):
        image, _ = render(scene, pose @ se3(np.eye(3), [0, 0, 0.3 * k]), K, *SIZE)
        frames.append(Frame(k, k * 33_000_000, image, camera))
    return frames


def speed(frames: list[Frame], mask_network: bool, parallax: bool = True) -> dict[str, Any]:
    """Frames a second of the whole stage, and the part of preprocessing; of the frames in which there is a mask."""
    stage = make_depth_pose(DepthPoseConfig(parallax=parallax))
    stage.mask.careful = mask_network
    wall, cpu = [], []
    for frame in frames:
        w, c = time.perf_counter(), time.process_time()
        stage.update(frame, 1.7)
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    pre = []
    for frame in frames:
        c = time.process_time()
        planes(frame.image, *SIZE)
        pre.append(time.process_time() - c)
    return {"engine": f"{stage.engine_info.name} {stage.engine_info.precision}", "frames": len(frames),
            "wall_ms": _percentiles(wall[SETTLED:]), "cpu_ms": _percentiles(cpu[SETTLED:]),
            "fps_by_median_wall": round(1 / float(np.median(wall[SETTLED:])), 1),
            "fps_by_best_tenth": round(1 / float(np.percentile(wall[SETTLED:], 10)), 1),
            "preprocess_cpu_ms": _percentiles(pre)}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}": round(1e3 * float(np.percentile(seconds, q)), 2) for q in (10, 50, 95, 99)}


def accuracy(folder: Path, text: str, truth: Path) -> dict[str, Any]:
    """Errors of ours in flight, ours smoothed, and the peer."""
    files = image_files(folder)
    fx, fy, cx, cy = (float(v) for v in text.split(","))
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    images = [np.asarray(cv2.imread(str(f)), np.uint8) for f in files]
    camera = CameraModel(K, np.zeros(5), images[0].shape[1], images[0].shape[0])
    stage = make_depth_pose(DepthPoseConfig(motion_mask=False, expect_level=False, gap_max_s=600.0))
    sightings = list(observe(stage, (Frame(k, k * 33_000_000, image, camera) for k, image in enumerate(images))))
    wanted = _poses(truth)[:len(files)]
    online = [s.world_from_camera if s.world_from_camera is not None else np.eye(4) for s in sightings]
    smooth(sightings, float(np.sqrt(fx * fy)))
    after = [s.world_from_camera if s.world_from_camera is not None else np.eye(4) for s in sightings]
    ours, peer = motion_errors(after, wanted), motion_errors(orb_poses(images, K), wanted)
    ratio = {k: round(ours[k] / max(peer[k], 1e-9), 3) for k in ours}
    return {"ours_in_flight": motion_errors(online, wanted), "ours_smoothed": ours, "orb_magsac": peer,
            "smoothed_by_peer": ratio, "pairs": len(wanted) - 1}


def motion_errors(poses: list[F64], truth: list[F64]) -> dict[str, float]:
    """Median rotation and direction error a pair (degrees); 5-frame ATE of SfM-Learner (sqrt of sum / N, scaled)."""
    rotation, direction, ate = [], [], []
    for k in range(len(truth) - 1):
        a, b = se3_inverse(poses[k]) @ poses[k + 1], se3_inverse(truth[k]) @ truth[k + 1]
        rotation.append(np.degrees(np.linalg.norm(so3_log(a[:3, :3].T @ b[:3, :3]))))
        u, v = a[:3, 3], b[:3, 3]
        if np.linalg.norm(v) > 1e-4:
            cosine = u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-12)
            direction.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    for k in range(len(truth) - 4):
        a = np.array([(se3_inverse(poses[k]) @ poses[k + i])[:3, 3] for i in range(5)])
        b = np.array([(se3_inverse(truth[k]) @ truth[k + i])[:3, 3] for i in range(5)])
        size = (a * b).sum() / max((a * a).sum(), 1e-12)
        ate.append(np.sqrt(((size * a - b) ** 2).sum()) / 5)
    return {"rotation_deg": round(float(np.median(rotation)), 4),
            "direction_deg": round(float(np.median(direction)), 3), "ate5": round(float(np.mean(ate)), 5)}


def orb_poses(images: list[NDArray[np.uint8]], K: F64) -> list[F64]:
    """The peer: 3000 ORB features, cross-checked matches, essential matrix by MAGSAC, unit steps."""
    orb, matcher = cv2.ORB_create(3000), cv2.BFMatcher(cv2.NORM_HAMMING, True)
    poses: list[F64] = [np.eye(4)]
    last = None
    for image in images:
        points, descriptors = orb.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), None)
        if last is not None:
            step = np.eye(4)
            if descriptors is not None and last[1] is not None:
                matches = matcher.match(last[1], descriptors)
                p = np.array([last[0][m.queryIdx].pt for m in matches])
                q = np.array([points[m.trainIdx].pt for m in matches])
                if len(p) >= 8:
                    essential, mask = cv2.findEssentialMat(p, q, K, cv2.USAC_MAGSAC, 0.9999, 0.7)
                    if essential is not None:
                        _, r, t, _ = cv2.recoverPose(essential[:3], p, q, K, mask=mask)
                        step = se3(r, t[:, 0])
            poses.append(poses[-1] @ se3_inverse(step))
        last = (points, descriptors)
    return poses


def _poses(path: Path) -> list[F64]:
    poses = []
    for line in path.read_text().splitlines():
        v = [float(x) for x in line.split()] if line.strip() and not line.startswith("#") else []
        if len(v) == 8:
            poses.append(se3(matrix_from_quaternion([v[7], *v[4:7]]), v[1:4]))
        elif len(v) in (12, 16):
            m = np.array(v).reshape(-1, 4)
            poses.append(se3(m[:3, :3], m[:3, 3]))
        elif v:
            raise InputError(f"a pose of {len(v)} numbers in {path}", "8 (TUM), 12 or 16", "check the file")
    return poses
