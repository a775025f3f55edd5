"""The messages built here are upstream's: the RIHS01 hash covers every field name, type and order, recursively."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from uav_perception.ros.interfaces import DEFINITIONS, build

# of vision_msgs 4.1 and tf2_msgs as distributed with ROS 2 Jazzy
UPSTREAM = {
    "vision_msgs/msg/Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/msg/BoundingBox2D": "RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "tf2_msgs/msg/TFMessage": "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_hash_equals_upstream(name):
    package, _, message = name.split("/")
    if build.provided_elsewhere(package):
        pytest.skip(f"{package} is the distribution's own")
    description = json.loads((Path(sys.prefix) / "share" / package / "msg" / f"{message}.json").read_text())
    assert {h["type_name"]: h["hash_string"] for h in description["type_hashes"]}[name] == UPSTREAM[name]


def test_every_message_survives_serialisation():
    import importlib

    from rclpy.serialization import deserialize_message, serialize_message

    for package, messages in DEFINITIONS.items():
        module = importlib.import_module(f"{package}.msg")
        for name in messages:
            cls = getattr(module, name)
            assert deserialize_message(serialize_message(cls()), cls) == cls()


def test_second_build_has_nothing_to_do(monkeypatch, capsys):
    monkeypatch.setattr(build, "build", lambda package: pytest.fail(f"{package} was built again"))
    monkeypatch.setattr(sys, "argv", ["build"])
    assert build.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(DEFINITIONS)


def test_without_a_compiler_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["build", "--force"])
    assert build.main() == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "no-such-compiler" in lines[0] and "ziglang" in lines[0]
