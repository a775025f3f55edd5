"""The detector from camera pixels to boxes: every part timed, beside the same model run the plain way.

The peer feeds the same ONNX file to ONNX Runtime with the pre- and post-processing usual in Python examples: resize,
copy into a padded canvas, transpose and cast, decode every point, suppress with ``cv2.dnn.NMSBoxes`` from lists.
Both see the same frames, interleaved, with the same number of threads, square input of the same size.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uav_perception.config import DetectorConfig
from uav_perception.detect.detector import make_detector, own_model
from uav_perception.detect.families import UAVDET_STRIDES, grid
from uav_perception.errors import InputError
from uav_perception.records import Frame

FRAMES = Path(__file__).parents[2] / "shared/data/aerial_det/cats_madison/images"
PARTS = ("preprocess", "inference", "postprocess")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, default=FRAMES,
                        help="folder of frames; without it, noise-textured ones are made")
    parser.add_argument("--model", default="", help="detector; default: the package's own")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--size", type=int, default=512, help="side of the square network input")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Percentiles of every part in ms, frames a second, the share of pre- and post-processing, and the peer's."""
    images = [_square(i) for i in _images(args.images)]
    detector = make_detector(DetectorConfig(model=args.model, threads=args.threads, input_px=args.size))
    peer = Plain(_onnx_of(args.model), args.threads, args.size)
    spent: dict[str, list[float]] = {p: [] for p in (*PARTS, "total", "peer", "peer_inference")}
    for i in range(-10, args.frames):
        image = images[i % len(images)]
        start = time.perf_counter_ns()
        detector.detect(Frame(max(i, 0), max(i, 0), image))
        middle = time.perf_counter_ns()
        inference_ns = peer.detect(image)
        if i >= 0:  # the first ones warm up
            for part in PARTS:
                spent[part].append(getattr(detector.last_cost, f"{part}_ns") / 1e6)
            spent["total"].append((middle - start) / 1e6)
            spent["peer"].append((time.perf_counter_ns() - middle) / 1e6)
            spent["peer_inference"].append(inference_ns / 1e6)
    p50 = {k: float(np.median(v)) for k, v in spent.items()}
    info = detector.engine_info
    ms = {k: {f"p{q}": round(float(np.percentile(v, q)), 3) for q in (5, 50, 95, 99)} for k, v in spent.items()}
    return {"frames": args.frames, "threads": args.threads, "input_px": args.size, "engine": info.name,
            "precision": info.precision, "ms": ms,
            "fps_p50": round(1e3 / p50["total"], 1),
            "pre_post_share_of_inference": round((p50["preprocess"] + p50["postprocess"]) / p50["inference"], 3),
            "peer_pre_post_share_of_inference": round((p50["peer"] - p50["peer_inference"]) / p50["peer_inference"], 3),
            "speed_up_over_peer": round(p50["peer"] / p50["total"], 2)}


class Plain:
    """The usual way in examples, written for reading rather than for speed."""

    def __init__(self, path: Path, threads: int, side_px: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.side_px = side_px

    def detect(self, image: NDArray[np.uint8]) -> int:
        """Detect; returns the nanoseconds of inference."""
        side = self.side_px
        ratio = min(side / image.shape[0], side / image.shape[1])
        small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
        canvas = np.full((side, side, 3), 114, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        blob = canvas.transpose(2, 0, 1)[None].astype(np.float32) - 114
        start = time.perf_counter_ns()
        raw = self.session.run(None, {self.session.get_inputs()[0].name: blob})[0][0]
        took = time.perf_counter_ns() - start
        scores = 1 / (1 + np.exp(-raw[:-4].T))
        centre, stride = grid(side, side, UAVDET_STRIDES, 0.5)
        reach = np.exp(raw[-4:].T) * stride[:, None]
        boxes = np.concatenate([centre - reach[:, :2], reach[:, :2] + reach[:, 2:]], 1) / ratio
        for c in range(scores.shape[1]):
            cv2.dnn.NMSBoxes(boxes.tolist(), scores[:, c].tolist(), 0.25, 0.6)
        return took


def _images(folder: Path) -> list[NDArray[np.uint8]]:
    if folder.is_dir():
        read = (cv2.imread(str(f)) for f in sorted(folder.iterdir())[:40])
        images = [np.asarray(i, np.uint8) for i in read if i is not None]
        if not images:
            raise InputError(f"--images {folder}", "a folder with pictures", "name another folder")
        return images
    rng = np.random.default_rng(0)
    return [np.asarray(cv2.resize(rng.integers(0, 255, (60, 80, 3), np.uint8), (640, 640)), np.uint8) for _ in range(8)]


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = min(image.shape[:2])
    return np.ascontiguousarray(image[:side, :side])


def _onnx_of(model: str) -> Path:
    """The file the chosen engine runs, for the peer."""
    path = Path(model) if model else own_model()
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    quantised = [f for f in files if "int8" in f.name]
    return (quantised or files)[0]
