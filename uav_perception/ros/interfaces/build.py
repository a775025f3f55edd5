"""Make `vision_msgs` and `tf2_msgs` importable on a machine whose ROS 2 comes from wheels.

Run once by the set-up: ``python -m uav_perception.ros.interfaces.build``. A distro's own packages are used where
they import; otherwise the field lists are generated with the rosidl generators (part of the wheels) and compiled
with the C/C++ compiler into this environment's site-packages. A second run finds its own stamp and does nothing.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...errors import MissingDependency, UavPerceptionError, WorkFailed
from . import DEFINITIONS

STAMP = "uav_perception_build.json"
# lets ROS tools find this environment's packages without a setup script to source; a sourced distribution wins
PTH_FILE = "uav_perception_ament.pth"
PTH_TEXT = "import os, sys; os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)\n"
# packages whose messages ours contain, and what every generated message description refers to
DEPENDENCIES = ("builtin_interfaces", "std_msgs", "geometry_msgs", "service_msgs", "action_msgs",
                "unique_identifier_msgs")
# how messages are serialised, and how middleware describes them to others (without it, it complains at each use)
FASTRTPS, INTROSPECTION = "rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c"


def site_packages() -> Path:
    """Where this environment keeps packages with compiled parts."""
    return Path(sysconfig.get_paths()["platlib"])


def provided_elsewhere(package: str) -> bool:
    """True where the package imports from somewhere that is not our own build."""
    spec = importlib.util.find_spec(package)
    return spec is not None and not (site_packages() / package / STAMP).is_file()


def _stamp(package: str) -> dict[str, str]:
    digest = hashlib.sha256(repr(sorted(DEFINITIONS[package].items())).encode() + Path(__file__).read_bytes())
    return {"python": sys.version.split()[0].rsplit(".", 1)[0], "rosidl": version("rosidl_generator_c"),
            "source": digest.hexdigest()}


def is_built(package: str) -> bool:
    """True where site-packages holds this very build: same fields, generators, Python and build script."""
    file = site_packages() / package / STAMP
    try:
        return bool(json.loads(file.read_text()) == _stamp(package))
    except (OSError, ValueError):
        return False


def build(package: str) -> None:
    """Generate, compile and install one package.

    Raises:
        MissingDependency: no rosidl generators or no compiler.
        WorkFailed: the compiler refused.
    """
    compilers = _compilers()
    with tempfile.TemporaryDirectory(prefix=f"{package}-") as folder:
        work = Path(folder)
        generated = work / "include" / package
        generated.mkdir(parents=True)
        interfaces = _generate(package, work / "source", generated)
        library = work / f"{package}_s__rosidl_typesupport_c.so"
        _compile(package, generated, library, compilers)
        _install(package, generated, interfaces, library)


def _compilers() -> tuple[list[str], list[str]]:
    cc, cxx = os.environ.get("CC", "cc").split(), os.environ.get("CXX", "c++").split()
    if shutil.which(cc[0]) and shutil.which(cxx[0]):
        return cc, cxx
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"], [sys.executable, "-m", "ziglang", "c++"]
    raise MissingDependency(f"no C/C++ compiler ({cc[0]}, {cxx[0]})", "one to build the vision_msgs and tf2_msgs types",
                            "install g++ (apt install g++) or `pip install ziglang`, or use a ROS 2 distro's packages")


def _generate(package: str, source: Path, generated: Path) -> list[Path]:
    """Write .msg and .idl files and all generated C, C++ and Python; returns the .msg paths relative to ``source``."""
    try:
        adapter, parser, pycommon, describe, to_c, to_python, to_fastrtps, to_introspection, to_typesupport = map(
            importlib.import_module, ("rosidl_adapter", "rosidl_parser.parser", "rosidl_pycommon",
                                      "rosidl_generator_type_description", "rosidl_generator_c",
                                      "rosidl_generator_py.generate_py_impl", FASTRTPS, INTROSPECTION,
                                      "rosidl_typesupport_c"))
    except ImportError as e:
        raise MissingDependency(f"no module {e.name}", "the rosidl generators of ROS 2 (Iron or later)",
                                "install the ros-* wheels, or your distro's ros-$ROS_DISTRO-"
                                f"{package.replace('_', '-')}") from e
    # Each of the five generators parses every file again, 0.1 s a time: share one parse between them.
    parse = functools.lru_cache(None)(functools.partial(_parse, parser.parse_idl_file, parser.IdlLocator))
    module: Any
    for module in (parser, pycommon, describe, to_python):
        module.parse_idl_file = lambda locator, *_: parse(str(locator.basepath), str(locator.relative_path))

    messages = []
    for name, fields in DEFINITIONS[package].items():
        file = Path("msg") / f"{name}.msg"
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text(fields)
        messages.append(file)
    _quietly(lambda: [adapter.convert_to_idl(source, package, f, generated) for f in messages])
    idl = [f.with_suffix(".idl") for f in messages]
    share = Path(sys.prefix) / "share"

    def arguments(generator: str, **extra: Any) -> str:
        file = generated / f"{generator}.json"
        file.write_text(json.dumps({
            "package_name": package, "output_dir": str(generated), "template_dir": str(share / generator / "resource"),
            "idl_tuples": [f"{generated}:{i}" for i in idl], "ros_interface_dependencies": [],
            "target_dependencies": [], **extra}))
        return str(file)

    describe.generate_type_hash(arguments(
        "rosidl_generator_type_description", include_paths=[f"{d}:{share / d}" for d in DEPENDENCIES]))
    to_c.generate_c(arguments(
        "rosidl_generator_c", ros_interface_files=[str(source / f) for f in messages],
        type_description_tuples=[f"{i}:{generated / i.with_suffix('.json')}" for i in idl]))
    to_fastrtps.generate_typesupport_fastrtps_c(arguments(FASTRTPS))
    to_introspection.generate_c(arguments(INTROSPECTION))
    to_typesupport.generate_c(arguments("rosidl_typesupport_c"), [FASTRTPS, INTROSPECTION])
    to_python.generate_py(arguments("rosidl_generator_py"), ["rosidl_typesupport_c"])
    for generator in ("rosidl_generator_c", FASTRTPS, INTROSPECTION):  # cmake's configure_file would do this
        header = f"{generator}__visibility_control.h"
        text = (share / generator / "resource" / f"{header}.in").read_text()
        text = text.replace("@PROJECT_NAME@", package).replace("@PROJECT_NAME_UPPER@", package.upper())
        (generated / "msg" / header).write_text(text)
    return messages


def _parse(parse: Any, locator: Any, base: str, relative: str) -> Any:
    return parse(locator(base, relative))


def _quietly(work: Any) -> None:
    """The .idl converter prints every path it reads and writes; nobody asked."""
    stdout, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115 - closed below
    try:
        work()
    finally:
        sys.stdout.close()
        sys.stdout = stdout


def _compile(package: str, generated: Path, library: Path, compilers: tuple[list[str], list[str]]) -> None:
    """One unity file a language (parsing the headers once is most of the time), then one shared library."""
    import numpy

    cc, cxx = compilers
    prefix = Path(sys.prefix)
    include = [generated.parent, Path(sysconfig.get_paths()["include"]), Path(numpy.get_include()),
               prefix / "include",
               *(d for d in sorted((prefix / "include").iterdir()) if d.is_dir() and not d.name.startswith("python"))]
    flags = ["-fPIC", "-O1", "-DNDEBUG", "-w", f'-DROS_PACKAGE_NAME="{package}"', *(f"-I{d}" for d in include)]
    descriptions = sorted(generated.rglob("*__description.c"))  # each defines the same static names: not in the unity
    units = {generated / "unity.c": sorted(set(generated.rglob("*.c")) - set(descriptions)),
             generated / "unity.cpp": sorted(generated.rglob("*.cpp"))}
    for unit, sources in units.items():
        unit.write_text("".join(f'#include "{s}"\n' for s in sources))

    def compile_one(source: Path) -> str:
        target = str(source) + ".o"
        language = [*cc, "-std=gnu11"] if source.suffix == ".c" else [*cxx, "-std=c++17"]
        _run([*language, *flags, "-c", str(source), "-o", target])
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, [generated / "unity.cpp", generated / "unity.c", *descriptions]))
    names = [f"{d}__rosidl_{k}" for d in DEPENDENCIES
             for k in ("generator_c", "generator_py", "typesupport_fastrtps_c", "typesupport_c")]
    names += [f"{d}__{INTROSPECTION}" for d in DEPENDENCIES]
    names += [FASTRTPS, INTROSPECTION, "rosidl_typesupport_c", "rosidl_runtime_c", "rcutils", "rmw"]
    present = [n for n in names if (prefix / "lib" / f"lib{n}.so").is_file()]
    fastcdr = sorted((prefix / "lib").glob("libfastcdr.so*"))
    _run([*cxx, "-shared", "-s", "-o", str(library), *objects, f"-L{prefix / 'lib'}", "-Wl,--as-needed",
          "-Wl,--allow-shlib-undefined", "-Wl,-rpath,$ORIGIN/../../..", *(f"-l:lib{n}.so" for n in present),
          *(f"-l:{f.name}" for f in fastcdr[:1])])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        first = next((line for line in lines if "error" in line), lines[-1])
        raise WorkFailed(f"compiling messages: {first}", "a compiler that accepts the generated sources",
                         "check g++ and the Python headers (apt install g++ python3-dev)")


def _install(package: str, generated: Path, messages: list[Path], library: Path) -> None:
    """Python package into site-packages; interface files and index entries into share/, where ROS tools look."""
    target = site_packages() / package
    fresh = target.with_name(f".{package}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "msg").mkdir(parents=True)
    (fresh / "__init__.py").write_text("")
    for file in (generated / "msg").glob("*.py"):
        shutil.copy(file, fresh / "msg")
    shutil.copy(library, fresh)
    (fresh / STAMP).write_text(json.dumps(_stamp(package)))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(fresh, target)
    for support in (FASTRTPS, INTROSPECTION):  # loaded by name when first used; both are in the one library
        link = Path(sys.prefix) / "lib" / f"lib{package}__{support}.so"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target / library.name, link.parent))

    share = Path(sys.prefix) / "share"
    (share / package / "msg").mkdir(parents=True, exist_ok=True)
    listed = []
    for message in messages:
        (share / package / message).write_text(DEFINITIONS[package][message.stem])
        for suffix in (".idl", ".json"):
            shutil.copy(generated / message.with_suffix(suffix), share / package / "msg")
        listed += [str(message.with_suffix(s)) for s in (".msg", ".idl", ".json")]
    index = share / "ament_index" / "resource_index"
    for kind, content in (("packages", ""), ("rosidl_interfaces", "\n".join(sorted(listed)) + "\n")):
        (index / kind).mkdir(parents=True, exist_ok=True)
        (index / kind / package).write_text(content)


def main() -> int:
    """Build what is missing; prints one line a package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--force", action="store_true", help="build again")
    args = parser.parse_args()
    try:
        for package in DEFINITIONS:
            if provided_elsewhere(package):
                print(f"{package}: the distro's own is used")
            elif is_built(package) and not args.force:
                print(f"{package}: already built")
            else:
                build(package)
                (site_packages() / PTH_FILE).write_text(PTH_TEXT)
                print(f"{package}: built into {site_packages() / package}")
    except UavPerceptionError as e:
        print(f"interfaces: {type(e).__name__}: {e}", file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
