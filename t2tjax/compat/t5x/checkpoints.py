"""T5X's `checkpoints`: how to keep them, as `utils` reads it.

May import: nothing of t2tjax.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpointer:
  """T5X's older way to write; here Orbax always writes.

  Attributes:
    keep: see `utils.SaveCheckpointConfig`, as for the next three.
    save_dtype: likewise.
    restore_dtype: likewise.
    keep_dataset_checkpoints: likewise.
  """

  keep: int | None = None
  save_dtype: Any = "float32"
  restore_dtype: Any = None
  keep_dataset_checkpoints: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveBestCheckpointer(Checkpointer):
  """Keeps the best checkpoints by a metric.

  Attributes:
    metric_name_to_monitor: such as 'inference_eval/<task>/<metric>'.
    metric_mode: 'max' or 'min'.
    keep_checkpoints_without_metrics: checkpoints are saved with metrics here.
    force_keep_period: checkpoints at its multiples stay.
  """

  metric_name_to_monitor: str = "train/accuracy"
  metric_mode: str = "max"
  keep_checkpoints_without_metrics: bool = True
  force_keep_period: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrbaxCheckpointManagerInterface(SaveBestCheckpointer):
  """The same choice with T5X's Orbax manager.

  Attributes:
    metric_name_to_monitor: None keeps by number alone.
    period: see `utils.SaveCheckpointConfig`, as for the next.
    checkpoint_steps: likewise.
  """

  metric_name_to_monitor: str | None = None  # type: ignore[assignment]
  period: int | None = 1
  checkpoint_steps: Any = None
