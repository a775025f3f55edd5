"""The exception tree. Every message names the value, what was expected, and the remedy."""

from __future__ import annotations


class UavPerceptionError(Exception):
    """Base of all errors this package raises on purpose.

    Args:
        value: what was found, as a person would say it (``"width -3"``).
        expected: what would have been right (``"a width of at least 1 px"``).
        remedy: what to do now (``"check camera_info"``).
    """

    exit_code = 1

    def __init__(self, value: str, expected: str, remedy: str) -> None:
        self.value, self.expected, self.remedy = value, expected, remedy
        super().__init__(f"{value}; expected {expected}; {remedy}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Survive the trip between worker processes with all three parts."""
        return type(self), (self.value, self.expected, self.remedy)


class InputError(UavPerceptionError):
    """Bad arguments or bad input: the command line ends with exit code 2."""

    exit_code = 2


class RecordError(InputError):
    """A record was given fields that cannot be true (wrong shape, NaN, negative size)."""


class ConfigError(InputError):
    """A parameter is unknown, of the wrong type, or outside its range."""


class SourceError(InputError):
    """A camera, video, folder or bag cannot be opened or read."""


class BagError(InputError):
    """A bag cannot be read, or lacks the topic asked for."""


class ModelError(InputError):
    """A model file is missing, broken, or not of the declared layout."""


class EngineMismatch(ModelError):
    """An engine does not belong to this device, model or preprocessing."""


class MissingDependency(InputError):
    """An optional package or system library this feature needs is not installed."""


class WorkFailed(UavPerceptionError):
    """Inputs were fine but the work did not succeed (exit code 1)."""


class GateMissed(WorkFailed):
    """A quality gate (accuracy drop, regression tolerance) was not met."""


class LinkError(UavPerceptionError):
    """The link to the autopilot cannot be opened or has failed."""

    exit_code = 2
