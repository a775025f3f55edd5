"""The detector stage: preprocess, engine, decode, suppress; tiled on request. Boxes leave in source pixels."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import DetectorConfig
from ..engine import Engine, EngineInfo
from ..engine.own import own_engine
from ..engine.select import open_engine
from ..errors import ConfigError, ModelError
from ..records import F32, I32, U8, Detections, Frame
from .families import FAMILIES, check_layout, recognise
from .names import COCO_CLASSES
from .nms import suppress
from .preprocess import Preprocessor, PreprocessSpec, shaped_size
from .tiles import Tile, inside_tile, tiles_of
from .views import Found, from_view, fuse, view_of

log = logging.getLogger(__name__)

FREE_SIZE_PX = 640  # input of models of free size whose metadata names none
OWN_MODEL = "uav_detector"
COARSE_FROM = 1.5  # a coarse look less than so much smaller than the first one would find the same objects


@dataclass(frozen=True)
class Cost:
    """What the last frame cost: inferences run and nanoseconds of each part."""

    passes: int
    preprocess_ns: int
    inference_ns: int
    postprocess_ns: int


def own_model() -> Path:
    """The package's aerial detector: ``engines/uav_detector`` of a checkout, else of the installation.

    Raises:
        ModelError: it is in neither.
    """
    path = own_engine(OWN_MODEL)
    if path is None:
        raise ModelError(f"no {OWN_MODEL} in the engines/ of a checkout or installation",
                         "the package's own aerial detector", "install the package again, or give detector.model")
    return path


def make_detector(config: DetectorConfig) -> EngineDetector:
    """Load the model of ``config`` and check that it is what the configuration says.

    Raises:
        ModelError: missing or broken model, other tensor layout, other number of classes.
        ConfigError: a class in ``keep`` that the model does not have.
    """
    path = Path(config.model).expanduser() if config.model else own_model()
    return EngineDetector(open_engine(path, backend=config.backend, threads=config.threads), config)


class EngineDetector:
    """A detector behind any ``Engine``. Not thread-safe, like its engine."""

    def __init__(self, engine: Engine, config: DetectorConfig) -> None:
        self._engine, self._config = engine, config
        self._input, spec_of_model, fixed = _input_of(engine)
        name = _family_name(config.family, engine.metadata)
        self._free_size = fixed is None
        width, height = fixed or _start_size(config, spec_of_model)
        base = spec_of_model or PreprocessSpec()
        shapes = self._dry_run(base.sized(width, height))
        if name == "auto":
            name = recognise(shapes, width, height)
        self.family = name
        self._spec = (spec_of_model or FAMILIES[name].preprocess).sized(width, height)
        self._class_names = _class_names(config, engine.metadata, name, shapes, width, height)
        self._layout = check_layout(name, engine.outputs, shapes, width, height, self._class_names)
        self._prepared = {(width, height): Preprocessor(self._spec)}
        self._group = _groups(self._class_names, engine.metadata)
        self.report_only(config.keep or self._class_names)
        self.look_from(config.views)
        self.last_cost = Cost(0, 0, 0, 0)
        log.info("detector %s: family %s, %d classes, input %dx%d%s", engine.info.name, name, len(self._class_names),
                 width, height, " (free)" if self._free_size else "")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of ``class_id``."""
        return self._class_names

    @property
    def engine_info(self) -> EngineInfo:
        """What runs and why."""
        return self._engine.info

    @property
    def preprocess(self) -> PreprocessSpec:
        """What the network is fed with."""
        return self._spec

    def report_only(self, names: Sequence[str]) -> None:
        """Report these classes; the others do not compete for a box.

        Raises:
            ConfigError: the model has no such class.
        """
        lower = [n.lower() for n in self._class_names]
        for name in names:
            if name.lower() not in lower:
                few = ", ".join(self._class_names[:12]) + (", ..." if len(lower) > 12 else "")
                raise ConfigError(f"detector.keep names {name!r}", f"classes of the model: {few}", "correct the name")
        kept = sorted({lower.index(n.lower()) for n in names})
        self._layout = replace(self._layout, reported=np.array(kept, np.int32))

    def look_from(self, views: int) -> None:
        """Look at every frame in the first ``views`` of the four views (``detect.views``)."""
        self._views = views

    def detect(self, frame: Frame) -> Detections:
        """Boxes of ``frame`` in its own pixels, best score first; ``last_cost`` says what they cost.

        Raises:
            WorkFailed: the engine failed.
        """
        h, w = frame.image.shape[:2]
        views, passes, cost = [], 0, np.zeros(3, np.int64)
        for view in range(self._views):
            (xyxy, score, class_id), n, spent = self._look(view_of(frame.image, view) if view else frame.image)
            views.append((from_view(xyxy, view, w, h), score, class_id))
            passes += n
            cost += spent
        start = time.perf_counter_ns()
        if len(views) > 1:
            views = [fuse(views, self._group, self._config.nms_iou, self._config.max_detections)]
        xyxy, score, class_id = views[0]
        found = Detections(frame.stamp_ns, xyxy, np.clip(score, 0, 1), class_id, frame.frame_id)
        cost[2] += time.perf_counter_ns() - start
        self.last_cost = Cost(passes, *map(int, cost))
        return found

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()

    def _look(self, image: U8) -> tuple[Found, int, NDArray[np.int64]]:
        """What the whole picture and its tiles show, suppressed; inferences run and nanoseconds of each part."""
        h, w = image.shape[:2]
        looks = [(t, self._side_px) for t in tiles_of(w, h, self._config.tile_px, self._config.tile_overlap)]
        first_px = min(self._side_px, math.sqrt(w * h))
        if self._free_size and first_px > COARSE_FROM * self._config.coarse_px > 0:
            looks.append((Tile(0, 0, w, h), self._config.coarse_px))
        parts, cost = [], np.zeros(3, np.int64)
        for tile, side_px in looks:
            xyxy, score, class_id, spent = self._pass(image, tile, side_px)
            keep = inside_tile(xyxy, tile, w, h)
            parts.append((xyxy[keep], score[keep], class_id[keep]))
            cost += spent
        start = time.perf_counter_ns()
        xyxy, score, class_id = (np.concatenate(p) if len(p) > 1 else p[0] for p in zip(*parts, strict=True))
        limit = self._config.max_detections
        if FAMILIES[self.family].needs_nms or len(looks) > 1:
            kept = suppress(xyxy, score, self._group[class_id], self._config.nms_iou, limit)
        else:
            kept = np.argsort(-score, kind="stable")[:limit]
        cost[2] += time.perf_counter_ns() - start
        return (xyxy[kept], score[kept], class_id[kept]), len(looks), cost

    def _pass(self, image: U8, tile: Tile, side_px: int) -> tuple[F32, F32, I32, tuple[int, int, int]]:
        """One inference: boxes in source pixels, scores, classes, and the time of each part."""
        t0 = time.perf_counter_ns()
        crop = image[tile.top : tile.bottom, tile.left : tile.right]
        prepare = self._sized_for(crop.shape[1], crop.shape[0], side_px)
        layout = replace(self._layout, width_px=prepare.spec.width_px, height_px=prepare.spec.height_px)
        blob, place = prepare(crop)
        t1 = time.perf_counter_ns()
        outputs = self._engine.infer({self._input: blob})
        t2 = time.perf_counter_ns()
        found = FAMILIES[self.family].decode(outputs, layout, self._config.score_min)
        sound = np.isfinite(found.xyxy).all(1) & (found.xyxy[:, 2:] >= found.xyxy[:, :2]).all(1)
        xyxy = place.to_source(found.xyxy[sound]) + np.array([tile.left, tile.top] * 2, np.float32)
        t3 = time.perf_counter_ns()
        return xyxy, found.score[sound], found.class_id[sound], (t1 - t0, t2 - t1, t3 - t2)

    @property
    def _side_px(self) -> int:
        """The network's input is this number squared, or about that where its size is free."""
        return self._config.input_px or round((self._spec.width_px * self._spec.height_px) ** 0.5)

    def _sized_for(self, width_px: int, height_px: int, side_px: int) -> Preprocessor:
        """Preprocessing for a source size: models of free size get an input shaped like the frame."""
        if not self._free_size:
            return next(iter(self._prepared.values()))
        size = shaped_size(width_px, height_px, side_px)
        if size not in self._prepared:
            if len(self._prepared) > 8:  # sources of many sizes must not collect buffers for ever
                self._prepared.clear()
            self._prepared[size] = Preprocessor(self._spec.sized(*size))
        return self._prepared[size]

    def _dry_run(self, spec: PreprocessSpec) -> list[tuple[int, ...]]:
        """Shapes of the outputs for one blank frame; also warms the engine up."""
        blank = np.zeros((1, 3, spec.height_px, spec.width_px), np.float32)
        return [self._engine.infer({self._input: blank})[o.name].shape for o in self._engine.outputs]


