"""T5X's `gin_utils`: the functions that gin files compute with.

May import: nothing of t2tjax.
"""

from typing import Any


def summarize_gin_config(
  model_dir: str, summary_writer: Any, step: int
) -> None:
  """Does nothing: every run writes its configuration into its directory."""


def sum_fn(var1: Any, var2: Any) -> Any:
  """Returns `var1 + var2`."""
  return var1 + var2


def bool_fn(var1: Any) -> bool:
  """Returns whether `var1` is anything but zero, empty or None."""
  return bool(var1)


def string_split_fn(
  text: str, separator: str, maxsplit: int = -1, index: int | None = None
) -> Any:
  """Returns the parts of a text, or one of them."""
  parts = text.split(separator, maxsplit)
  return parts if index is None else parts[index]
