"""Detections of a COCO image list as a COCO results list."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import InputError, SourceError
from ..records import U8, Detections

# what a category is called elsewhere -> class names it may gather, used when neither name nor map matches
SYNONYMS: dict[str, tuple[str, ...]] = {
    "vehicle": ("car", "truck", "bus"),
    "pedestrian": ("person",), "people": ("person",),
    "bicycle": ("two-wheeler",), "bike": ("two-wheeler",), "cyclist": ("two-wheeler",),
    "motorcycle": ("two-wheeler",), "motorbike": ("two-wheeler",), "motor": ("two-wheeler",),
    "two-wheeler": ("bicycle", "motorcycle"),
}  # fmt: skip


@dataclass(frozen=True)
class CocoImages:
    """The pictures and categories of an annotation file; its boxes are not read."""

    images: tuple[tuple[int, str], ...]  # id, file name
    categories: Mapping[str, int]  # name as written -> id


def read_coco(path: str | Path) -> CocoImages:
    """Read image ids and categories.

    Raises:
        InputError: missing, not JSON, or not COCO.
    """
    try:
        tree = json.loads(Path(path).read_text())
        images = tuple((i["id"], str(i["file_name"])) for i in tree["images"])
        return CocoImages(images, {str(c["name"]): int(c["id"]) for c in tree["categories"]})
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as e:
        text = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise InputError(f"annotations {path}: {type(e).__name__} {text}", "a COCO file with images and categories",
                         "check the path given to --coco") from e


def parse_maps(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``TARGET=a,b`` of the command line: lower-case category -> lower-case class names."""
    maps: dict[str, tuple[str, ...]] = {}
    for text in texts:
        target, _, names = text.partition("=")
        if not target.strip() or not names.strip(" ,"):
            raise InputError(f"--map {text!r}", "TARGET=class[,class...]", "e.g. --map vehicle=car,truck,bus")
        given = tuple(n.strip().lower() for n in names.split(",") if n.strip())
        maps[target.strip().lower()] = (*maps.get(target.strip().lower(), ()), *given)
    return maps


def category_of_class(categories: Mapping[str, int], class_names: Sequence[str],
                      maps: Mapping[str, Sequence[str]]) -> dict[int, int]:
    """Class index of the model -> category id: by ``maps``, else by equal name, else by a known synonym.

    Raises:
        InputError: a map names a category or a class that does not exist, or nothing matches at all.
    """
    lower = [n.lower() for n in class_names]
    by_name = {n.lower(): i for n, i in categories.items()}
    for target, names in maps.items():
        wrong = [n for n in names if n not in lower]
        if target not in by_name or wrong:
            known = class_names if wrong else list(categories)
            missing = f"class {wrong[0]}" if wrong else f"category {target}"
            raise InputError(f"--map {target}={','.join(names)}: no {missing}", f"one of {', '.join(known)}",
                             "correct the map")
    out: dict[int, int] = {}

    def gather(category: str, names: Sequence[str]) -> None:
        for n in names:
            if n in lower and lower.index(n) not in out:
                out[lower.index(n)] = by_name[category]

    for category, names in maps.items():
        gather(category, names)
    for category in by_name.keys() - maps.keys():
        gather(category, [category])
    for category in sorted(by_name.keys() - maps.keys()):
        if by_name[category] not in out.values():
            gather(category, SYNONYMS.get(category, ()))
    if not out:
        few = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
        raise InputError(f"categories {', '.join(categories)}", f"at least one of the model's classes ({few})",
                         "give --map TARGET=class")
    return out


def read_images(folder: str | Path, listed: CocoImages) -> Iterator[tuple[int, str, U8]]:
    """Yield (image id, name, BGR image) in the file's order.

    Raises:
        SourceError: a listed picture is missing or unreadable.
    """
    for image_id, name in listed.images:
        image = cv2.imread(str(Path(folder) / name), cv2.IMREAD_COLOR)
        if image is None:
            raise SourceError(f"picture {Path(folder) / name}", "a readable image, as the annotation file lists it",
                              "check --images and --coco")
        yield image_id, name, np.asarray(image, np.uint8)


def results(image_id: int, found: Detections, category: Mapping[int, int]) -> list[dict[str, Any]]:
    """COCO results of one picture: bbox is x, y, width, height in source pixels."""
    rows = []
    for box, score, class_id in zip(found.xyxy_px.tolist(), found.score.tolist(), found.class_id.tolist(), strict=True):
        if class_id in category:
            x1, y1, x2, y2 = box
            rows.append({"image_id": image_id, "category_id": category[class_id],
                         "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)], "score": round(score, 5)})
    return rows