def _input_of(engine: Engine) -> tuple[str, PreprocessSpec | None, tuple[int, int] | None]:
    """Name of the one image input, the preprocessing the model carries, and its (width, height) unless free."""
    shapes = [f"{s.name} {s.dtype}{['any' if n is None else n for n in s.shape]}" for s in engine.inputs]
    s = engine.inputs[0]
    if (len(engine.inputs) != 1 or len(s.shape) != 4 or s.dtype != np.float32 or s.shape[0] not in (1, None)
            or s.shape[1] not in (3, None)):
        raise ModelError(f"model {engine.info.name} with input {', '.join(shapes)}", "one float32 image (1, 3, H, W)",
                         "export the model with batch 1, channels first, without preprocessing")
    height, width = s.shape[2], s.shape[3]
    fixed = (width, height) if width is not None and height is not None else None
    return s.name, PreprocessSpec.from_metadata(engine.metadata), fixed


def _start_size(config: DetectorConfig, spec: PreprocessSpec | None) -> tuple[int, int]:
    if config.input_px:
        side = max(32, round(config.input_px / 32) * 32)
        return side, side
    return (spec.width_px, spec.height_px) if spec else (FREE_SIZE_PX, FREE_SIZE_PX)


def _family_name(asked: str, metadata: Mapping[str, str]) -> str:
    name = metadata.get("family", "auto") if asked == "auto" else asked
    if name != "auto" and name not in FAMILIES:
        raise ModelError(f"model metadata family = {name!r}", f"one of {', '.join(FAMILIES)}", "set detector.family")
    return name


