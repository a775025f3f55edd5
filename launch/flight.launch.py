"""The live graph under `ros2 launch`: thin over uav_perception.ros.graph, which `fly` uses too.

    ros2 launch uav_perception flight.launch.py source:=v4l2:/dev/video0 fc:=serial:/dev/ttyTHS1:921600
"""

import tempfile
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from uav_perception.ros import graph

ARGUMENTS = {
    "params_file": (str(graph.parameter_file() or ""), "ROS parameter file of all nodes"),
    "source": ("", "camera.source: demo, video, image folder, bag:PATH, v4l2:/dev/video0, csi:0, rtsp://..., topic"),
    "detector": ("", "detector.model: engine, manifest folder or ONNX file"),
    "fc": ("", "flight_link.url: udpout:host:port, udpin:host:port, serial device[:baud]"),
    "record": ("", "bag to write, e.g. /data/flight.mcap; empty: no recording"),
    "composed": ("true", "perception nodes in one process (true) or each in its own (false)"),
    "namespace": ("", "ROS namespace of the whole graph"),
    "use_sim_time": ("false", "follow /clock (a bag being replayed, a simulator)"),
}


def nodes(context):
    """The processes of the graph for these arguments."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    given = graph.overrides(value["source"], value["detector"], value["fc"], value["record"],
                            sim_time=value["use_sim_time"].lower() == "true")
    overrides = graph.write_overrides(given, Path(tempfile.mkdtemp(prefix="uav_perception_")) / "params.yaml")
    files = [f for f in (value["params_file"], str(overrides)) if f]
    return [Node(package=graph.PACKAGE, executable=process.executable, namespace=value["namespace"], parameters=files,
                 output="screen", respawn=True, respawn_delay=1.0)
            for process in graph.processes(value["composed"].lower() == "true", bool(value["record"]))]


def end_on_bad_input(event, context):
    """Starting a process again helps after a crash, not after a wrong path: it has said what is wrong."""
    return [EmitEvent(event=Shutdown(reason=f"{event.process_name}: bad input"))] if event.returncode == 2 else []


def generate_launch_description():
    """What `ros2 launch` asks for."""
    declared = [DeclareLaunchArgument(n, default_value=d, description=t) for n, (d, t) in ARGUMENTS.items()]
    return LaunchDescription([*declared, RegisterEventHandler(OnProcessExit(on_exit=end_on_bad_input)),
                              OpaqueFunction(function=nodes)])
