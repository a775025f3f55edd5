"""Calibration pictures: a seeded draw from folders or bags, through the preprocessing that runs in flight."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..camera.bag import BagPictures
from ..camera.files import SUFFIXES
from ..depth_pose.dense import planes
from ..detect.families import FAMILIES, recognise
from ..detect.preprocess import METADATA_KEY, Preprocessor, PreprocessSpec
from ..engine import Engine
from ..engine.manifest import hash_of
from ..errors import InputError, ModelError, SourceError
from ..records import F32, U8

DEPTH_POSE_OUTPUTS = ("disparity", "motion")
BAGS = (".mcap", ".db3", ".bag")


@dataclass(frozen=True)
class Drawn:
    """What was drawn: pictures (H, W, 3) uint8 BGR, their names, and a hash over names and pixels."""

    pictures: tuple[U8, ...]
    names: tuple[str, ...]
    sha256: str
    population: int
    seed: int


def draw(sources: Sequence[str | Path], count: int, seed: int, topic: str = "", window: int = 1) -> Drawn:
    """Draw ``count`` windows (all, when there are fewer) from image folders, searched with their sub-folders, or bags.

    A window is ``window`` consecutive pictures: what a network with several inputs sees at once. The draw depends on
    nothing but the sorted names, ``count``, ``seed`` and ``window``.

    Raises:
        SourceError: no pictures, one that cannot be decoded, or one that is not 8 bits a channel.
        BagError: a bag that cannot be read or has no image topic.
    """
    offers: list[tuple[str, Callable[[], U8]]] = []
    for source in map(Path, sources):
        offers += _bag(source, topic) if _is_bag(source) else _folder(source)
    starts = np.random.default_rng(seed).permutation(max(1, len(offers) - window + 1))[:count]
    chosen = [offers[min(i + k, len(offers) - 1)] for i in sorted(starts) for k in range(window)]
    digest = hashlib.sha256()
    pictures = []
    for name, decode in chosen:
        picture = decode()
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
        pictures.append(picture)
    return Drawn(tuple(pictures), tuple(n for n, _ in chosen), digest.hexdigest(), len(offers), seed)


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes each input: the run time's own function, its description and the description's hash."""

    inputs: tuple[str, ...]
    apply: Callable[[U8], F32]
    text: str
    hash: str
    size: tuple[int, int]  # height, width

    def feeds(self, pictures: Sequence[U8]) -> list[dict[str, F32]]:
        """Network inputs: consecutive pictures go to consecutive inputs."""
        blobs = [self.apply(p).copy() for p in pictures]
        step = len(self.inputs)
        return [dict(zip(self.inputs, blobs[i:i + step], strict=True)) for i in range(0, len(blobs) - step + 1, step)]


def _is_bag(path: Path) -> bool:
    return path.suffix in BAGS or (path / "metadata.yaml").is_file()


def _bag(path: Path, topic: str) -> list[tuple[str, Callable[[], U8]]]:
    source = BagPictures(path, topic)
    found: list[tuple[str, Callable[[], U8]]] = [(f"{path.name}:{p.stamp_ns}", p.decode) for p in source.pictures()]
    if not found:
        raise SourceError(f"bag {path} without pictures on {source.topic}", "at least one", "name another topic or bag")
    return found


def _folder(path: Path) -> list[tuple[str, Callable[[], U8]]]:
    if not path.is_dir():
        raise SourceError(f"calibration source {path}", "an image folder or a bag", "check the path")
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise SourceError(f"calibration folder {path} without pictures", f"{', '.join(sorted(SUFFIXES))} files",
                          "give a folder of pictures like those of the flight, or a bag")
    return [(str(f.relative_to(path)), lambda f=f: read_picture(f)) for f in files]  # type: ignore[misc]


