"""What is said of T5X parameters that mean nothing here, once each.

Called by the modules of this package; imports nothing of t2tjax.
"""

import functools
from typing import Any

from absl import logging


@functools.cache
def without_effect(parameter: str, reason: str) -> None:
  """Warns, once, that a parameter was given and changes nothing."""
  logging.warning("%s has no effect: %s", parameter, reason)


def refuse_unless(
  value: Any, allowed: tuple[str | None, ...], parameter: str, instead: str
) -> None:
  """Raises ValueError unless a hook is one of T5X's own.

  Args:
    value: a function, a class or None, as gin gives it.
    allowed: names of those whose work is done here anyway; None for unset.
    parameter: its name, such as `train.get_dataset_fn`.
    instead: what to do in its place.
  """
  inner = getattr(value, "func", value)
  name = None if inner is None else getattr(inner, "__name__", repr(inner))
  if name not in allowed:
    raise ValueError(f"{parameter} = {name} is not supported: {instead}")


def refuse_given(owner: str, instead: str, **parameters: Any) -> None:
  """Raises ValueError for parameters that are set and cannot be had.

  Args:
    owner: whose parameters they are, such as `utils.DatasetConfig`.
    instead: what to do in their place.
    **parameters: name -> value; None and empty sequences are unset.
  """
  for name, value in parameters.items():
    if value is not None and value != () and value != []:
      raise ValueError(
        f"{owner}.{name} = {value!r} is not supported: {instead}."
      )
