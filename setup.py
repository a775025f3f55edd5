"""One package for pip and colcon.

``ros2 run`` and launch files look for ``lib/uav_perception/<executable>`` and the ament index marker. colcon gets them
from setup.cfg; pip ignores that, so when a wheel is built small shell wrappers are written as data files.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "uav_perception"
EXECUTABLES = {  # what `ros2 run uav_perception …` offers -> module run with `python3 -m`
    "uav-perception": "uav_perception.cli.main",
    "perception": "uav_perception.ros.container",
    "camera": "uav_perception.ros.camera",
    "detector": "uav_perception.ros.detector",
    "tracker": "uav_perception.ros.tracker",
    "depth_pose": "uav_perception.ros.depth_pose",
    "flight_link": "uav_perception.ros.flight_link",
    "overlay": "uav_perception.ros.overlay",
    "recorder": "uav_perception.ros.recorder",
    "replay": "uav_perception.cli.replay",
}


def wrappers() -> list[str]:
    """Shell wrappers that start a module with the Python beside them (0755 survives in the wheel)."""
    folder = Path("build/executables")
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in EXECUTABLES.items():
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/../../bin/python3" -m {module} "$@"\n')
        file.chmod(0o755)
    return [str(folder / name) for name in EXECUTABLES]


def tree(folder: str) -> list[tuple[str, list[str]]]:
    """(share folder, files) of a folder and every folder in it; built plans stay where they were built."""
    inside = [p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.suffix not in (".plan", ".engine", ".pyc")]
    return [(f"share/{NAME}/{d}", [str(p) for p in inside if p.parent == d]) for d in sorted({p.parent for p in inside})]


data_files = [
    ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
    (f"share/{NAME}", ["package.xml"]),
    *tree("launch"),
    *tree("engines"),
    *tree("calib"),
]
scripts = {"uav-perception": "uav_perception.cli.main"}
if "bdist_wheel" in sys.argv:
    data_files.append((f"lib/{NAME}", wrappers()))
elif {"install", "develop"} & set(sys.argv):
    scripts = EXECUTABLES

setup(
    name=NAME,
    version="0.1.0",
    description="Onboard real-time perception for UAVs on ROS 2",
    license="Apache-2.0",
    maintainer="uav_perception maintainers",
    maintainer_email="maintainers@uav-perception.dev",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "sim/demo/*", "ros/interfaces/**/*", "offline/templates/*"]},
    data_files=data_files,
    zip_safe=False,
    install_requires=["numpy>=1.26", "pyyaml>=6", "scipy>=1.11", "onnxruntime>=1.21", "rosbags>=0.11.7",
                      "pymavlink>=2.4.40", "rich>=13", "lz4>=4", "backports.zstd>=1; python_version < '3.14'"],
    extras_require={
        # a robot has its own OpenCV (a Jetson's with GStreamer) and its distro's ROS 2; other machines take these
        "opencv": ["opencv-contrib-python-headless>=4.8"],
        "ros": ["ros-kilted-rclpy", "ros-kilted-rmw-fastrtps-cpp", "ros-kilted-std-msgs", "ros-kilted-sensor-msgs",
                "ros-kilted-geometry-msgs", "ros-kilted-nav-msgs", "ros-kilted-diagnostic-msgs",
                "ros-kilted-visualization-msgs", "ros-kilted-lifecycle-msgs", "ros-kilted-std-srvs",
                "ros-kilted-ament-index-python"],
        "builder": ["onnx>=1.15", "matplotlib>=3.8"],
        # trackeval itself is installed beside these without its dependencies (see Makefile): it asks for a second OpenCV
        "eval": ["faster-coco-eval>=1.6", "pycocotools>=2.0.7", "tabulate", "pillow", "matplotlib>=3.8", "jinja2>=3.1"],
        "sim": ["embreex>=4.4"],
        "train": ["torch>=2.2", "onnx>=1.15"],
        "rtx": ["tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12-libs", "nvidia-cuda-runtime-cu12"],
        "cluster": ["distributed>=2024.1"],
        "dev": ["pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100", "ruff>=0.5", "mypy>=1.10", "types-PyYAML"],
    },
    entry_points={"console_scripts": [
        f"{name} = {module}:{'run_main' if module.endswith('cli.main') else 'main'}" for name, module in scripts.items()
    ]},
)
