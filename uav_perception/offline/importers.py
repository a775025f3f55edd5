"""Truth files of public sets beside their pictures: COCO, YOLO, MOTChallenge, OTB and VOT, KITTI odometry, TUM RGB-D.

Pixel coordinates become ours: column i covers [i, i + 1). MOTChallenge, OTB and VOT count from 1, so 1 is taken off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera.files import FolderPictures, image_stamps_ns, seconds_to_ns
from ..camera.intrinsics import camera_model
from ..errors import InputError, SourceError
from ..geometry import matrix_from_quaternion, quaternion_from_matrix
from ..records import F32, F64, Bool, CameraModel
from .truth import BoxTruth, NoTruth, PoseTruth

MOT_CLASSES = {1: "person", 2: "person on vehicle", 3: "car", 4: "bicycle", 5: "motorcycle", 6: "non motorised vehicle",
               7: "static person", 8: "distractor", 9: "occluder", 10: "occluder", 11: "occluder", 12: "reflection"}
MOT_NOT_SCORED = (2, 7, 8, 9, 10, 11, 12)
TUM_DEPTH_UNIT_M = 1 / 5000
_TUM_PAIR_NS = 20_000_000  # the set's own association tool pairs pictures within 0.02 s


class FolderTruth(NoTruth):
    """Truth of a folder, held per stamp: sets of pictures are finite."""

    def __init__(self) -> None:
        self._boxes: dict[int, BoxTruth] = {}
        self._depth_files: dict[int, tuple[Path, float]] = {}
        self._poses: PoseTruth | None = None
        self.camera: CameraModel | None = None
        self.layout = ""

    def set_boxes(self, stamp_ns: int, rows: Sequence[tuple[Sequence[float], str, str, float]]) -> None:
        """Objects of one frame: ((x, y, w, h), identity, class name, visibility)."""
        box = np.array([r[0] for r in rows], np.float64).reshape(-1, 4)
        corners = np.hstack([box[:, :2], box[:, :2] + box[:, 2:]])
        self._boxes[stamp_ns] = BoxTruth(corners, [r[1] for r in rows], [r[2] for r in rows],
                                         np.array([r[3] for r in rows], np.float64))

    def set_poses(self, stamps_ns: Sequence[int], matrices: F64) -> None:
        """``world_from_camera`` (N, 4, 4)."""
        order = np.argsort(stamps_ns, kind="stable")
        self._poses = PoseTruth(np.array(stamps_ns, np.int64)[order], matrices[order][:, :3, 3],
                                np.array([quaternion_from_matrix(m[:3, :3]) for m in matrices[order]]))

    def set_depth(self, stamp_ns: int, path: Path, unit_m: float) -> None:
        """A 16-bit PNG whose values are multiples of ``unit_m``."""
        self._depth_files[stamp_ns] = (path, unit_m)

    @property
    def kinds(self) -> frozenset[str]:  # type: ignore[override]
        known = {"boxes": self._boxes, "depth": self._depth_files, "poses": self._poses}
        return frozenset(k for k, v in known.items() if v)

    def boxes(self, stamp_ns: int) -> BoxTruth | None:
        return self._boxes.get(stamp_ns)

    def depth(self, stamp_ns: int) -> tuple[F32, Bool] | None:
        path, unit_m = self._depth_files.get(stamp_ns, (None, 1.0))
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path else None
        if image is None or image.ndim != 2:
            return None
        depth = image.astype(np.float32) * np.float32(unit_m)
        valid = (image > 0) & (image < 65535)
        return np.where(valid, depth, 0).astype(np.float32), np.asarray(valid)

    def poses(self) -> PoseTruth | None:
        return self._poses


def _rows(path: Path, columns: tuple[int, ...]) -> list[list[float]]:
    """Numbers of a text file, split at commas, tabs or spaces; every line must have one of the counts."""
    rows = []
    for n, line in enumerate(path.read_text().splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            row = [float(w) for w in words]
        except ValueError as e:
            raise InputError(f"{path}:{n}: {line[:40]!r}", "numbers", "correct the truth file") from e
        if len(row) not in columns:
            raise InputError(f"{path}:{n} with {len(row)} numbers", f"{' or '.join(map(str, columns))}",
                             "correct the truth file")
        rows.append(row)
    return rows


def read_otb(truth: FolderTruth, folder: Path, files: list[Path], stamps: list[int], file: Path) -> None:
    """OTB, UAV123, VOT: a rectangle (x,y,w,h) or polygon a line; NaN or no area = not visible."""
    rows = _rows(file, (4, 8))
    if len(rows) < len(files):
        raise InputError(f"{file} with {len(rows)} boxes", f"{len(files)}, one a picture", "correct the truth file")
    for stamp, row in zip(stamps, rows, strict=False):
        if len(row) == 8:
            xs, ys = row[0::2], row[1::2]
            row = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        seen = all(v == v for v in row) and row[2] > 0 and row[3] > 0
        objects = [((row[0] - 1, row[1] - 1, row[2], row[3]), "1", "target", 1.0)] if seen else []
        truth.set_boxes(stamp, objects)


def read_mot(truth: FolderTruth, folder: Path, files: list[Path], stamps: list[int], file: Path) -> None:
    """MOTChallenge gt.txt; ``classes.txt`` or ``labels.txt`` in the folder names the class column (from 0 or 1)."""
    rows = [r + [1.0] * (9 - len(r)) for r in _rows(file, (6, 7, 8, 9, 10))]
    own = next((folder / n for n in ("classes.txt", "labels.txt") if (folder / n).is_file()), None)
    names = dict(enumerate(own.read_text().split("\n"))) if own else MOT_CLASSES
    frames: dict[int, list[tuple[Sequence[float], str, str, float]]] = {i: [] for i in range(len(files))}
    for frame, who, x, y, w, h, counted, kind, seen in (r[:9] for r in rows):
        if int(frame) - 1 not in frames:
            raise InputError(f"{file}: frame {frame:g}", f"1 to {len(files)}", "use the truth of these pictures")
        scored = counted != 0 and (own is not None or int(kind) not in MOT_NOT_SCORED)
        name = names.get(int(kind), f"class {kind:g}").strip()
        frames[int(frame) - 1].append(((x - 1, y - 1, w, h), str(int(who)), name, float(seen if scored else 0.0)))
    for i, objects in frames.items():
        truth.set_boxes(stamps[i], objects)


def read_coco(truth: FolderTruth, folder: Path, files: list[Path], stamps: list[int], file: Path) -> None:
    """COCO annotations; pictures are matched by name. Pictures it does not list have no truth."""
    try:
        data = json.loads(file.read_text())
        names = {c["id"]: str(c["name"]) for c in data["categories"]}
        listed = {Path(i["file_name"]).name: i["id"] for i in data["images"]}
        objects: dict[Any, list[tuple[Sequence[float], str, str, float]]] = {i: [] for i in listed.values()}
        for a in data["annotations"]:
            who = str(a.get("track_id", ""))
            objects[a["image_id"]].append((a["bbox"], who, names[a["category_id"]], 0.0 if a.get("iscrowd") else 1.0))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"COCO file {file} ({type(e).__name__}: {e})", "categories, images and annotations",
                         "correct the truth file") from e
    for path, stamp in zip(files, stamps, strict=True):
        if path.name in listed:
            truth.set_boxes(stamp, objects[listed[path.name]])


def read_yolo(truth: FolderTruth, folder: Path, files: list[Path], stamps: list[int], file: Path) -> None:
    """YOLO labels (class cx cy w h, shares of the picture) in ``file``, a folder; names in classes.txt."""
    lists = (folder / "classes.txt", file / "classes.txt", folder / "obj.names")
    named = next((p for p in lists if p.is_file()), None)
    names = named.read_text().split("\n") if named else []
    for path, stamp in zip(files, stamps, strict=True):
        label = file / f"{path.stem}.txt"
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if label.is_file() else None
        if image is None:
            continue
        h, w = image.shape[:2]
        objects = []
        for c, cx, cy, bw, bh in _rows(label, (5,)):
            name = names[int(c)].strip() if int(c) < len(names) else f"class {c:g}"
            objects.append((((cx - bw / 2) * w, (cy - bh / 2) * h, bw * w, bh * h), "", name, 1.0))
        truth.set_boxes(stamp, objects)


def read_kitti(truth: FolderTruth, folder: Path, files: list[Path], stamps: list[int], file: Path) -> None:
    """KITTI odometry: 3x4 camera-to-first poses a line; the projection P0 (or the picture folder's) of calib.txt."""
    rows = _rows(file, (12,))
    if len(rows) != len(files):
        raise InputError(f"{file} with {len(rows)} poses", f"{len(files)}, one a picture", "correct the truth file")
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3] = np.array(rows).reshape(-1, 3, 4)
    truth.set_poses(stamps, matrices)
    calib = folder / "calib.txt"
    if calib.is_file():
        wanted = f"P{files[0].parent.name.rsplit('_', 1)[-1]}"
        lines = dict(_calib_line(i, line) for i, line in enumerate(calib.read_text().splitlines()))
        numbers = [float(v) for v in lines.get(wanted, lines.get("P0", "")).split()]
        image = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
        if len(numbers) == 12 and image is not None:
            k = np.array(numbers).reshape(3, 4)[:, :3]
            truth.camera = camera_model(image.shape[1], image.shape[0], k, [], "plumb_bob", "camera_optical")