def _class_names(config: DetectorConfig, metadata: Mapping[str, str], family: str, shapes: list[tuple[int, ...]],
                 width: int, height: int) -> tuple[str, ...]:
    """The configuration's names, else the model's own, else COCO's."""
    if config.classes:
        return config.classes
    if "classes" in metadata:
        try:
            return tuple(str(n) for n in json.loads(metadata["classes"]))
        except (ValueError, TypeError) as e:
            raise ModelError(f"metadata classes = {metadata['classes'][:60]!r}", "a JSON list of names",
                             "export the model again, or give detector.classes") from e
    if "names" in metadata:  # Ultralytics: {0: 'person', 1: ...}
        import ast

        try:
            named = ast.literal_eval(metadata["names"])
            return tuple(str(n) for n in (named.values() if isinstance(named, dict) else named))
        except (ValueError, SyntaxError, TypeError) as e:
            raise ModelError(f"metadata names = {metadata['names'][:60]!r}", "a mapping of numbers to names",
                             "give detector.classes") from e
    return COCO_CLASSES


def _groups(class_names: tuple[str, ...], metadata: Mapping[str, str]) -> I32:
    """Suppression group of each class: its own, or one shared by classes that exclude each other (``nms_groups``)."""
    group = np.arange(len(class_names), dtype=np.int32)
    for names in json.loads(metadata.get("nms_groups", "[]")):
        members = [class_names.index(n) for n in names if n in class_names]
        group[members] = members[0] if members else 0
    return group
