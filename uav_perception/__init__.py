"""Onboard real-time perception for UAVs: detect, track, depth and ego-motion, autopilot link.

Start reading at :mod:`uav_perception.pipeline`: the path of one frame through all stages.
"""

__version__ = "0.1.0"
