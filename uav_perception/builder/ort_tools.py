"""What ONNX Runtime's own tools do well, used instead of rewritten: folding, fusion, and the peer quantiser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import ModelError

Feeds = Mapping[str, NDArray[np.float32]]


def fold(model: Any, where: str) -> Any:
    """Constant folding, batch-norm fusion and identity removal by ONNX Runtime (basic level: standard operators).

    Raises:
        ModelError: ONNX Runtime refuses the model (for example an unsupported operator).
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(out)
        source = Path(folder) / "source.onnx"
        onnx.save(model, str(source))
        try:
            ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
            folded = onnx.load(str(out))
        except Exception as e:  # the runtime's own exception types share no narrower base
            first = (str(e).strip().splitlines() or [type(e).__name__])[0][:300]
            raise ModelError(f"model {where}: {first}", "operators ONNX Runtime knows",
                             "export it again with standard operators") from e
    foreign = {o.domain for o in folded.opset_import} - {"", "ai.onnx"}
    used = {n.domain for n in folded.graph.node} - {"", "ai.onnx"}
    if used:
        raise ModelError(f"model {where} with operators of {', '.join(sorted(used))}", "standard ONNX operators",
                         "export it again without custom operators")
    for domain in foreign:  # declared by the optimiser, used by none
        folded.opset_import.remove(next(o for o in folded.opset_import if o.domain == domain))
    folded.ir_version = min(folded.ir_version, 8)
    return folded


def quantize_static_default(source: Path, out: Path, feeds: Iterable[Feeds]) -> None:
    """The peer: ``quant_pre_process`` and ``quantize_static`` with their defaults, on the same calibration feeds."""
    from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The feeds, once."""

        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Any:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(out), Reader())
