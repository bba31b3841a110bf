"""Why mixtures of experts are read and not run. Imports nothing."""

from typing import NoReturn


def refuse(name: str) -> NoReturn:
  """Raises ValueError; `name` is what was called."""
  raise ValueError(
    f"{name} is not supported: T5X has no expert layers of its own (they are "
    "flaxformer's), and neither has t2tjax. Use the dense counterpart."
  )
