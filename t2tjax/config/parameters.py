"""Parameters of configurable functions and classes: types and defaults.

Called by `checks` and `resolved`; knows annotations that are strings.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
import inspect
import sys
import typing
from typing import Any

from t2tjax.config import gin_runtime

NO_DEFAULT = inspect.Parameter.empty
_GIVEN = "given by the caller"


@dataclasses.dataclass(frozen=True)
class Parameter:
  """One parameter that can be bound.

  Attributes:
    name: Its name.
    annotation: Its type; `Any` when unknown.
    default: Its default, or `NO_DEFAULT`.
    given: Whether the caller always passes it, as `typing.Given` says.
  """

  name: str
  annotation: Any
  default: Any
  given: bool = False

  @property
  def required(self) -> bool:
    """True when a call needs a value."""
    return self.default is NO_DEFAULT

  @property
  def hidden(self) -> bool:
    """True when it is the caller's, or its default a library's own mark."""
    kind = type(self.default)
    return (
      self.given or kind.__name__ == "_Sentinel" or kind.__module__ == "inspect"
    )


@dataclasses.dataclass(frozen=True)
class Parameters:
  """What can be bound on a function or class.

  Attributes:
    by_name: Named parameters in order.
    open: Whether any other name is accepted too.
  """

  by_name: dict[str, Parameter]
  open: bool

  def __getitem__(self, name: str) -> Parameter:
    return self.by_name.get(name) or Parameter(name, Any, NO_DEFAULT)


@functools.cache
def of(function: Callable[..., Any]) -> Parameters:
  """Returns the parameters of a function or class.

  Args:
    function: Function, class or callable object.

  Returns:
    Its parameters; open when Python cannot tell them.
  """
  signature = gin_runtime.signature(function)
  if signature is None:
    return Parameters({}, open=True)
  found: dict[str, Parameter] = {}
  is_open = False
  for name, parameter in signature.parameters.items():
    if parameter.kind is parameter.VAR_KEYWORD:
      is_open = True
    elif parameter.kind not in (
      parameter.VAR_POSITIONAL,
      parameter.POSITIONAL_ONLY,
    ):
      annotation = _annotation(function, parameter)
      default = parameter.default
      written = (annotation, *typing.get_args(annotation))  # None may be added.
      given = any(_GIVEN in getattr(a, "__metadata__", ()) for a in written)
      found[name] = Parameter(name, annotation, default, given)
  if inspect.isfunction(function) and next(iter(found), "") == "self":
    found.pop("self")
  return Parameters(found, is_open)


def _annotation(
  function: Callable[..., Any], parameter: inspect.Parameter
) -> Any:
  annotation = parameter.annotation
  if annotation is parameter.empty:
    default = parameter.default
    return type(default) if isinstance(default, (bool, str)) else Any
  if isinstance(annotation, str):
    annotation = _evaluate(function, parameter.name, annotation)
  if parameter.default is None and annotation is not Any:
    try:
      return typing.Optional[annotation]  # noqa: UP045 (any annotation)
    except TypeError:
      return Any
  return annotation


def _evaluate(function: Callable[..., Any], name: str, annotation: str) -> Any:
  """Evaluates an annotation where it was written; `Any` if that fails."""
  if inspect.isclass(function):
    homes = [c for c in function.__mro__ if name in _own_annotations(c)]
    spaces = [_namespace(home) for home in homes]
    init = inspect.unwrap(function.__init__)
    spaces.append(getattr(init, "__globals__", {}))
  else:
    spaces = [getattr(inspect.unwrap(function), "__globals__", {})]
  for space in spaces:
    try:
      return eval(annotation, dict(space))
    except Exception:
      # A name imported for type checkers only, or syntax of a later Python.
      continue
  return Any


def _own_annotations(cls: type) -> dict[str, Any]:
  return cls.__dict__.get("__annotations__", {})


def _namespace(cls: type) -> dict[str, Any]:
  module = sys.modules.get(cls.__module__)
  return {**vars(module), **vars(cls)} if module else dict(vars(cls))
