"""T5X's `contrib.moe.partitioning`, read and refused.

May import: `partitioning`.
"""

from collections.abc import Sequence
from typing import Any

from t2tjax.compat.t5x import partitioning
from t2tjax.compat.t5x.contrib.moe import refusal


def standard_logical_axis_rules(
  activation_partitioning_dims: int = 2,
  parameter_partitioning_dims: int = 1,
  additional_rules: Sequence[tuple[str, Any]] | None = None,
) -> Any:
  """Returns the dense rules; the partitioner that takes them refuses."""
  return partitioning.standard_logical_axis_rules(
    activation_partitioning_dims, parameter_partitioning_dims, additional_rules
  )


def MoePjitPartitioner(  # noqa: N802
  num_expert_partitions: int,
  num_partitions: int | None = None,
  model_parallel_submesh: Sequence[int] | None = None,
  params_on_devices: bool = True,
  logical_axis_rules: Any = None,
  state_filter_fn: Any = None,
) -> Any:
  """Refuses; the parameters are T5X's."""
  refusal.refuse("MoePjitPartitioner")


def compute_num_model_partitions(
  num_model_partitions: int | None,
  model_parallel_submesh: Sequence[int] | None,
) -> int:
  """Returns the number of devices that share a model."""
  refusal.refuse("compute_num_model_partitions")
