"""What each point should have said, and how wrong it was.

Assignment is task-aligned (Feng et al., TOOD, ICCV 2021): of the points inside an object's box, those with the best
score^a x IoU^b teach it; the class target is their IoU, so the score learns localisation quality. Scores learn by plain
cross entropy: focal weights leave so little gradient on quiet background that a short training never separates it.
Boxes learn by generalised IoU (Rezatofighi et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .pictures import IGNORE, Sample

SCORE_POWER, IOU_POWER, TOP_K = 0.5, 4.0, 10
SIDE_RANGE_PX = {4.0: (0.0, 48.0), 8.0: (20.0, 110.0), 16.0: (56.0, 1e9)}  # longer box side taught at each stride
CLASS_WEIGHT, BOX_WEIGHT = 0.5, 4.0
MAX_LOG_DISTANCE = 4.0


def decode(raw: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes (..., P, 4) from log-distances (..., 4, P)."""
    d = raw.clamp(max=MAX_LOG_DISTANCE).exp() * strides
    return torch.stack([centres[:, 0] - d[..., 0, :], centres[:, 1] - d[..., 1, :],
                        centres[:, 0] + d[..., 2, :], centres[:, 1] + d[..., 3, :]], -1)


def paired_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes pair by pair, (..., 4) each."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    iou = inter / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


@torch.no_grad()
def assign(score: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, gt: Tensor, label: Tensor,
           ) -> tuple[Tensor, Tensor, Tensor]:
    """Teachers of one image: point indices, object indices, class targets.

    Args:
        score: (C, P) predicted probabilities. boxes: (P, 4). gt: (N, 4). label: (N,), no IGNORE.
    """
    side = (gt[:, 2:] - gt[:, :2]).amax(1)
    grow = (8.0 - (gt[:, 2:] - gt[:, :2])).clamp(min=0) / 2  # every object owns at least a few points
    reach = torch.cat([gt[:, :2] - grow, gt[:, 2:] + grow], 1)
    inside = ((centres[None] > reach[:, None, :2]) & (centres[None] < reach[:, None, 2:])).all(2)
    for stride, (low, high) in SIDE_RANGE_PX.items():
        inside &= ~((strides == stride)[None] & ((side < low) | (side >= high))[:, None])
    obj, point = inside.nonzero(as_tuple=True)
    iou, _ = paired_iou(boxes[point], gt[obj])
    metric = torch.zeros(inside.shape)
    overlap = torch.zeros(inside.shape)
    metric[obj, point] = score[label[obj], point] ** SCORE_POWER * iou**IOU_POWER + 1e-9
    overlap[obj, point] = iou
    best, where = metric.topk(min(TOP_K, metric.shape[1]), 1)
    chosen = torch.zeros_like(inside)
    chosen.scatter_(1, where, best > 0)
    contested = chosen.sum(0) > 1  # a point teaches one object: the one it overlaps most
    owner = torch.where(chosen, overlap, torch.full_like(overlap, -1.0)).argmax(0)
    chosen &= ~contested[None] | (torch.arange(len(gt))[:, None] == owner[None])
    metric = metric * chosen
    peak = metric.amax(1, keepdim=True).clamp(min=1e-12)
    top_iou = (overlap * chosen).amax(1, keepdim=True)
    target = metric / peak * top_iou
    obj, point = chosen.nonzero(as_tuple=True)
    return point, obj, target[obj, point]


def detection_loss(output: Tensor, samples: Sequence[Sample], centres: Tensor,
                   strides: Tensor) -> tuple[Tensor, Tensor]:
    """(class loss, box loss) of a batch; ``output`` (B, C + 4, P) float32.

    Classes that an image's annotation would not name, and points inside IGNORE boxes, teach nothing.
    """
    n_classes = output.shape[1] - 4
    logits, boxes = output[:, :n_classes], decode(output[:, n_classes:], centres, strides)
    score = logits.detach().sigmoid()
    target = torch.zeros_like(logits)
    weight = torch.ones_like(logits)
    predicted, wanted, share = [], [], []
    for i, sample in enumerate(samples):
        weight[i] *= torch.from_numpy(sample.labelled).float()[:, None]
        known = sample.label != IGNORE
        for x1, y1, x2, y2 in sample.xyxy[~known]:
            c = centres
            weight[i][:, (c[:, 0] > x1) & (c[:, 0] < x2) & (c[:, 1] > y1) & (c[:, 1] < y2)] = 0
        gt, label = torch.from_numpy(sample.xyxy[known]).float(), torch.from_numpy(sample.label[known])
        if not len(gt):
            continue
        point, obj, quality = assign(score[i], boxes[i].detach(), centres, strides, gt, label)
        target[i, label[obj], point] = quality
        weight[i, label[obj], point] = 1
        predicted.append(boxes[i][point])
        wanted.append(gt[obj])
        share.append(quality)
    total = target.sum().clamp(min=1.0)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    class_loss = CLASS_WEIGHT * (weight * entropy).sum() / total
    if not predicted:
        return class_loss, output[:, n_classes:].sum() * 0
    _, giou = paired_iou(torch.cat(predicted), torch.cat(wanted))
    weights = torch.cat(share).clamp(min=0.1)
    return class_loss, BOX_WEIGHT * (weights * (1 - giou)).sum() / weights.sum()
