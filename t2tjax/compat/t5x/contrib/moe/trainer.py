"""T5X's `contrib.moe.trainer`, read and refused. Imports nothing."""

from typing import Any

from t2tjax.compat.t5x.contrib.moe import refusal


def MoeTrainer(  # noqa: N802
  *,
  learning_rate_fn: Any,
  num_expert_partitions: int,
  num_microbatches: int | None = None,
  sharded_match_fn: Any = None,
  weight_metrics_computer: Any = None,
) -> Any:
  """Refuses; the parameters are T5X's."""
  refusal.refuse("MoeTrainer")
