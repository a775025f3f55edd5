"""Provenance beside every built engine: what it was made from, with what, for which device, and what that cost.

A folder of engines holds one ``manifest.json`` and the files it lists. A file whose hash differs from the manifest is
never used; a plan whose device differs is never loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import EngineMismatch, ModelError

MANIFEST = "manifest.json"
SCHEMA = 1


@dataclass(frozen=True)
class EngineFile:
    """One engine of a folder. ``device`` is empty for ONNX; for plans it names what the plan is tied to."""

    file: str
    sha256: str
    backend: str  # onnxruntime | tensorrt | tensorrt-rtx
    precision: str  # int8 | fp16 | fp32
    device: Mapping[str, str] = field(default_factory=dict)  # tensorrt, cuda, sm, name, dla


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds; plain values only, so that it survives JSON unchanged."""

    name: str
    source: Mapping[str, Any]  # file, sha256 of the ONNX the engines were made from
    files: tuple[EngineFile, ...]
    preprocess: Mapping[str, Any] = field(default_factory=dict)  # the specification and its "hash"
    metadata: Mapping[str, str] = field(default_factory=dict)  # of the ONNX: class names, preprocessing, licence
    inputs: tuple[Mapping[str, Any], ...] = ()  # name, shape, dtype
    outputs: tuple[Mapping[str, Any], ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)  # source, sha256, count, seed, method, files
    precision_per_layer: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)  # package -> version
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def int8_latency_ratio(self) -> float | None:
        """Processor time of the INT8 ONNX over that of the float one, as the build measured it; None: it did not."""
        measured = self.accuracy.get("latency_ms") or {}
        try:
            return float(measured["int8"]["cpu"]) / float(measured["fp32"]["cpu"])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> Manifest:
        """Parse and check a manifest.

        Raises:
            ModelError: not JSON, fields missing, or another schema.
        """
        remedy = "build the engine again with `engine build`"
        try:
            tree = json.loads(text)
            if not isinstance(tree, dict) or tree.get("schema") != SCHEMA:
                raise ModelError(f"manifest {where}", f"schema {SCHEMA}", remedy)
            tree["files"] = tuple(EngineFile(**f) for f in tree["files"])
            tree["inputs"], tree["outputs"] = tuple(tree.get("inputs", ())), tuple(tree.get("outputs", ()))
            manifest = Manifest(**tree)
            if any(Path(f.file).name != f.file for f in manifest.files):
                raise ModelError(f"manifest {where} naming a file elsewhere", "bare file names beside it", remedy)
            return manifest
        except (ValueError, KeyError, TypeError) as e:
            raise ModelError(f"manifest {where}: {e}", "a manifest written by `engine build`", remedy) from e


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_of(value: Any) -> str:
    """SHA-256 of plain values, independent of key order: for preprocessing specifications and file lists."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of ``folder``.

    Raises:
        ModelError: missing, unreadable, or not a manifest of this version.
    """
    path = folder / MANIFEST
    try:
        return Manifest.from_json(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as e:
        raise ModelError(f"folder {folder} without a readable {MANIFEST}", "a folder written by `engine build`",
                         "give the ONNX file itself, or build the folder") from e


def check_file(folder: Path, entry: EngineFile) -> Path:
    """Path of ``entry`` after its hash was compared.

    Raises:
        ModelError: the file is missing.
        EngineMismatch: the file is not the one the manifest describes.
    """
    path = folder / entry.file
    if not path.is_file():
        raise ModelError(f"engine file {path}", "the file its manifest lists", "build the engine again")
    if sha256_of(path) != entry.sha256:
        raise EngineMismatch(f"engine file {path} changed since {MANIFEST} was written",
                             f"SHA-256 {entry.sha256[:12]}", "build the engine again, or restore the file")
    return path


def check_preprocess(manifest: Manifest, preprocess_hash: str | None, where: Path) -> None:
    """Refuse an engine calibrated with other preprocessing than the caller's.

    Raises:
        EngineMismatch: both hashes are known and differ.
    """
    known = manifest.preprocess.get("hash")
    if preprocess_hash is not None and known is not None and known != preprocess_hash:
        raise EngineMismatch(f"engine {where} calibrated with preprocessing {known[:12]}", f"{preprocess_hash[:12]}",
                             "build the engine again with today's preprocessing")
