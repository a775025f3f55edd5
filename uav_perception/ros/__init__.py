"""The stages behind ROS 2: thin adapters. ``rclpy`` is imported only in this room."""

import os
import signal
import sys

if sys.argv[:1] == ["-m"]:  # `python -m uav_perception.ros.NODE` is still importing: a Ctrl-C now just ends it
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
