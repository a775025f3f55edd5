"""``uav-perception train depth``: adapt the depth and pose networks to a camera and its terrain, without labels.

    frames + intrinsics -> odometry and bundle adjustment (motions, sparse points) -> multi-view stereo (labels)
        -> DepthNet and PoseNet by view synthesis, labels, geometry consistency -> ONNX + model card

Where odometry finds no motion the pose network alone supplies it, as in SfM-Learner. A fifth of the labels is held out:
of the weights on the way, the start included, those are exported that agree best with them, so that adaptation makes
nothing worse. Seeded and resumable: a run started again with the same ``--out`` goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.run import save
from uav_perception.camera.sources import open_camera
from uav_perception.config import CameraConfig, DepthPoseConfig
from uav_perception.depth_pose.dense import network_size
from uav_perception.depth_pose.estimator import make_depth_pose
from uav_perception.depth_pose.products import scaled_camera
from uav_perception.depth_pose.sequence import Sighting, depth_of, observe, smooth
from uav_perception.errors import InputError
from uav_perception.geometry import se3_inverse, so3_log
from uav_perception.records import F32, F64, U8, CameraModel, Frame

from .export import export
from .losses import geometry_loss, motion_matrix, reprojection_loss, scale_invariant_loss, smoothness_loss, warp
from .networks import DepthNet, PoseNet
from .stereo import depth_labels

PREVIEW_EVERY = 10
START = Path(__file__).parent / "start.pt"  # what engines/uav_depth and engines/uav_pose were exported from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bag", help="a recording with images (and camera_info)")
    source.add_argument("--images", help="a folder of images in order")
    source.add_argument("--video", help="a video file")
    parser.add_argument("--camera", metavar="fx,fy,cx,cy", help="intrinsics, px, unless recorded")
    parser.add_argument("--out", type=Path, required=True, help="gets ONNX, card, preview, checkpoint")
    parser.add_argument("--size", default="", metavar="WxH", help="network input (default: by aspect)")
    parser.add_argument("--start", default="", help="checkpoint (default: shipped; none = random)")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--minutes", type=float, default=10.0, help="learning ends after this even with steps left")
    parser.add_argument("--batch", type=int, default=4, help="pairs a step")
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--frames", type=int, default=240, help="at most this many frames, evenly spread")
    parser.add_argument("--explain", action="store_true", help="learn SfM-Learner's explainability mask too")
    parser.add_argument("--truth", type=Path, help="folder of .npy depth (m), one a frame, to supervise by")
    parser.add_argument("--geometry", type=float, default=0.1, help="weight of depth consistency between frames")
    parser.add_argument("--photometric", type=float, default=0.5, help="weight of view synthesis")
    parser.add_argument("--smooth", type=float, default=0.01, help="weight of edge-aware smoothness")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the report as the last line")


@dataclass
class Recording:
    """What is trained on, at network size: images (3, H, W) RGB 0..255 uint8, labels and motions in one unit."""

    images: list[Tensor]
    K: F64
    world_from_camera: list[F64 | None]
    labels: list[tuple[F32, F32] | None]  # inverse depth and weight

    def motion(self, source: int, target: int) -> F64 | None:
        """(4, 4) source from target, or None when one of both poses is unknown."""
        a, b = self.world_from_camera[source], self.world_from_camera[target]
        return None if a is None or b is None else se3_inverse(a) @ b


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prepare, train, export; returns what ``--json`` prints."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(max(1, min(4, len(os.sched_getaffinity(0)))))
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    frames = read_frames(args)
    camera = frames[0].camera
    assert camera is not None
    width, height = asked_size(args.size, camera)
    recording = prepare(frames, camera, width, height, args.truth)
    labelled = sum(label is not None for label in recording.labels)
    posed = sum(p is not None for p in recording.world_from_camera)
    print(f"{len(frames)} frames, {posed} with motion, {labelled} with stereo labels, {time.monotonic() - began:.0f} s",
          flush=True)
    nets, learned = train(recording, args)
    report = {"frames": len(frames), "posed": posed, "labelled": labelled, "size": [width, height], **learned,
              "seed": args.seed, "seconds": round(time.monotonic() - began, 1)}
    export(nets["depth"], nets["pose"], args.out, width, height, report)
    return report


def read_frames(args: argparse.Namespace) -> list[Frame]:
    """Frames with intrinsics, at most ``--frames`` of them and always neighbours in time kept apart evenly."""
    source = f"bag:{args.bag}" if args.bag else str(args.images or args.video)
    reader = open_camera(CameraConfig(source=source, realtime=False))
    frames: list[Frame] = []
    while not reader.ended:
        frame = reader.read(1.0)
        if frame is not None:
            frames.append(frame)
        elif not reader.ended:
            break
    reader.close()
    if len(frames) < 3:
        raise InputError(f"{len(frames)} frames in {source}", "at least 3", "give a longer recording")
    if args.camera:
        try:
            fx, fy, cx, cy = (float(v) for v in args.camera.split(","))
        except ValueError as e:
            raise InputError(f"--camera {args.camera!r}", "four numbers fx,fy,cx,cy in pixels",
                             "give the intrinsics") from e
        h, w = frames[0].image.shape[:2]
        camera = CameraModel(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.zeros(5), w, h)
        frames = [Frame(f.seq, f.stamp_ns, f.image, camera) for f in frames]
    if frames[0].camera is None:
        raise InputError(f"{source} without intrinsics", "camera_info in the recording, or --camera",
                         "add --camera fx,fy,cx,cy")
    step = max(1, -(-len(frames) // args.frames))
    return frames[::step]


def asked_size(text: str, camera: CameraModel) -> tuple[int, int]:
    """Width and height of the network's input: as asked, or the source's aspect at about 128 x 416 pixels."""
    if text:
        try:
            width, height = (int(v) for v in text.lower().split("x"))
        except ValueError as e:
            raise InputError(f"--size {text!r}", "WxH such as 416x128", "correct the size") from e
        if width % 32 or height % 32 or min(width, height) < 64:
            raise InputError(f"--size {text}", "multiples of 32, at least 64", "correct the size")
        return width, height
    return network_size(camera.width_px, camera.height_px)


def prepare(frames: list[Frame], camera: CameraModel, width: int, height: int, truth: Path | None) -> Recording:
    """Motions from odometry adjusted over the whole recording, labels from stereo (or from truth)."""
    config = DepthPoseConfig(depth_model="none", pose_model="none", motion_mask=False, gap_max_s=600.0, features=500,
                             expect_level=False)
    sightings = list(observe(make_depth_pose(config), frames))
    smooth(sightings, float(np.sqrt(camera.K[0, 0] * camera.K[1, 1])))
    longest = _longest_run(sightings)
    poses = [s.world_from_camera if s.run == longest else None for s in sightings]
    if truth is not None:
        labels = [_truth(f, width, height) for f in sorted(truth.glob("*.npy"))]
        if len(labels) != len(frames):
            raise InputError(f"{len(labels)} depths in {truth}", f"{len(frames)}, one a frame", "check the folder")
        poses = [None] * len(frames)  # truth is in metres, odometry is not
    else:
        labels = _stereo_labels(frames, sightings, poses, camera, width, height, config.fuse_reach)
    K = scaled_camera(camera, width, height).K
    small = [_resized(f.image, width, height) for f in frames]
    images = [torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))) for image in small]
    return Recording(images, K, poses, labels)


def _stereo_labels(frames: list[Frame], sightings: list[Sighting], poses: list[F64 | None], camera: CameraModel,
                   width: int, height: int, reach: float) -> list[tuple[F32, F32] | None]:
    stereo = scaled_camera(camera, 320, max(64, round(320 * camera.height_px / camera.width_px)))
    small = [_resized(f.image, stereo.width_px, stereo.height_px) for f in frames]
    grays = [np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8) for image in small]
    priors: list[F32 | None] = []
    for k in range(len(sightings)):
        depth = depth_of(sightings, k, camera, reach)
        priors.append(None if depth is None else cv2.resize(1.0 / depth, (stereo.width_px, stereo.height_px),
                                                            interpolation=cv2.INTER_NEAREST))
    found = depth_labels(grays, poses, stereo.K, priors, every=max(1, len(frames) // 40))
    sized: list[tuple[F32, F32] | None] = []
    for label in found:
        if label is None:
            sized.append(None)
            continue
        rho, weight = (cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST) for part in label)
        sized.append((np.asarray(rho, np.float32), np.asarray(weight, np.float32)))
    return sized


def _truth(path: Path, width: int, height: int) -> tuple[F32, F32]:
    depth = cv2.resize(np.load(path).astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    valid = np.isfinite(depth) & (depth > 0)
    return np.where(valid, 1.0 / np.where(valid, depth, 1.0), 0.0).astype(np.float32), valid.astype(np.float32)


def _longest_run(sightings: list[Sighting]) -> int:
    runs = [s.run for s in sightings if s.world_from_camera is not None]
    return max(set(runs), key=runs.count) if runs else 0


def _resized(image: U8, width: int, height: int) -> U8:
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def train(recording: Recording, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train both networks (and the explainability head); those with the least held-out errors, and these errors."""
    nets = torch.nn.ModuleDict({"depth": DepthNet(), "pose": PoseNet()})
    if args.explain:
        nets["explain"] = torch.nn.Sequential(torch.nn.Conv2d(6, 16, 5, 4, 2), torch.nn.ReLU(),
                                              torch.nn.Conv2d(16, 1, 3, 1, 1))
    if args.start != "none":
        path = Path(args.start) if args.start else START
        if not path.is_file():
            raise InputError(f"start weights {path}", "a checkpoint", "give --start, or --start none")
        nets.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["nets"], strict=False)
    labelled = [k for k, label in enumerate(recording.labels) if label is not None]
    kept_out = labelled[2::5] if len(labelled) >= 10 else []
    learned = Recording(recording.images, recording.K, recording.world_from_camera,
                        [None if k in kept_out else label for k, label in enumerate(recording.labels)])
    judged = kept_out or labelled
    start_errors = held_out_errors(nets, recording, judged)
    best = {name: (error, copy.deepcopy(nets[name].state_dict())) for name, error in start_errors.items()}
    rng = np.random.default_rng(args.seed)
    optimiser = torch.optim.AdamW(nets.parameters(), lr=args.rate, weight_decay=1e-4)
    checkpoint, done = args.out / "checkpoint.pt", 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        nets.load_state_dict(saved["nets"])
        optimiser.load_state_dict(saved["optimiser"])
        done, best = int(saved["steps"]), saved["best"]
        for _ in range(done):
            draw_pairs(learned, args.batch, rng)
    nets.train()
    began, over = time.monotonic(), False
    while done < args.steps and not over:
        spent = (time.monotonic() - began) / (60 * args.minutes)
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, (done + 1) / 10) * (1.0 - 0.9 * min(1.0, max(done / args.steps, spent)))
        loss, parts = pair_loss(nets, learned, draw_pairs(learned, args.batch, rng), args, rng)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(nets.parameters(), 5.0)
        optimiser.step()
        done += 1
        over = time.monotonic() - began > 60 * args.minutes
        if done % PREVIEW_EVERY == 0 or done == args.steps or over:
            errors = held_out_errors(nets, recording, judged)
            for name, error in errors.items():
                if error < best[name][0]:
                    best[name] = (error, copy.deepcopy(nets[name].state_dict()))
            shown = {**parts, **{f"held-out {name}": error for name, error in errors.items()}}
            print(f"step {done}/{args.steps} " + " ".join(f"{k} {v:.4f}" for k, v in shown.items()), flush=True)
            preview(nets["depth"], recording, args.out / "preview.png")
            save(checkpoint, {"nets": nets.state_dict(), "optimiser": optimiser.state_dict(), "steps": done,
                              "best": best})
    for name, (_, state) in best.items():
        nets[name].load_state_dict(state)
    kept = {name: round(error, 4) for name, (error, _) in best.items()}
    start = {name: round(error, 4) for name, error in start_errors.items()}
    return dict(nets.items()), {"steps": done, "held_out": {"frames": len(judged), "start": start, "kept": kept}}


