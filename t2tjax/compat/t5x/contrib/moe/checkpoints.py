"""T5X's `contrib.moe.checkpoints`, read and refused. Imports nothing."""

from typing import Any

from t2tjax.compat.t5x.contrib.moe import refusal


def UpcycleCheckpointer(  # noqa: N802
  num_experts: int,
  *,
  keep: int | None = None,
  save_dtype: Any = "float32",
  restore_dtype: Any = None,
  keep_dataset_checkpoints: int | None = None,
) -> Any:
  """Refuses; the parameters are T5X's."""
  refusal.refuse("UpcycleCheckpointer")
