"""T5X's `state_utils`: named by gin files, and refused where they are bound.

May import: nothing of t2tjax.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

_REFUSAL = (
  "t5x.state_utils is not supported: rename parameters with "
  "RestoreCheckpointConfig.assignment_map, and set strict = False to "
  "initialise what a checkpoint lacks."
)


def apply_assignment_map(
  ckpt_optimizer_state: Any,
  optimizer_state: Any,
  assignment_map: Sequence[tuple[str, str | None]],
  require_all_rules_match: bool = True,
  *,
  is_resuming: bool = False,
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def intersect_state(
  state_dict: Mapping[str, Any], intersect_state_dict: Mapping[str, Any]
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def merge_state(
  state_dict: Mapping[str, Any],
  from_scratch_state: Mapping[str, Any],
  overwrite: bool = False,
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)