@torch.no_grad()
def held_out_errors(nets: torch.nn.ModuleDict, recording: Recording, frames: list[int]) -> dict[str, float]:
    """Of the depth network: Abs Rel, median scaled, where stereo of ``frames`` is sure; of the pose network: its loss.

    Nothing is in it where there is nothing to compare with.
    """
    nets.eval()
    depth, pose = [], []
    for k in frames:
        rho, weight = recording.labels[k] or (np.zeros(0), np.zeros(0))
        sure = weight > 0.5
        if sure.sum() > 50:
            size = recording.images[k].shape[-2:]
            found = F.interpolate(nets["depth"](recording.images[k][None].float()), size, mode="bilinear")[0, 0].numpy()
            ratio = rho[sure] / found[sure]
            depth.append(float(np.mean(np.abs(ratio / np.median(ratio) - 1))))
        for other in (k - 1, k + 1):
            known = recording.motion(other, k) if 0 <= other < len(recording.images) else None
            if known is not None:
                twist = nets["pose"](recording.images[k][None].float(), recording.images[other][None].float())
                pose.append(float(_pose_loss(twist, [known], np.eye(4), recording)))
    nets.train()
    return {name: float(np.mean(v)) for name, v in (("depth", depth), ("pose", pose)) if v}


def draw_pairs(recording: Recording, count: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Frame triples (target, partner, other): a labelled target where there is one, sources one to five frames away."""
    n = len(recording.images)
    labelled = [k for k, label in enumerate(recording.labels) if label is not None]
    pool = labelled if labelled else list(range(n))
    triples = []
    for _ in range(count):
        target = int(rng.choice(pool))
        near = [k for k in pool if k != target and abs(k - target) <= max(5, 3 * n // max(len(pool), 1))]
        partner = int(rng.choice(near)) if near else min(max(target + 1, 0), n - 1) if target + 1 < n else target - 1
        other = int(np.clip(2 * target - partner, 0, n - 1))
        triples.append((target, partner, other if other != target else partner))
    return triples


def pair_loss(nets: torch.nn.ModuleDict, recording: Recording, triples: list[tuple[int, int, int]],
              args: argparse.Namespace, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
    """All losses of a batch; partners run through the depth network too, so that depths can be compared."""
    flip = rng.random() < 0.5
    n = len(triples)
    order = [t for t, _, _ in triples] + [p for _, p, _ in triples]
    raw = torch.stack([recording.images[k] for k in order]).float()
    third = torch.stack([recording.images[o] for _, _, o in triples]).float()
    K = recording.K.copy()
    mirror = np.diag([-1.0 if flip else 1.0, 1.0, 1.0, 1.0])
    if flip:
        raw, third = raw.flip(-1), third.flip(-1)
        K[0, 2] = raw.shape[-1] - 1 - K[0, 2]
    height, width = raw.shape[-2:]
    colour = rng.uniform(0.85, 1.15, (2 * n, 3, 1, 1)) * rng.uniform(0.8, 1.25, (2 * n, 1, 1, 1))
    jittered = (raw * torch.from_numpy(colour).float()).clamp(0, 255)
    disparity = F.interpolate(nets["depth"](jittered), (height, width), mode="bilinear", align_corners=False)
    image, other = raw / 255, third / 255
    depth = 1.0 / disparity
    intrinsics = torch.from_numpy(K).float().expand(n, 3, 3)
    twist = nets["pose"](raw[:n], raw[n:])
    known = [recording.motion(p, t) for t, p, _ in triples]
    partner_from_target = _motions(known, twist, mirror)
    other_known = [recording.motion(o, t) for t, _, o in triples]
    other_from_target = _motions(other_known, nets["pose"](raw[:n], third), mirror)
    view_a, z_a, in_a = warp(image[n:], depth[:n], partner_from_target, intrinsics)
    view_b, _, in_b = warp(other, depth[:n], other_from_target, intrinsics)
    explain = None
    if "explain" in nets:
        score = nets["explain"](torch.cat([image[:n], view_a.detach()], 1))
        explain = torch.sigmoid(F.interpolate(score, (height, width)))
    photometric = reprojection_loss(image[:n], [view_a, view_b], [in_a, in_b], [image[n:], other], explain)
    sampled = warp(depth[n:], depth[:n], partner_from_target, intrinsics)[0]
    geometry = geometry_loss(z_a, sampled, in_a)
    label = _label_loss(depth, [recording.labels[k] for k in order], flip)
    pose = _pose_loss(twist, known, mirror, recording)
    smooth_term = smoothness_loss(disparity, image)
    total = (args.photometric * photometric + args.geometry * geometry + label + args.smooth * smooth_term + pose)
    if explain is not None:
        total = total - 0.2 * torch.log(explain + 1e-6).mean()
    parts = {"photometric": photometric, "geometry": geometry, "label": label, "pose": pose, "smooth": smooth_term}
    return total, {k: float(v.detach()) for k, v in parts.items()}


def _motions(known: list[F64 | None], predicted: Tensor, mirror: F64) -> Tensor:
    """Motions of odometry where it has them, of the pose network elsewhere."""
    own = motion_matrix(predicted)
    rows = [own[i] if m is None else torch.from_numpy(mirror @ m @ mirror).float() for i, m in enumerate(known)]
    return torch.stack(rows)


def _label_loss(depth: Tensor, labels: list[tuple[F32, F32] | None], flip: bool) -> Tensor:
    have = [i for i, label in enumerate(labels) if label is not None]
    if not have:
        return depth.sum() * 0
    rho = torch.stack([torch.from_numpy(labels[i][0]) for i in have])[:, None]  # type: ignore[index]
    weight = torch.stack([torch.from_numpy(labels[i][1]) for i in have])[:, None]  # type: ignore[index]
    if flip:
        rho, weight = rho.flip(-1), weight.flip(-1)
    error = torch.log(depth[have]) + torch.log(rho.clamp(min=1e-6))
    each = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=0.2)
    absolute = (each * weight).sum() / weight.sum().clamp(min=1)
    shape = scale_invariant_loss(depth[have], 1.0 / rho.clamp(min=1e-6), (weight > 0).float() * weight)
    return 5.0 * absolute + 0.5 * shape


def _pose_loss(twist: Tensor, known: list[F64 | None], mirror: F64, recording: Recording) -> Tensor:
    have = [i for i, m in enumerate(known) if m is not None]
    if not have:
        return twist.sum() * 0
    wanted = []
    for i in have:
        m = mirror @ known[i] @ mirror  # type: ignore[operator]
        wanted.append(np.concatenate([m[:3, 3], so3_log(m[:3, :3])]))
    return (twist[have] - torch.from_numpy(np.array(wanted)).float()).abs().mean()


def preview(net: DepthNet, recording: Recording, path: Path) -> None:
    """Up to four frames with their labels and what the network says of them, written as one picture."""
    rows = []
    net.eval()
    for k in np.unique(np.linspace(0, len(recording.images) - 1, 4).astype(int)):
        with torch.no_grad():
            half = net(recording.images[k][None].float())
            disparity = F.interpolate(half, recording.images[k].shape[-2:], mode="bilinear")[0, 0].numpy()
        label = recording.labels[k]
        shown = [disparity] if label is None else [disparity, label[0] * (label[1] > 0.5)]
        top = float(np.percentile(disparity, 98))
        levels = [(255 * np.clip(d / top, 0, 1)).astype(np.uint8) for d in shown]
        pictures = [cv2.applyColorMap(level, cv2.COLORMAP_INFERNO) for level in levels]
        if label is None:
            pictures.append(np.zeros_like(pictures[0]))
        rows.append(np.hstack([recording.images[k].numpy().transpose(1, 2, 0)[..., ::-1], *pictures]))
    net.train()
    temporary = path.with_name("preview.tmp.png")
    cv2.imwrite(str(temporary), np.vstack(rows))
    os.replace(temporary, path)
