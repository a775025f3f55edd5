"""The house keeps its shape: import direction and confined imports, read from the source text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "uav_perception"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import rooms of a lower level, and itself. Stages of one level never import each other.
LEVEL = {
    "errors": 0, "geometry": 0,
    "parameters": 0.3, "records": 0.5, "config": 0.5,
    "engine": 1, "camera": 1, "flight": 1,
    "detect": 2, "track": 2, "depth_pose": 2,
    "pipeline": 3,
    "runtime": 4,
    "offline": 5, "ros": 5, "builder": 5, "sim": 5,
    "cli": 6,
}
SAME_LEVEL = {("sim", "offline"), ("offline", "builder"), ("ros", "offline"), ("builder", "offline")}
# the camera room opens bags and simulated flights by a lazy import: these are its variants, not its foundations
LAZY = {("camera", "sim"), ("camera", "offline"), ("pipeline", "detect")}
CONFINED = {  # module -> the only places that may import it
    "tensorrt": {"engine/tensorrt.py", "builder/"},
    "pycuda": {"engine/"},
    "cuda": {"engine/"},
    "tensorrt_rtx_bindings": {"builder/"},
    "onnxruntime": {"engine/onnxruntime.py", "builder/"},
    "rclpy": {"ros/"},
    "pymavlink": {"flight/mavlink.py"},
    "torch": set(),
}


def imports(path: Path) -> list[tuple[str, bool]]:
    """(absolute module, at module level?) of every import in a file; relative ones resolved."""
    tree = ast.parse(path.read_text())
    top = {id(n) for n in tree.body}
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name, id(node) in top) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [module] if node.module else [f"{module}.{a.name}" for a in node.names]
            found += [(name, id(node) in top) for name in names]
    return found


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_import_direction(path: Path) -> None:
    here = room(path)
    for module, top in imports(path):
        parts = module.split(".")
        if parts[0] != "uav_perception" or len(parts) < 2 or here == "__init__":
            continue
        there = parts[1]
        if there == here or there not in LEVEL:
            continue
        allowed = LEVEL[there] < LEVEL[here] or (here, there) in SAME_LEVEL or (not top and (here, there) in LAZY)
        assert allowed, f"{path.relative_to(ROOT)} imports {module}: {here} may not know {there}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_confined_imports(path: Path) -> None:
    inside = path.relative_to(PACKAGE).as_posix()
    for module, _ in imports(path):
        places = CONFINED.get(module.split(".")[0])
        if places is not None:
            assert any(inside.startswith(p) for p in places), f"{inside} imports {module}, confined to {places or 'training/'}"


def test_every_room_is_on_the_map() -> None:
    assert {room(p) for p in FILES} - {"__init__"} <= set(LEVEL)


def test_no_file_outgrows_a_reader() -> None:
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long, f"files above 400 lines want splitting: {long}"


def test_project_files_name_no_machine_path_or_registry_host() -> None:
    banned = ["/work" + "/", "pypi" + ".org", "files." + "pythonhosted", "registry." + "npmjs"]
    for path in [*FILES, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.txt"), *ROOT.glob("*.toml"), ROOT / "Makefile"]:
        text = path.read_text()
        for word in banned:
            assert word not in text, f"{path.relative_to(ROOT)} contains {word}"
