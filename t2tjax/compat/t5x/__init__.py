"""T5X's names: modules, classes and parameters as its gin files know them.

Each module answers for T5X's of the same name and gives our objects. Only the
config loader imports them, for configurations that name `t5x`. May import:
layers 0 to 6.
"""

from collections.abc import Callable
import importlib
import inspect
import types
from typing import Any

# Our run functions -> the module here that has T5X's of the same name.
_RUN_FUNCTIONS = {
  "train": "train",
  "evaluate": "eval",
  "infer": "infer",
  "precompile": "precompile",
  "save": "export_lib",
}


def importer(name: str) -> types.ModuleType:
  """Imports what a T5X gin file calls `name`.

  `t5x.*` are the modules of this package. `t5.*` and its siblings are empty:
  T5's tasks are part of the default task module. `seqio` stands in for the
  few names that gin files need, so that reading them imports no TensorFlow.

  Raises:
    ModuleNotFoundError: if there is no such module.
  """
  root = name.split(".")[0]
  if name == "seqio":
    return importlib.import_module(f"{__name__}.seqio")
  if root in ("t5", "multilingual_t5", "byt5"):
    return types.ModuleType(name)
  if root != "t5x":
    return importlib.import_module(name)
  own = __name__ + name.removeprefix("t5x")
  try:
    return importlib.import_module(own)
  except ModuleNotFoundError as error:
    if error.name == own or own.startswith(f"{error.name}."):
      raise ModuleNotFoundError(f"no module named {name}", name=name) from error
    raise


def run_function(ours: Callable[..., Any]) -> Callable[..., Any]:
  """Returns T5X's counterpart of one of our run functions.

  Args:
    ours: The run function of a command.

  Raises:
    ValueError: if T5X has no such command.
  """
  name = inspect.unwrap(ours).__name__
  if name not in _RUN_FUNCTIONS:
    raise ValueError(
      f"T5X has no counterpart of the command {name}; its gin files run with "
      "the commands " + ", ".join(_RUN_FUNCTIONS) + "."
    )
  module = importlib.import_module(f"{__name__}.{_RUN_FUNCTIONS[name]}")
  return getattr(module, name)
