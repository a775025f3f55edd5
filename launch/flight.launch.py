"""The live graph under `ros2 launch`: thin over uav_perception.ros.graph, which `fly` uses too.

    ros2 launch uav_perception flight.launch.py source:=v4l2:/dev/video0 fc:=serial:/dev/ttyTHS1:921600
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from uav_perception.ros import graph

ARGUMENTS = {
    "params_file": (str(graph.parameter_file() or ""), "ROS parameter file of all nodes"),
    "source": ("", "camera.source: demo, a video, an image folder, bag:PATH, v4l2:/dev/video0, csi:0, rtsp://..., topic"),
    "detector": ("", "detector.model: engine, manifest folder or ONNX file"),
    "fc": ("", "flight_link.url: udpout:host:port, udpin:host:port, serial device[:baud]"),
    "record": ("", "bag to write, e.g. /data/flight.mcap; empty: no recording"),
    "composed": ("true", "perception nodes in one process (true) or each in its own (false)"),
    "namespace": ("", "ROS namespace of the whole graph"),
    "use_sim_time": ("false", "follow /clock (a bag being replayed, a simulator)"),
}


def nodes(context):
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    given = graph.overrides(source=value["source"], detector=value["detector"], fc=value["fc"], bag=value["record"])
    actions = []
    for process in graph.processes(value["composed"].lower() == "true", bool(value["record"])):
        parameters = [value["params_file"]] if value["params_file"] else []
        arguments = ["--ros-args", "-p", f"use_sim_time:={value['use_sim_time']}"]
        for node in process.nodes:
            for name, setting in given.get(node, {}).items():
                arguments += ["-p", f"{node}:{name}:={graph.quoted(setting)}"]
        actions.append(Node(package=graph.PACKAGE, executable=process.executable, namespace=value["namespace"],
                            parameters=parameters, arguments=arguments, output="screen", respawn=True,
                            respawn_delay=1.0))
    return actions


def generate_launch_description():
    declared = [DeclareLaunchArgument(n, default_value=d, description=t) for n, (d, t) in ARGUMENTS.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])
