"""A small real world for the graph: pictures on disk, a tiny model, processes and a client in a domain of their own."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from uav_perception.ros import graph
from uav_perception.runtime.supervisor import clean_shared_memory

HERE = importlib.util.find_spec("rclpy") is not None
collect_ignore_glob = [] if HERE else ["test_*.py"]

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 320, 240


def pytest_report_header() -> str:
    return "test/ros: real rclpy and DDS" if HERE else "test/ros is left out: no ROS 2 for Python on this machine"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A flight sideways over a textured plane: 4 px a frame."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    ground = cv2.resize(rng.integers(0, 255, (60, 200, 3), np.uint8), (1600, 480), interpolation=cv2.INTER_CUBIC)
    for i in range(60):
        cv2.imwrite(str(folder / f"{i:04d}.png"), ground[100 : 100 + HEIGHT, 4 * i : 4 * i + WIDTH],
                    [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return folder


@pytest.fixture(scope="session")
def calibration(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("calibration") / "camera.yaml"
    k = [300.0, 0, WIDTH / 2, 0, 300.0, HEIGHT / 2, 0, 0, 1]
    file.write_text(f"image_width: {WIDTH}\nimage_height: {HEIGHT}\ncamera_name: test\n"
                    f"camera_matrix: {{rows: 3, cols: 3, data: {k}}}\ndistortion_model: plumb_bob\n"
                    "distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n")
    return file


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """An end-to-end model that sees the same two boxes in every picture of 64 x 64 px."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    boxes = np.array([[[10, 20, 30, 40, 0.9, 0], [40, 30, 60, 50, 0.8, 1]]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["images"], ["peak"], keepdims=0),
         helper.make_node("Mul", ["peak", "zero"], ["nothing"]),
         helper.make_node("Add", ["boxes", "nothing"], ["output"])],
        "two_boxes", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2, 6])],
        [helper.make_tensor("boxes", TensorProto.FLOAT, boxes.shape, boxes.ravel()),
         helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])])
    file = tmp_path_factory.mktemp("model") / "two_boxes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    return file


@pytest.fixture(scope="module")
def domain() -> int:
    """A ROS domain nobody else uses."""
    return 1 + (os.getpid() * 7 + int(time.monotonic() * 10)) % 100


class Processes:
    """Starts modules of the package in a domain and ends them whatever happens."""

    def __init__(self, domain: int, folder: Path) -> None:
        self._domain, self._folder, self._started = domain, folder, []

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ROS_DOMAIN_ID": str(self._domain), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(self, module: str, *arguments: str) -> subprocess.Popen:
        log = self._folder / f"{module}_{len(self._started)}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen([sys.executable, "-m", f"uav_perception.{module}", *arguments], stdout=out,
                                       stderr=out, env=self.environment(), cwd=self._folder)
        process.log = log
        self._started.append(process)
        return process

    def node(self, module: str, parameters: dict[str, dict], namespace: str = "", *more: str) -> subprocess.Popen:
        """``parameters``: node -> values."""
        file = self._folder / f"parameters_{len(self._started)}.yaml"
        graph.write_overrides(parameters, file)
        words = ["--ros-args", "--params-file", str(file), *(("-r", f"__ns:={namespace}") if namespace else ()), *more]
        return self.start(f"ros.{module}", *words)

    def end(self, process: subprocess.Popen, number: int = signal.SIGINT, seconds: float = 3.0) -> tuple[int, str]:
        """Exit code (None when it had to be killed) and all it wrote."""
        process.send_signal(number)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            process.kill()
            process.wait()
        return code, process.log.read_text()

    def end_all(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def processes(domain, tmp_path_factory):
    started = Processes(domain, tmp_path_factory.mktemp("logs"))
    yield started
    started.end_all()
    clean_shared_memory()


class Client:
    """A node of somebody else: plain rclpy, its own executor thread, keeps all it hears."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        from uav_perception.runtime.process import choose_transport

        choose_transport()
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("somebody_else", context=self.context)
        self.heard: dict[str, list] = defaultdict(list)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._stop = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stop:
            self._executor.spin_once(timeout_sec=0.05)

    def listen(self, topic: str, kind, qos) -> None:
        self.node.create_subscription(kind, topic, self.heard[topic].append, qos)

    def until(self, done, seconds: float = 20.0) -> bool:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def call(self, kind, name: str, request, seconds: float = 10.0):
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(seconds), f"no service {name}"
        future = client.call_async(request)
        assert self.until(future.done, seconds), f"no answer from {name}"
        return future.result()

    def destroy(self, publisher) -> None:
        """On the executor's thread: rclpy's wait sets do not bear a publisher that ends while they are filled."""
        task = self._executor.create_task(self.node.destroy_publisher, publisher)
        assert self.until(task.done, 10.0), "the executor's thread has ended"

    def diagnostics(self, node: str) -> list:
        """What a node has said about itself, oldest first."""
        return [s for m in self.heard["/diagnostics"] for s in m.status if s.name == node]

    def last_diagnostics(self, node: str):
        """The newest of them; a stale status without values before a node has said anything."""
        from diagnostic_msgs.msg import DiagnosticStatus

        return next(iter(self.diagnostics(node)[::-1]), DiagnosticStatus(name=node, level=DiagnosticStatus.STALE))

    def close(self) -> None:
        self._stop = True
        self._thread.join(2.0)
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture(scope="module")
def client(domain):
    somebody = Client(domain)
    from diagnostic_msgs.msg import DiagnosticArray

    somebody.listen("/diagnostics", DiagnosticArray, 100)
    yield somebody
    somebody.close()
