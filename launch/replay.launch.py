"""A bag into the live graph under `ros2 launch`: flight.launch.py on simulated time, and a player.

    ros2 launch uav_perception replay.launch.py bag:=/data/flight rate:=1.0

`ros2 bag play` is the player where it is installed, `uav-perception replay` elsewhere (player:=own asks for it).
"""

import shutil
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from uav_perception.ros import replay

ARGUMENTS = {
    "bag": (None, "rosbag2 folder or file, or rosbag1"),
    "rate": ("1.0", "speed"),
    "loop": ("false", "start again at the end"),
    "start": ("0.0", "seconds into the bag"),
    "player": ("auto", "ros2bag, own, or auto: ros2 bag play where it is installed"),
}


def player(context):
    """The process that plays."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    looped = ["--loop"] if value["loop"].lower() == "true" else []
    if value["player"] == "own" or (value["player"] == "auto" and not has_ros2bag()):
        words = [value["bag"], "--rate", value["rate"], "--start", value["start"], *looped]
        return [Node(package="uav_perception", executable="replay", arguments=words, output="screen")]
    command = ["ros2", "bag", "play", value["bag"], "--clock", "100", "--rate", value["rate"],
               "--start-offset", value["start"], *looped, "--remap", *replay.remappings(Path(value["bag"]))]
    return [ExecuteProcess(cmd=command, output="screen")]


def has_ros2bag():
    """Whether the distro's player is here."""
    try:
        import ros2bag  # noqa: F401
    except ImportError:
        return False
    return shutil.which("ros2") is not None


def generate_launch_description():
    """What `ros2 launch` asks for."""
    declared = [DeclareLaunchArgument(n, default_value=d, description=t) for n, (d, t) in ARGUMENTS.items()]
    flight = PythonLaunchDescriptionSource(str(Path(__file__).with_name("flight.launch.py")))
    graph = IncludeLaunchDescription(flight, launch_arguments={"source": "topic", "use_sim_time": "true"}.items())
    return LaunchDescription([*declared, graph, OpaqueFunction(function=player)])
