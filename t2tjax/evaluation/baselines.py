"""What needs no training: the floor that a task's metrics are held against.

Called by the run functions for the final table; imports only `scoring`.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses

from t2tjax.evaluation import scoring


@dataclasses.dataclass(frozen=True)
class Floor:
  """A baseline's name and all its metrics on a task."""

  baseline: str
  metrics: Mapping[str, float]


def constant(examples: Sequence[scoring.Example]) -> list[str]:
  """Predicts, for all, the target most frequent among these very examples.

  Taken from what is evaluated, not from the training split: no constant can
  be more accurate, so the floor is never flattering.
  """
  targets = [scoring.text_of(example, "targets") for example in examples]
  return [collections.Counter(targets).most_common(1)[0][0]] * len(examples)


def copy(examples: Sequence[scoring.Example]) -> list[str]:
  """Predicts the input without its instruction (up to the first `: `)."""
  return [
    scoring.text_of(example, "inputs").split(": ", 1)[-1]
    for example in examples
  ]


BASELINES: Mapping[str, Callable[[Sequence[scoring.Example]], list[str]]] = {
  "constant": constant,
  "copy": copy,
}


def floor(
  task: scoring.EvalTask, num_examples: int | None = None
) -> Floor | None:
  """Returns the better baseline by the task's first metric.

  Args:
    task: its targets and predictions are postprocessed and scored as a
      model's are.
    num_examples: over the first examples only, as the evaluator was limited.

  Returns:
    The floor, or None for a task without a metric of predictions.
  """
  examples = task.examples[:num_examples]
  if not examples or not scoring.split_by_arguments(task)[0]:
    return None
  candidates = [
    Floor(name, scoring.score(task, examples, texts=baseline(examples)))
    for name, baseline in BASELINES.items()
  ]
  return max(candidates, key=lambda found: next(iter(found.metrics.values())))
