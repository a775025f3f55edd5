"""ROS parameters from the config dataclasses: the same names, ranges and defaults; nothing is declared twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, ParameterType, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..config import ROS_PARAMETERS, NodeConfig
from ..errors import ConfigError
from ..parameters import Checked, make

C = TypeVar("C", bound=Checked)
_TYPES: dict[Any, int] = {bool: ParameterType.PARAMETER_BOOL, int: ParameterType.PARAMETER_INTEGER,
                          float: ParameterType.PARAMETER_DOUBLE, str: ParameterType.PARAMETER_STRING}
_ARRAYS: dict[Any, int] = {str: ParameterType.PARAMETER_STRING_ARRAY, float: ParameterType.PARAMETER_DOUBLE_ARRAY,
                           int: ParameterType.PARAMETER_INTEGER_ARRAY, bool: ParameterType.PARAMETER_BOOL_ARRAY}


class Parameters:
    """The parameters of one node: its own config, the common ``NodeConfig``, and nested ones under a prefix.

    ``node`` must have been made with ``automatically_declare_parameters_from_overrides=True``: what a parameter file
    or command line gives is then known before it is declared, so that an unknown name or a wrong type becomes one
    clear line instead of silence or a traceback. An integer for a double is taken as a double.

    Raises:
        ConfigError: unknown parameter, wrong type, out of range.
    """

    def __init__(self, node: Node, config: type, nested: dict[str, type] | None = None) -> None:
        self._node = node
        self._sections: dict[str, type] = {"": config, **{f"{k}.": v for k, v in (nested or {}).items()}}
        known = {f"{prefix}{f.name}" for prefix, cls in self._every() for f in dataclasses.fields(cls)}
        given = {name: p for name, p in node.get_parameters_by_prefix("").items()
                 if name.split(".")[0] not in ROS_PARAMETERS}
        for name in given:
            if name not in known:
                raise ConfigError(f"unknown parameter {node.get_name()}.{name}", f"one of {', '.join(sorted(known))}",
                                  "correct the name in the parameter file")
        for prefix, cls in self._every():
            values = {f.name: _plain(given[prefix + f.name].value) for f in dataclasses.fields(cls)
                      if prefix + f.name in given}
            self._declare(prefix, cls, make(cls, values))
        node.add_on_set_parameters_callback(self._check)

    def _every(self) -> Sequence[tuple[str, type]]:
        return [*self._sections.items(), ("", NodeConfig)]

    def _declare(self, prefix: str, cls: type, config: Any) -> None:
        hints = get_type_hints(cls)
        for f in dataclasses.fields(cls):
            name, value = prefix + f.name, getattr(config, f.name)
            if self._node.has_parameter(name):
                self._node.undeclare_parameter(name)
            parameter = _ros_value(value, hints[f.name])
            self._node.declare_parameter(name, parameter.value, _descriptor(name, hints[f.name], f.metadata),
                                         ignore_override=True)

    def read(self, cls: type[C], prefix: str = "") -> C:
        """The config as the parameters are now.

        Raises:
            ConfigError: values that do not go together.
        """
        return make(cls, {f.name: _plain(self._node.get_parameter(prefix + f.name).value)
                          for f in dataclasses.fields(cls)})  # type: ignore[arg-type]

    def _check(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        for prefix, cls in self._every():
            names = {prefix + f.name: f.name for f in dataclasses.fields(cls)}
            values = {names[p.name]: _plain(p.value) for p in parameters if p.name in names}
            try:
                make(cls, values)
            except ConfigError as e:
                return SetParametersResult(successful=False, reason=str(e))
        return SetParametersResult(successful=True)


def _plain(value: Any) -> Any:
    return list(value) if not isinstance(value, str | bool | int | float) else value


def _ros_value(value: Any, kind: Any) -> Parameter[Any]:
    array = getattr(kind, "__origin__", None) is tuple
    type_ = _ARRAYS[kind.__args__[0]] if array else _TYPES[kind]
    return Parameter("", Parameter.Type(type_), list(value) if array else value)


def _descriptor(name: str, kind: Any, meta: Any) -> ParameterDescriptor:
    d = ParameterDescriptor(name=name, description=meta["doc"])
    lo, hi, choices = meta["lo"], meta["hi"], meta["choices"]
    if kind is int and lo is not None and hi is not None:
        d.integer_range = [IntegerRange(from_value=int(lo), to_value=int(hi), step=1)]
    if kind is float and lo is not None and hi is not None:
        d.floating_point_range = [FloatingPointRange(from_value=float(lo), to_value=float(hi), step=0.0)]
    if choices:
        d.additional_constraints = f"one of {', '.join(map(str, choices))}"
    return d
