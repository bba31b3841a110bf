"""All that is measured of one checkpoint, and the file it is kept in.

Called by `train` and `evaluate`. May import: layers 0 to 4 and this package.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
import os
import pathlib
from typing import Any

import numpy as np

from t2tjax.data import manifest as manifest_lib
from t2tjax.evaluation import baselines, results, scoring
from t2tjax.evaluation import evaluator as evaluator_lib
from t2tjax.typing import Params

LossBatches = Mapping[str, Iterable[Mapping[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Measured:
  """Losses and metrics of one checkpoint.

  Attributes:
    losses: task -> teacher-forced loss, token_accuracy and so on.
    results: of decoding, by task.
  """

  losses: Mapping[str, Mapping[str, float]]
  results: Sequence[results.EvalResult]

  @property
  def by_task(self) -> dict[str, dict[str, float]]:
    """Task -> metric -> value, losses first."""
    found = {task: dict(losses) for task, losses in self.losses.items()}
    for result in self.results:
      found.setdefault(result.task, {}).update(result.metrics)
    return found

  @property
  def flat(self) -> dict[str, float]:
    """`<task>/<metric>` -> value."""
    return {
      f"{task}/{name}": value
      for task, metrics in self.by_task.items()
      for name, value in metrics.items()
    }


def measure(
  evaluator: evaluator_lib.Evaluator,
  params: Params,
  loss_batches: LossBatches,
  decode_tasks: Sequence[scoring.EvalTask],
  *,
  step: int,
) -> Measured:
  """Computes losses, decodes and scores.

  Args:
    evaluator: of the model.
    params: its parameters, on devices.
    loss_batches: task -> batches with targets.
    decode_tasks: tasks to decode.
    step: names the directory of the predictions.
  """
  losses = {}
  for task, batches in loss_batches.items():
    metrics = evaluator.teacher_forced(params, batches)
    # A task's own metric may be called accuracy as well.
    metrics["token_accuracy"] = metrics.pop("accuracy")
    losses[task] = metrics
  return Measured(losses, evaluator.evaluate(params, decode_tasks, step=step))


def digest(tasks: Sequence[Any]) -> list[str]:
  """Returns what tells the data of `data.eval_tasks` from other data."""
  return [
    manifest_lib.content_hash(
      [dataclasses.asdict(task.manifest), task.decode_batches.layout.lengths]
    )
    for task in tasks
  ]


class ResultsFile:
  """`results.json`: what was measured of every checkpoint, by step.

  Written whole or not at all. A checkpoint is finished if the file says so of
  its very files and the same conditions.
  """

  def __init__(self, path: str | os.PathLike, conditions: Mapping[str, Any]):
    """Reads what is there.

    Args:
      path: the file, which need not exist.
      conditions: what the results depend on besides the checkpoint, JSON-able.
    """
    self._path = pathlib.Path(path)
    # As it comes back from a file: tuples are lists.
    self._conditions = json.loads(json.dumps(conditions, default=repr))
    self._by_step: dict[str, Any] = {}
    if self._path.exists():
      try:
        self._by_step = json.loads(self._path.read_text("utf-8"))["steps"]
      except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
          f"{self._path} is no results file ({error}); move it away or set "
          "OUTPUT_DIR to another directory."
        ) from error

  def is_finished(self, step: int, identity: str) -> bool:
    """Whether a checkpoint was evaluated under these conditions."""
    found = self._by_step.get(str(step), {})
    return (
      found.get("identity") == identity
      and found.get("conditions") == self._conditions
    )

  def add(
    self,
    step: int,
    identity: str,
    path: str,
    measured: Measured,
    floors: Mapping[str, baselines.Floor | None],
  ) -> None:
    """Adds the results of a checkpoint and writes the file."""
    decoded = {result.task: result for result in measured.results}
    self._by_step[str(step)] = {
      "checkpoint": path,
      "identity": identity,
      "conditions": self._conditions,
      "tasks": {
        task: {
          "metrics": _finite(metrics),
          **_decoded_fields(decoded.get(task), floors.get(task)),
        }
        for task, metrics in measured.by_task.items()
      },
    }
    steps = dict(sorted(self._by_step.items(), key=lambda item: int(item[0])))
    text = json.dumps({"steps": steps}, indent=2, ensure_ascii=False)
    partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
    partial.write_text(text + "\n", "utf-8")
    os.replace(partial, self._path)

  def metrics(self, step: int) -> dict[str, float]:
    """Returns the kept `<task>/<metric>` -> value of a checkpoint."""
    tasks = self._by_step[str(step)]["tasks"]
    return {
      f"{task}/{name}": math.nan if value is None else value
      for task, kept in tasks.items()
      for name, value in kept["metrics"].items()
    }


def _decoded_fields(
  result: results.EvalResult | None, floor: baselines.Floor | None
) -> dict[str, Any]:
  if result is None:
    return {}
  fields: dict[str, Any] = {"num_examples": result.num_examples}
  if result.intervals:
    fields["intervals_95"] = {k: list(v) for k, v in result.intervals.items()}
  if floor is not None:
    fields["baseline"] = {
      "name": floor.baseline,
      "metrics": _finite(floor.metrics),
    }
  return fields


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
  """Returns values that JSON has, null for those that it has not."""
  return {k: v if math.isfinite(v) else None for k, v in metrics.items()}
