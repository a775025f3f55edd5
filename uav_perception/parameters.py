"""How parameters are declared and checked: default, range, unit and meaning in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar, get_type_hints

from .errors import ConfigError


def param(default: Any, doc: str, *, lo: float | None = None, hi: float | None = None,
          choices: tuple[Any, ...] | None = None) -> Any:
    """Declare one parameter: default, meaning (with unit), inclusive range or allowed values."""
    meta = {"doc": doc, "lo": lo, "hi": hi, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Checked:
    """Base: every value is checked for type and range when a config is made."""

    section: ClassVar[str]  # its name in parameter files and errors

    def __init_subclass__(cls, section: str = "") -> None:
        cls.section = section or cls.__name__

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            object.__setattr__(self, f.name, _check(f"{self.section}.{f.name}", getattr(self, f.name),
                                                    hints[f.name], f.metadata))


def _check(name: str, value: Any, kind: Any, meta: Mapping[str, Any]) -> Any:
    remedy = f"set {name} in the parameter file ({meta.get('doc', '')})"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)  # YAML writes 1 for 1.0; ROS would refuse it with an exception
    origin = getattr(kind, "__origin__", None)
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{name} = {value!r}", "a list", remedy)
        item = kind.__args__[0]
        return tuple(_check(name, v, item, meta) for v in value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name} = {value!r}", f"a {kind.__name__}", remedy)
    lo, hi, choices = meta.get("lo"), meta.get("hi"), meta.get("choices")
    if choices is not None and value not in choices:
        raise ConfigError(f"{name} = {value!r}", f"one of {', '.join(map(str, choices))}", remedy)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low = lo is not None and not value >= lo
        if low or (hi is not None and not value <= hi) or value != value:
            raise ConfigError(f"{name} = {value}", f"a number from {lo} to {hi}", remedy)
    return value


C = TypeVar("C", bound=Checked)


def make(cls: type[C], values: Mapping[str, Any]) -> C:
    """Build a config from plain values; unknown names and wrong values raise ConfigError."""
    known = {f.name for f in fields(cls)}
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown parameter {cls.section}.{name}", f"one of {', '.join(sorted(known))}",
                              "correct the name in the parameter file")
    return cls(**values)
