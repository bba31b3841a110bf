"""T5X's `trainer`. May import: `trainer`."""

from typing import Any

from t2tjax import optim, trainer
from t2tjax.compat.t5x.actions import (
  BaseAction,
  EarlyStoppingAction,
  TerminateOnNanAction,
)

__all__ = [
  "BaseAction",
  "EarlyStoppingAction",
  "TerminateOnNanAction",
  "Trainer",
  "WeightMetricsComputer",
]


class WeightMetricsComputer:
  """Asks for metrics of weights; see `trainer.Trainer.weight_metrics`."""


def Trainer(  # noqa: N802
  *,
  learning_rate_fn: optim.LearningRateFn,
  num_microbatches: int | None = None,
  weight_metrics_computer: Any = None,
) -> trainer.Trainer:
  """Returns `trainer.Trainer`; T5X's other parameters are the run's own.

  Args:
    learning_rate_fn: step -> learning rate.
    num_microbatches: parts a batch is cut into; None for one.
    weight_metrics_computer: a `WeightMetricsComputer`, or None for no metrics.
  """
  return trainer.Trainer(
    learning_rate_fn=learning_rate_fn,
    num_microbatches=num_microbatches or 1,
    weight_metrics=weight_metrics_computer is not None,
  )
