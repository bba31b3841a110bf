"""Which checkpoints of a run may go: last N, every N steps, best by metric.

Pure functions, used by `Checkpointer` after each save. May import: `config`.
"""

from collections.abc import Mapping, Sequence
import math

from t2tjax.checkpoint.config import SaveCheckpointConfig


def best_steps(
  values: Mapping[int, float], config: SaveCheckpointConfig
) -> list[int]:
  """Returns the steps of the best checkpoints, the best one first.

  Args:
    values: the value of `config.best_metric` by step; NaN is never best.
    config: says how many, and whether larger is better.

  Equal values: the later step is the better one.
  """
  sign = 1.0 if config.best_mode == "max" else -1.0
  ranked = sorted(
    (step for step, value in values.items() if not math.isnan(value)),
    key=lambda step: (sign * values[step], step),
    reverse=True,
  )
  return ranked[: config.keep_best]


def steps_to_remove(
  steps: Sequence[int],
  values: Mapping[int, float],
  config: SaveCheckpointConfig,
) -> list[int]:
  """Returns the steps that no rule keeps, ascending.

  Args:
    steps: the whole checkpoints of the run.
    values: the value of `config.best_metric` by step, where known.
    config: the rules.
  """
  if config.keep is None:
    return []
  kept = set(sorted(steps)[-config.keep :])
  if config.keep_period:
    kept.update(step for step in steps if step % config.keep_period == 0)
  if config.best_metric:
    kept.update(best_steps(values, config))
  return sorted(set(steps) - kept)
