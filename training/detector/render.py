"""Draw stills from the simulator into a COCO folder (``rendered_rgb`` or ``rendered_thermal``), resumable by seed."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import cv2

from .model import CLASSES


def render_stills(out: Path, first_seed: int, count: int, size_px: int, thermal: bool) -> None:
    """Write ``images/SEED.jpg`` and one ``labels/SEED.json`` each; pictures already there are kept."""
    from uav_perception.sim.views import random_view

    cv2.setNumThreads(1)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "labels").mkdir(exist_ok=True)
    for seed in range(first_seed, first_seed + count):
        label = out / "labels" / f"{seed:06d}.json"
        if label.exists():
            continue
        image, boxes, classes = random_view(seed, size_px, size_px, thermal=thermal)
        cv2.imwrite(str(out / "images" / f"{seed:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 93])
        partial = label.with_suffix(".tmp")
        partial.write_text(json.dumps([[*map(float, b), int(c)] for b, c in zip(boxes, classes, strict=True)]))
        os.replace(partial, label)


def index(out: Path, size_px: int) -> int:
    """Gather the labels into ``annotations.json``; returns the number of pictures."""
    images, notes = [], []
    for i, label in enumerate(sorted((out / "labels").glob("*.json"))):
        images.append({"id": i, "file_name": f"{label.stem}.jpg", "width": size_px, "height": size_px})
        for x1, y1, x2, y2, c in json.loads(label.read_text()):
            notes.append({"id": len(notes), "image_id": i, "category_id": c + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(CLASSES)]
    partial = out / "annotations.tmp"
    partial.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    os.replace(partial, out / "annotations.json")
    return len(images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--thermal", action="store_true")
    args = parser.parse_args()
    render_stills(args.out, args.first_seed, args.count, args.size, args.thermal)
    print(index(args.out, args.size), "pictures")
