"""Values made to fit annotations: `1e5` for an int, `true`, a bare path.

Called by `checks` for every bound parameter; knows nothing of gin.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Callable
import inspect
import os
import types
import typing
from typing import Any, Literal

from t2tjax.config import values

_BOOLS = {"true": True, "false": False}
_ANYTHING = (Any, object, inspect.Parameter.empty)
_SEQUENCES = (
  list,
  tuple,
  collections.abc.Sequence,
  collections.abc.MutableSequence,
  collections.abc.Iterable,
  collections.abc.Collection,
)
_MAPPINGS = (
  dict,
  collections.abc.Mapping,
  collections.abc.MutableMapping,
)


class Mismatch(Exception):
  """A value does not fit; the message, if any, says how to write it."""


# Looks up what a macro stands for; returns `UNSET` when nothing is known.
MacroLookup = Callable[[values.MacroRef], Any]
UNSET = object()


def coerce(value: Any, annotation: Any, lookup: MacroLookup) -> Any:
  """Makes a value tree fit an annotation.

  Args:
    value: Value tree; macros in it are looked up where they are used.
    annotation: Type of the parameter.
    lookup: Finds the value tree of a macro.

  Returns:
    The value tree to bind. A macro that is plain data is replaced by that
    data, as this parameter needs it.

  Raises:
    Mismatch: if it does not fit.
  """
  if isinstance(value, values.MacroRef):
    stands_for = lookup(value)
    if stands_for is UNSET:
      return value
    fitted = coerce(stands_for, annotation, lookup)
    return value if values.has_refs(fitted) else fitted
  if annotation in _ANYTHING or isinstance(annotation, typing.TypeVar):
    return _untyped(value, lookup)
  if isinstance(annotation, typing.NewType):
    return coerce(value, annotation.__supertype__, lookup)
  origin = typing.get_origin(annotation)
  arguments = typing.get_args(annotation)
  if origin is typing.Annotated:
    return coerce(value, arguments[0], lookup)
  if origin in (typing.Union, types.UnionType):
    return _union(value, arguments, lookup)
  if origin is Literal:
    return _literal(value, arguments)
  if annotation in (None, type(None)):
    if value is None:
      return None
    raise Mismatch()
  base = origin or annotation
  if isinstance(value, values.Ref):
    return _reference(value, base)
  if base in _SCALARS:
    return _SCALARS[base](value)
  if base in _SEQUENCES:
    return _sequence(value, base, arguments, lookup)
  if base in _MAPPINGS:
    return _mapping(value, arguments, lookup)
  return _object(value, base)


def _untyped(value: Any, lookup: MacroLookup) -> Any:
  if isinstance(value, (list, tuple)):
    return type(value)(coerce(item, Any, lookup) for item in value)
  if isinstance(value, dict):
    return {
      coerce(key, Any, lookup): coerce(item, Any, lookup)
      for key, item in value.items()
    }
  if isinstance(value, values.Bare):
    if value.text.lower() in _BOOLS:
      return _BOOLS[value.text.lower()]
    raise Mismatch(_quote(value))
  return value


def _quote(value: values.Bare) -> str:
  if value.text.lower() in ("none", "null"):
    return "Write None."
  return f"Put text in quotes: {value.text!r}."


def _union(value: Any, arguments: tuple[Any, ...], lookup: MacroLookup) -> Any:
  """Prefers the member that takes the value as it is, then the first."""
  fitting, hints = [], []
  for argument in arguments:
    try:
      fitted = coerce(value, argument, lookup)
    except Mismatch as mismatch:
      hints.append(str(mismatch))
      continue
    if type(fitted) is type(value) and fitted == value:
      return fitted
    fitting.append(fitted)
  if fitting:
    return fitting[0]
  raise Mismatch(next(filter(None, hints), ""))


def _literal(value: Any, allowed: tuple[Any, ...]) -> Any:
  plain = value.text if isinstance(value, values.Bare) else value
  for choice in allowed:
    if plain == choice and isinstance(plain, bool) == isinstance(choice, bool):
      return choice
  if isinstance(plain, str) and plain.lower() in _BOOLS:
    return _literal(_BOOLS[plain.lower()], allowed)
  raise Mismatch()


def _bool(value: Any) -> bool:
  if isinstance(value, bool):
    return value
  if isinstance(value, values.Bare) and value.text.lower() in _BOOLS:
    return _BOOLS[value.text.lower()]
  raise Mismatch("Write True or False.")


def _int(value: Any) -> int:
  if isinstance(value, bool):
    raise Mismatch()
  if isinstance(value, int):
    return value
  if isinstance(value, float) and value.is_integer():
    return int(value)
  raise Mismatch(
    "Write a whole number." if isinstance(value, (float, values.Bare)) else ""
  )


def _float(value: Any) -> float:
  if isinstance(value, values.Bare):
    try:
      return float(value.text)
    except ValueError:
      raise Mismatch("Write a number.") from None
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise Mismatch()
  return float(value)


def _str(value: Any) -> str:
  if isinstance(value, values.Bare):
    return value.text
  if isinstance(value, str):
    return value
  if isinstance(value, (int, float)) and not isinstance(value, bool):
    raise Mismatch(f"Put text in quotes: '{value}'.")
  raise Mismatch()


_SCALARS: dict[Any, Callable[[Any], Any]] = {
  bool: _bool,
  int: _int,
  float: _float,
  str: _str,
  os.PathLike: _str,
}


def _sequence(
  value: Any, base: Any, arguments: tuple[Any, ...], lookup: MacroLookup
) -> Any:
  if isinstance(value, (str, values.Bare)):
    raise Mismatch(f"Write a list: [{values.show(value)}].")
  if not isinstance(value, (list, tuple)):
    raise Mismatch()
  if base is tuple and arguments and arguments[-1] is not Ellipsis:
    if len(arguments) != len(value):
      raise Mismatch(f"Write {len(arguments)} elements.")
    types_ = arguments
  else:
    types_ = (arguments[0] if arguments else Any,) * len(value)
  kind = base if base in (list, tuple) else type(value)
  return kind(
    coerce(item, type_, lookup)
    for item, type_ in zip(value, types_, strict=True)
  )


def _mapping(
  value: Any, arguments: tuple[Any, ...], lookup: MacroLookup
) -> dict[Any, Any]:
  if not isinstance(value, dict):
    raise Mismatch("Write a mapping: {'name': value}.")
  key_type, item_type = arguments if len(arguments) == 2 else (Any, Any)
  return {
    coerce(key, key_type, lookup): coerce(item, item_type, lookup)
    for key, item in value.items()
  }


def _is_function_type(base: Any) -> bool:
  return base in (collections.abc.Callable, type) or bool(
    getattr(base, "_is_protocol", False)
  )


def _reference(ref: values.Ref, base: Any) -> values.Ref:
  """Checks a reference as far as that can be told without calling it."""
  target = ref.target.object if ref.target else None
  if target is None or not inspect.isclass(base):
    return ref
  if _is_function_type(base):
    if ref.evaluate and base is collections.abc.Callable:
      if inspect.isclass(target) and not callable_instances(target):
        raise Mismatch(f"Leave out the brackets: {ref.text[:-2]}.")
    return ref
  if not ref.evaluate:
    raise Mismatch(f"Add brackets, so that it is called: {ref.text}().")
  result = target if inspect.isclass(target) else _return_type(target)
  if result is None or not inspect.isclass(result):
    return ref
  try:
    fits = issubclass(result, base)
  except TypeError:
    return ref
  if not fits and not (base is float and result is int):
    raise Mismatch()
  return ref


def callable_instances(cls: type) -> bool:
  """True when instances of a class can be called."""
  return any("__call__" in c.__dict__ for c in cls.__mro__)


def _return_type(function: Any) -> Any:
  """Return annotation of a function when it is a plain Python type."""
  found = getattr(function, "__annotations__", {}).get("return")
  plain = {t.__name__: t for t in (bool, int, float, str, list, tuple, dict)}
  if isinstance(found, str):
    return plain.get(found)
  return found if found in plain.values() else None


def _object(value: Any, base: Any) -> Any:
  """A value for a class of someone else's: only references make those."""
  if _is_function_type(base):
    if base not in (collections.abc.Callable, type) and _accepts(value, base):
      return value
    raise Mismatch("Name a function or class: @module.name.")
  if not inspect.isclass(base) or _accepts(value, base):
    return value.text if isinstance(value, values.Bare) else value
  raise Mismatch("Name what makes it: @module.name().")


def _accepts(value: Any, base: Any) -> bool:
  plain = value.text if isinstance(value, values.Bare) else value
  home = getattr(base, "__module__", "")
  if isinstance(plain, str) and home.split(".")[0] in _NAMED_BY_TEXT:
    return True
  try:
    return isinstance(plain, base)
  except TypeError:  # A protocol that cannot be asked, or a generic.
    return not _is_function_type(base)


# numpy.dtype and jax's data types may be given by name.
_NAMED_BY_TEXT = ("numpy", "jax", "ml_dtypes", "pathlib")


def type_name(annotation: Any) -> str:
  """Returns an annotation as a user would write it."""
  if annotation in (None, type(None)):
    return "None"
  origin = typing.get_origin(annotation)
  arguments = typing.get_args(annotation)
  if origin in (typing.Union, types.UnionType):
    return " | ".join(map(type_name, arguments))
  if origin is Literal:
    return "one of " + ", ".join(map(repr, arguments))
  if annotation is Ellipsis:
    return "..."
  if origin is collections.abc.Callable:
    return "a function or class"
  base = origin or annotation
  name = getattr(base, "__name__", None) or str(base)
  if arguments:
    return f"{name}[{', '.join(map(type_name, arguments))}]"
  return name
