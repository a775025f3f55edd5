"""A process that sees AVX2 only, on a CPU that has more: what ONNX Runtime's kernels cost on smaller machines.

``avx2_only.c`` answers CPUID where the kernel lets it fault (Intel, newer AMD). Elsewhere the CPUID instructions in a
copy of ONNX Runtime are overwritten with one that no CPU has (UD0), which faults into the same answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CPUID, UD0 = b"\x0f\xa2", b"\x0f\xff"


def environments(folder: Path) -> list[dict[str, str]]:
    """Environments to try in turn; empty without Linux on x86 and a C compiler. Files are made in ``folder``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux" or os.uname().machine != "x86_64":
        return []
    library = folder / "avx2_only.so"
    source = Path(__file__).with_name("avx2_only.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    root = str(Path(__file__).resolve().parents[1])
    faulting = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": root}
    if shutil.which("objdump") is None:
        return [faulting]
    return [faulting, {**faulting, "PYTHONPATH": f"{_overwritten(folder)}:{root}"}]


def _overwritten(folder: Path) -> Path:
    """A copy of the onnxruntime package without CPUID instructions."""
    import onnxruntime

    site = folder / "site"
    shutil.copytree(Path(onnxruntime.__file__).parent, site / "onnxruntime", ignore=shutil.ignore_patterns(
        "libonnxruntime.so*", "tools", "transformers", "quantization", "__pycache__"))
    for binary in (site / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so"):
        code = bytearray(binary.read_bytes())
        listed = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(binary)], capture_output=True, text=True,
                                check=True).stdout
        for line in listed.splitlines():
            if line.endswith("\tcpuid"):
                start = int(line.split(":")[0], 16)  # addresses of the code segment are offsets in the file
                if code[start:start + 2] != CPUID:
                    raise RuntimeError(f"{binary.name}: address {start:#x} is not its offset in the file")
                code[start:start + 2] = UD0
        binary.write_bytes(code)
    return site
