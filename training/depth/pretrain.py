"""Supervised start on rendered scenes with exact depth and motion, before anything self-supervised.

``python -m training.depth.pretrain --data DIR --out DIR [--imagenet WEIGHTS.pt] [--minutes M]``; DIR holds ``.npz``
files of ``image`` (P, 2, H, W, 3) BGR, ``depth`` (P, 2, H, W) m, ``motion`` (P, 4, 4) second from first.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from uav_perception.geometry import so3_log

from .losses import edge_loss, scale_invariant_loss
from .networks import DepthNet, PoseNet, load_imagenet


def load_chunk(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Images (P, 2, 3, H, W) RGB 0..255 uint8, depths (P, 2, H, W), twists (P, 6) in units of the median depth."""
    with np.load(path) as z:
        image, depth, motion = z["image"], z["depth"].astype(np.float32), z["motion"]
    median = np.median(np.minimum(depth[:, 0], 200).reshape(len(depth), -1), axis=1)
    twist = np.array([np.concatenate([m[:3, 3] / d, so3_log(m[:3, :3])]) for m, d in zip(motion, median, strict=True)])
    rgb = np.ascontiguousarray(image[..., ::-1].transpose(0, 1, 4, 2, 3))
    return torch.from_numpy(rgb), torch.from_numpy(depth), torch.from_numpy(twist.astype(np.float32))


def augment(pair: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, colour and grey scale, the same for both images of a pair (N, 2, 3, H, W) 0..255."""
    n = len(pair)
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (n, 1, 3, 1, 1)) * rng.uniform(0.7, 1.4, (n, 1, 1, 1, 1))).float()
    gamma = torch.from_numpy(rng.uniform(0.7, 1.4, (n, 1, 1, 1, 1))).float()
    out = 255 * ((pair * gain).clamp(0, 255) / 255) ** gamma
    grey = torch.from_numpy(rng.random(n) < 0.3).view(n, 1, 1, 1, 1)
    return torch.where(grey, out.mean(2, keepdim=True).expand_as(out), out)


def step_loss(depth_net: DepthNet, pose_net: PoseNet, pair: Tensor, depth: Tensor, twist: Tensor
              ) -> tuple[Tensor, Tensor]:
    """Depth loss on the first views and pose loss on the pairs."""
    height, width = pair.shape[-2:]
    disparity = F.interpolate(depth_net(pair[:, 0]).float(), (height, width), mode="bilinear", align_corners=False)
    truth = depth[:, :1]
    valid = (truth < 900).float()
    predicted = 1.0 / disparity
    level = (torch.log(disparity.clamp(min=1e-3)).mean((1, 2, 3)) ** 2).mean()  # keeps the free scale near one
    loss = scale_invariant_loss(predicted, truth, valid) + 0.5 * edge_loss(predicted, truth, valid) + 0.02 * level
    sky = 1 - valid
    loss = loss + 0.05 * (F.relu(disparity - 0.1 * disparity.detach().mean((2, 3), keepdim=True)) * sky).mean()
    pose = pose_net(pair[:, 0], pair[:, 1]).float()
    error = (pose[:, :3] - twist[:, :3]).abs().mean() + 3 * (pose[:, 3:] - twist[:, 3:]).abs().mean()
    return loss, error


def main() -> None:
    """Train until the time is up; goes on from the checkpoint in ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--imagenet", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--scale", type=float, default=1.0, help="train on pictures this much smaller")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    depth_net, pose_net = DepthNet(), PoseNet()
    if args.imagenet:
        state = torch.load(args.imagenet, map_location="cpu", weights_only=True)
        print("ImageNet tensors:", load_imagenet(depth_net, state), flush=True)
    checkpoint = args.out / "pretrained.pt"
    nets = torch.nn.ModuleDict({"depth": depth_net, "pose": pose_net})
    optimiser = torch.optim.AdamW(nets.parameters(), lr=args.rate, weight_decay=1e-4)
    done_s = 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        nets.load_state_dict(saved["nets"])
        optimiser.load_state_dict(saved["optimiser"])
        done_s = float(saved["seconds"])
    nets.train()
    for m in nets.modules():
        m.to(memory_format=torch.channels_last) if isinstance(m, torch.nn.Conv2d) else None
    start, steps, smooth = time.monotonic() - done_s, 0, [0.0, 0.0]
    while (elapsed := time.monotonic() - start) < args.minutes * 60:
        chunks = sorted(args.data.glob("*_[0-9]*.npz"))
        images, depths, twists = load_chunk(chunks[int(rng.integers(len(chunks)))])
        for batch in torch.from_numpy(rng.permutation(len(images))).split(args.batch):
            share = min(1.0, elapsed / (args.minutes * 60))
            for group in optimiser.param_groups:
                group["lr"] = args.rate * min(1.0, steps / 50 + 0.02) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
            pair, depth, twist = images[batch].float(), depths[batch], twists[batch]
            if args.scale != 1.0:
                size = [round(n * args.scale / 32) * 32 for n in depth.shape[-2:]]
                pair = F.interpolate(pair.flatten(0, 1), size, mode="area").unflatten(0, pair.shape[:2])
                depth = F.interpolate(depth, size, mode="nearest")
            if rng.random() < 0.5:
                pair, depth = pair.flip(-1), depth.flip(-1)
                twist = twist * torch.tensor([-1.0, 1, 1, 1, -1, -1])
            with torch.autocast("cpu", torch.bfloat16):
                loss, error = step_loss(depth_net, pose_net, augment(pair, rng), depth, twist)
            optimiser.zero_grad()
            (loss + 5 * error).backward()
            torch.nn.utils.clip_grad_norm_(nets.parameters(), 5.0)
            optimiser.step()
            steps += 1
            smooth = [0.98 * s + 0.02 * float(v.detach()) if steps > 1 else float(v.detach())
                      for s, v in zip(smooth, (loss, error), strict=True)]
            if steps % 25 == 0:
                print(f"{elapsed:6.0f} s  step {steps}  depth {smooth[0]:.3f}  pose {smooth[1]:.4f}", flush=True)
        save(checkpoint, nets, optimiser, elapsed)
    save(checkpoint, nets, optimiser, time.monotonic() - start)


def save(path: Path, nets: torch.nn.Module, optimiser: torch.optim.Optimizer, seconds: float) -> None:
    """Write a checkpoint atomically."""
    temporary = path.with_suffix(".tmp")
    torch.save({"nets": nets.state_dict(), "optimiser": optimiser.state_dict(), "seconds": seconds}, temporary)
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
