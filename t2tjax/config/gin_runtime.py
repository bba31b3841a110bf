"""The only module that touches gin's registry and its global state.

`names` looks up what decorators registered; `loader` binds the checked
configuration here and asks for the arguments of the run function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import copy
import inspect
from typing import TYPE_CHECKING, Any

import gin
from gin import config as gin_config

from t2tjax.config import values

if TYPE_CHECKING:
  from t2tjax.config.names import Target

# What the current configuration registered, by gin's name for it.
_OURS: dict[str, Callable[..., Any]] = {}


def reset() -> None:
  """Forgets the current configuration and all that it registered."""
  gin.clear_config()
  for selector, function in _OURS.items():
    gin_config._REGISTRY.pop(selector)
    gin_config._INVERSE_REGISTRY.pop(function)
  _OURS.clear()


def find_registered(selector: str) -> tuple[str, str, Any] | None:
  """Finds what a library registered with gin's own decorators.

  Args:
    selector: Full or partial name.

  Returns:
    Module, path within it and the function or class; None if nothing, or
    more than one thing, has this name.
  """
  matches = gin_config._REGISTRY.matching_selectors(selector)
  if len(matches) != 1:
    return None
  found = gin_config._REGISTRY[matches[0]]
  return found.module or "", found.name, found.wrapped


def constant(name: str) -> Any:
  """Returns the value of a gin constant, `NO_CONSTANT` if there is none."""
  if gin_config._CONSTANTS.matching_selectors(name):
    return gin.query_parameter(name)
  return NO_CONSTANT


NO_CONSTANT = object()
REQUIRED = gin.REQUIRED


def activate(
  targets: list[Target],
  bindings: list[values.Binding],
  macros: Mapping[str, values.Binding],
) -> None:
  """Makes a configuration gin's current one, after a `reset`.

  Args:
    targets: Everything that is bound or referenced.
    bindings: Final value of every bound parameter.
    macros: Final value of every macro.

  Raises:
    TypeError: if gin cannot wrap one of the targets.
  """
  # Methods before their classes: registering the class picks them up.
  for target in sorted(targets, key=lambda t: t.owner is None):
    _register(target)
  config = gin_config._CONFIG
  for binding in bindings:
    assert binding.target is not None
    key = (binding.scope, _selector(binding.target))
    config.setdefault(key, {})[binding.name] = _live(binding.value, macros)


def arguments(target: Target) -> dict[str, Any]:
  """Builds the bound arguments of a function, references called."""
  return gin.get_bindings(target.object)


def _register(target: Target) -> None:
  if is_decorated(target):
    return  # The library's own name and wrapper are used.
  module, _, name = target.key.rpartition(".")
  if target.owner is not None:
    module = target.owner.key
  gin.external_configurable(target.object, name=name, module=module)
  _OURS[f"{module}.{name}"] = target.object


def is_decorated(target: Target) -> bool:
  """True for what a library made configurable by itself."""
  found = gin_config._inverse_lookup(target.object)
  return found is not None and found.selector not in _OURS


def _selector(target: Target) -> str:
  return gin_config._inverse_lookup(target.object).selector


class _Reference:
  """A reference that gin resolves when it copies a bound value."""

  def __init__(self, ref: values.Ref):
    assert ref.target is not None
    self._target = ref.target
    self._evaluate = ref.evaluate
    self._scopes = ref.scope.split("/") if ref.scope else []

  def __deepcopy__(self, memo: dict[int, Any]) -> Any:
    configurable = gin_config._inverse_lookup(self._target.object)
    function: Callable[..., Any] = gin_config._decorate_with_scope(
      configurable, scope_components=self._scopes
    )
    return function() if self._evaluate else function


class _Macro:
  """A macro with references in it, resolved in a scope of its own name."""

  def __init__(self, name: str, value: Any):
    self._scopes = name.split("/")
    self._value = value

  def __deepcopy__(self, memo: dict[int, Any]) -> Any:
    with gin.config_scope(self._scopes):
      return copy.deepcopy(self._value)


def _live(value: Any, macros: Mapping[str, values.Binding]) -> Any:
  def leaf(item: Any) -> Any:
    if isinstance(item, values.Ref):
      return _Reference(item)
    if isinstance(item, values.Bare):
      return item.text
    if isinstance(item, values.MacroRef):
      known = constant(item.name)
      if known is not NO_CONSTANT:
        return known
      return _Macro(item.name, _live(macros[item.name].value, macros))
    return item

  return values.map_leaves(leaf, value)


def signature(function: Callable[..., Any]) -> inspect.Signature | None:
  """Returns the parameters gin can bind; None if Python cannot tell them."""
  target = function
  if inspect.isclass(function):
    target = gin_config._find_class_construction_fn(function)
    if target is object.__init__:
      return inspect.Signature()
  try:
    found = inspect.signature(target)
  except (TypeError, ValueError):
    return None
  parameters = list(found.parameters.values())
  if inspect.isclass(function):
    parameters = parameters[1:]
  return found.replace(parameters=parameters)