def read_picture(path: Path) -> U8:
    """A picture as BGR.

    Raises:
        SourceError: it cannot be decoded or is not 8 bits a channel.
    """
    try:
        raw = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as e:
        raise SourceError(f"picture {path}: {e}", "a readable picture", "remove it from the folder") from e
    if raw is None:
        raise SourceError(f"picture {path} cannot be decoded", "a whole picture", "remove it from the folder")
    if raw.dtype != np.uint8:
        raise SourceError(f"picture {path} of {raw.dtype.itemsize * 8} bits a channel", "8 bits, as the camera gives",
                          "convert it as the camera driver does, or remove it")
    if raw.ndim == 2:
        return np.asarray(cv2.cvtColor(raw, cv2.COLOR_GRAY2BGR), np.uint8)
    if raw.shape[2] == 4:
        return np.asarray(cv2.cvtColor(raw, cv2.COLOR_BGRA2BGR), np.uint8)
    return np.asarray(raw, np.uint8)


def preprocess_of(engine: Engine, text: str = "") -> Preprocess:
    """The preprocessing of a model: given in ``text``, else in its metadata, else its detector family's.

    A model of open height and width is calibrated in the size its preprocessing names.

    Raises:
        InputError: an input that is not float32 (1, 3, H, W), inputs of different sizes, or a size nobody names.
        ModelError: none of the three says how pictures become inputs.
    """
    names, shape = tuple(s.name for s in engine.inputs), engine.inputs[0].shape
    alike = all(s.shape == shape and s.dtype == np.float32 for s in engine.inputs)
    spec = parse_preprocess(text) if text else PreprocessSpec.from_metadata(engine.metadata)
    if not alike or len(shape) != 4 or shape[:2] != (1, 3) or (None in shape and spec is None):
        shown = ", ".join(f"{s.name} {s.dtype}{list(s.shape)}" for s in engine.inputs)
        raise InputError(f"model {engine.info.name} with inputs {shown}", "float32 inputs of one (1, 3, H, W)",
                         "export it so, and name width_px and height_px in its preprocessing when they are open")
    height, width = ((n or known) for n, known in zip(shape[2:], (spec.height_px, spec.width_px) if spec else (0, 0),
                                                      strict=True))
    if not text and engine.outputs[0].name in DEPTH_POSE_OUTPUTS:  # these networks have a preprocessing of their own
        written = engine.metadata.get(METADATA_KEY, "")
        return Preprocess(names, lambda image: planes(image, width, height), written, hash_of(written)[:16],
                          (height, width))
    if spec is None:
        try:
            outputs = [tuple(int(n or 0) for n in s.shape) for s in engine.outputs]
            spec = FAMILIES[recognise(outputs, width, height)].preprocess
        except ModelError as e:
            raise ModelError(f"model {engine.info.name} without preprocessing in its metadata, of no known family",
                             "how pictures become inputs", "give --preprocess, see docs/engines.md") from e
    spec = spec.sized(width, height)
    preprocessor = Preprocessor(spec)
    return Preprocess(names, lambda image: preprocessor(image)[0], spec.to_json(), spec.hash, (height, width))


def parse_preprocess(text: str) -> PreprocessSpec:
    """A specification from the command line: ``color=rgb,mean=123.7/116.3/103.5,scale=0.0175,fit=stretch``.

    Raises:
        InputError: an unknown field or a value that is not a number.
    """
    values: dict[str, object] = {}
    try:
        for item in filter(None, text.split(",")):
            key, _, value = item.partition("=")
            if key in ("mean", "scale"):
                numbers = tuple(float(v) for v in value.split("/"))
                values[key] = numbers * 3 if len(numbers) == 1 else numbers
            else:
                values[key] = int(value) if key in ("pad_value", "width_px", "height_px") else value
        return PreprocessSpec(**values)  # type: ignore[arg-type]
    except (TypeError, ValueError) as e:
        raise InputError(f"--preprocess {text!r}: {e}", "key=value pairs of the fields of PreprocessSpec",
                         "see docs/engines.md") from e
