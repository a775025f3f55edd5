"""Which engine runs here, and why: plan, then the faster of INT8 and float ONNX; one fall-back, said aloud."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineMismatch, InputError, MissingDependency, ModelError, UavPerceptionError, WorkFailed
from . import Array, Described, Engine
from .manifest import MANIFEST, EngineFile, Manifest, check_file, check_preprocess, read_manifest

log = logging.getLogger(__name__)
BACKENDS = ("auto", "onnxruntime", "tensorrt")
PLAN_SUFFIXES = (".plan", ".engine")


@dataclass(frozen=True)
class Candidate:
    """One way to run a model: ``make(why)`` opens it."""

    label: str
    make: Callable[[str], Engine]


def open_engine(path: str | Path, *, backend: str = "auto", threads: int = 0,
                preprocess_hash: str | None = None) -> Engine:
    """Open the best engine that runs here.

    Args:
        path: an ONNX file, a TensorRT plan beside its ``manifest.json``, or a folder with a ``manifest.json``.
        backend: ``auto`` (plan, then INT8 ONNX unless its build measured it slower than float, then float ONNX),
            ``onnxruntime`` or ``tensorrt``.
        threads: CPU threads; 0 = chosen from the machine.
        preprocess_hash: hash of the caller's preprocessing; an engine calibrated with another is refused.

    Raises:
        ModelError: nothing at ``path`` can run.
        EngineMismatch: a file changed since its manifest, or preprocessing or device differ.
        MissingDependency: ``tensorrt`` asked for and not installed.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r}", f"one of {', '.join(BACKENDS)}", "correct the parameter")
    path = Path(path)
    measured = ""
    if path.is_dir():
        folder, (entries, measured) = path, _ordered(read_manifest(path))
    elif not path.is_file():
        raise ModelError(f"model {path}", "an ONNX file, a plan, or a folder with manifest.json", "check the path")
    else:
        folder, entries = path.parent, [_entry_of(path)]
    if (folder / MANIFEST).is_file():
        check_preprocess(read_manifest(folder), preprocess_hash, path)
    entries = [e for e in entries if backend in ("auto", e.backend)]
    if not entries:
        raise ModelError(f"model {path} has no engine for {backend}", "an engine of that backend",
                         f"run `engine build --target {backend}`, or use backend auto")
    candidates: list[Candidate] = []
    refused: list[str] = []
    for entry in entries:
        try:
            candidates.append(_candidate(folder, entry, threads))
        except (MissingDependency, ModelError) as e:
            if entry.backend == "onnxruntime" or len(entries) == 1:
                raise
            refused.append(f"{entry.file}: {e.value}")
    return FallbackEngine.open(candidates, refused, measured)


class FallbackEngine(Described):
    """The first candidate that opens; when it fails at run time the next takes over, once, and ``info`` says so."""

    def __init__(self, engine: Engine, rest: list[Candidate]) -> None:
        self._rest = rest
        self._run_on(engine)

    def _run_on(self, engine: Engine) -> None:
        self._engine = engine
        self._info, self._inputs, self._outputs = engine.info, engine.inputs, engine.outputs
        self._metadata = engine.metadata

    @staticmethod
    def open(candidates: list[Candidate], refused: list[str], measured: str = "") -> Engine:
        """Open the first that opens; a single candidate is returned bare. ``measured`` explains their order."""
        for i, candidate in enumerate(candidates):
            try:
                best = f"{candidate.label} is the best that runs here"
                why = "; ".join([*refused, f"{best} ({measured})" if measured else best])
                engine = candidate.make(why)
            except UavPerceptionError as e:
                if i + 1 == len(candidates):
                    raise
                refused = [*refused, f"{candidate.label}: {e.value}"]
                continue
            rest = candidates[i + 1:]
            return FallbackEngine(engine, rest) if rest else engine
        raise ModelError("no engine left to try: " + "; ".join(refused), "one that runs here", "build it here")

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """As the protocol says; a failing runtime (not a wrong feed) makes the next candidate take over."""
        try:
            return self._engine.infer(feeds)
        except WorkFailed as e:
            if not self._rest:
                raise
            self._take_over(e)
            return self._engine.infer(feeds)

    def close(self) -> None:
        self._rest = []
        self._engine.close()

    def _take_over(self, error: WorkFailed) -> None:
        failed = self._engine
        candidate, self._rest = self._rest[0], []
        why = f"{failed.info.backend} {failed.info.precision} failed at run time ({error.value}); fell back once"
        log.error("%s: %s", failed.info.name, why)
        engine = candidate.make(why)
        if {s.name for s in engine.outputs} != {s.name for s in self._outputs} or engine.inputs != self._inputs:
            engine.close()
            raise EngineMismatch(f"fall-back engine {candidate.label}", "the inputs and outputs of the first",
                                 "build both from one model") from error
        failed.close()
        self._run_on(engine)


def _ordered(manifest: Manifest) -> tuple[list[EngineFile], str]:
    """The engines of a folder, best first, and the measurement that decided between INT8 and float ONNX."""
    ratio = manifest.int8_latency_ratio
    onnx = ("int8", "fp32", "fp16") if ratio is None or ratio < 1 else ("fp32", "int8", "fp16")
    rank = {("tensorrt", p): i for i, p in enumerate(("int8", "fp16", "fp32"))}
    rank |= {("onnxruntime", p): 10 + i for i, p in enumerate(onnx)}
    known = (f for f in manifest.files if (f.backend, f.precision) in rank)
    where = manifest.tools.get("cpu", "the machine that built it")
    return (sorted(known, key=lambda f: rank[f.backend, f.precision]),
            "" if ratio is None else f"INT8 took {ratio:.2f} of float's time on {where}")


def _entry_of(path: Path) -> EngineFile:
    """The manifest's entry of a single file, or a plain one for an ONNX file without a manifest."""
    manifest: Manifest | None = read_manifest(path.parent) if (path.parent / MANIFEST).is_file() else None
    for entry in manifest.files if manifest else ():
        if entry.file == path.name:
            return entry
    if path.suffix in PLAN_SUFFIXES:
        raise EngineMismatch(f"plan {path} without an entry in a {MANIFEST} beside it", "a plan made by `engine build`",
                             "build it on this device: a plan of unknown origin may not belong to it")
    if path.suffix != ".onnx":
        raise ModelError(f"model {path}", "a .onnx, .plan or .engine file", "convert the model to ONNX")
    return EngineFile(path.name, "", "onnxruntime", "fp32")


def _candidate(folder: Path, entry: EngineFile, threads: int) -> Candidate:
    """Check ``entry`` and say how to open it."""
    path = check_file(folder, entry) if entry.sha256 else folder / entry.file
    if entry.backend == "tensorrt":
        from .tensorrt import TensorRTEngine, check_device

        check_device(path, entry)
        metadata = read_manifest(folder).metadata
        return Candidate(f"TensorRT {entry.precision}",
                         lambda why: TensorRTEngine(path, why, entry.precision, metadata))
    if entry.backend != "onnxruntime":
        raise ModelError(f"engine {path} of backend {entry.backend}", "tensorrt or onnxruntime",
                         "this kind is for inspection and for machines with its own runtime")
    from .onnxruntime import OnnxRuntimeEngine

    label = f"ONNX Runtime {entry.precision}" if entry.sha256 else "ONNX Runtime"
    return Candidate(label, lambda why: OnnxRuntimeEngine(path, threads, why))
