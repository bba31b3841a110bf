"""How far a metric may be off for the choice of examples alone.

Called by `Evaluator`; imports only `scoring` and NumPy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from t2tjax.evaluation import scoring

_CONFIDENCE = 0.95
_SEED = 0


def intervals(
  task: scoring.EvalTask,
  targets: Sequence[Any],
  predictions: Sequence[Any] | None,
  scores: Sequence[float] | np.ndarray | None,
  *,
  num_resamples: int,
) -> dict[str, tuple[float, float]]:
  """Returns 95% percentile intervals over examples drawn with replacement.

  The seed is fixed, and every metric sees the same draws. A metric that a
  draw lacks (a class that is not in it) is left out of that draw.

  Args:
    task: gives the metric functions.
    targets: postprocessed, one per example.
    predictions: postprocessed, or None.
    scores: of the targets, or None.
    num_resamples: draws, each as large as the set of examples.

  Returns:
    Metric name -> (lower, upper); empty without a draw.
  """
  rng = np.random.default_rng(_SEED)
  found: dict[str, list[float]] = {}
  for _ in range(num_resamples):
    drawn = rng.integers(0, len(targets), len(targets))
    metrics = scoring.apply_metrics(
      task,
      [targets[i] for i in drawn],
      None if predictions is None else [predictions[i] for i in drawn],
      None if scores is None else [scores[i] for i in drawn],
    )
    for name, value in metrics.items():
      found.setdefault(name, []).append(value)
  tail = (1 - _CONFIDENCE) / 2
  return {
    name: (
      float(np.quantile(values, tail)),
      float(np.quantile(values, 1 - tail)),
    )
    for name, values in found.items()
  }
