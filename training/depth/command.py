"""What ``uav-perception train depth`` calls."""

from .train import add_arguments as arguments
from .train import run

__all__ = ["arguments", "run"]