def _calib_line(index: int, line: str) -> tuple[str, str]:
    """("P0", numbers): some copies of the set leave the names out, the lines are P0, P1 ... then."""
    name, colon, numbers = line.partition(":")
    return (name.strip(), numbers) if colon else (f"P{index}", line)


def read_tum(truth: FolderTruth, folder: Path, files: list[Path], stamps: list[int], file: Path) -> None:
    """TUM RGB-D: groundtruth.txt (seconds tx ty tz qx qy qz qw), and depth/ beside rgb/ where there is one."""
    rows = [line.split() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    for m, row in zip(poses, rows, strict=True):
        x, y, z, qx, qy, qz, qw = (float(v) for v in row[1:8])
        m[:3, :3], m[:3, 3] = matrix_from_quaternion([qw, qx, qy, qz]), (x, y, z)
    truth.set_poses([seconds_to_ns(r[0]) for r in rows], poses)
    depth_files = sorted((folder / "depth").glob("*.png"))
    depth_stamps: NDArray[np.int64] = np.array(image_stamps_ns(folder / "depth", depth_files, 30.0), np.int64)
    for stamp in stamps if len(depth_files) else ():
        nearest = int(np.argmin(np.abs(depth_stamps - stamp)))
        if abs(int(depth_stamps[nearest]) - stamp) <= _TUM_PAIR_NS:
            truth.set_depth(stamp, depth_files[nearest], TUM_DEPTH_UNIT_M)


Reader = Callable[[FolderTruth, Path, list[Path], list[int], Path], None]
# layout -> (where its truth is, relative to the folder; how it is read)
LAYOUTS: dict[str, tuple[tuple[str, ...], Reader]] = {
    "mot": (("gt/gt.txt",), read_mot),
    "coco": (("annotations.json", "instances.json", "_annotations.coco.json"), read_coco),
    "kitti": (("poses.txt",), read_kitti),
    "tum": (("groundtruth.txt",), read_tum),
    "otb": (("groundtruth_rect.txt", "groundtruth.txt"), read_otb),
    "yolo": (("labels",), read_yolo),
}


def folder_truth(folder: Path, files: list[Path], stamps: list[int], truth_file: Path | None = None,
                 layout: str = "") -> FolderTruth | None:
    """The truth beside a folder's pictures; None when there is none of a known layout.

    ``truth_file`` names the file (or YOLO's folder) elsewhere; ``layout`` settles which kind it is.

    Raises:
        InputError: the file is not of its layout, or not of these pictures.
    """
    if layout and layout not in LAYOUTS:
        raise InputError(f"layout {layout!r}", f"one of {', '.join(LAYOUTS)}", "correct --layout")
    if truth_file is not None and not truth_file.exists():
        raise SourceError(f"truth {truth_file}", "an existing file", "check the path")
    for name in (layout,) if layout else LAYOUTS:
        places, read = LAYOUTS[name]
        file = truth_file or next((folder / p for p in places if (folder / p).exists()), None)
        if file is None or not (layout or _looks_like(name, file)):
            continue
        truth = FolderTruth()
        truth.layout = name
        read(truth, folder, files, stamps, file)
        return truth
    if layout or truth_file:
        raise InputError(f"truth {truth_file or folder}", f"a file of {layout or ' or '.join(LAYOUTS)}",
                         "name the kind with --layout")
    return None


def _looks_like(layout: str, file: Path) -> bool:
    """Whether a truth file is of this layout: some share a name."""
    if layout == "yolo" or file.is_dir():
        return layout == "yolo" and file.is_dir()
    if layout == "coco" or file.suffix == ".json":
        return layout == "coco" and file.suffix == ".json"
    first = next((s for s in file.read_text().splitlines() if s.strip() and not s.startswith("#")), "")
    count = len(first.replace(",", " ").split())
    if layout == "mot":
        return file.parent.name == "gt" or ("," in first and count in (9, 10))
    return count in {"kitti": (12,), "tum": (8,) if "," not in first else (), "otb": (4, 8)}[layout]


def open_folder(folder: Path, fps: float, truth_file: Path | None = None,
                layout: str = "") -> tuple[FolderPictures, FolderTruth | None]:
    """A set's pictures (with its intrinsics, where it tells them) and its truth."""
    pictures = FolderPictures(folder, fps)
    truth = folder_truth(folder, pictures.files, pictures.stamps_ns, truth_file, layout)
    pictures.camera = truth.camera if truth else None
    return pictures, truth
