"""Evaluation during training: teacher-forced losses, then decoding.

Called by `train` every `eval_period` steps and at the end. May import: layers 0
to 4, `evaluation`, `trainer.run_log`.
"""

from collections.abc import Sequence
from typing import Any

from t2tjax import data, evaluation
from t2tjax.evaluation import measuring, scoring
from t2tjax.partitioning import Partitioner
from t2tjax.trainer import run_log
from t2tjax.typing import Params


def open_eval_data(
  loss_config: data.DatasetConfig | None,
  decode_config: data.DatasetConfig | None,
  model: Any,
  partitioner: Partitioner,
  *,
  eval_steps: int | None,
  prepared_dir: str | None,
) -> tuple[measuring.LossBatches, Sequence[scoring.EvalTask]]:
  """Returns what `Validation` works on, preparing it when needed.

  Args:
    loss_config: dataset of the teacher-forced losses, if they are wanted.
    decode_config: dataset to decode, if that is wanted.
    model: says which features it reads.
    partitioner: says which rows this process feeds.
    eval_steps: batches of teacher-forced evaluation per task; None for all.
    prepared_dir: where token records are kept.
  """
  loss_batches: measuring.LossBatches = {}
  decode_tasks: Sequence[scoring.EvalTask] = ()
  if loss_config is not None:
    loss_batches = data.eval_batches(
      loss_config,
      model.feature_layout,
      partitioner.data_layout(loss_config.batch_size),
      prepared_dir=prepared_dir,
      max_batches=eval_steps,
    )
  if decode_config is not None:
    decode_tasks = data.eval_tasks(
      decode_config,
      model.feature_layout,
      partitioner.data_layout(decode_config.batch_size),
      prepared_dir=prepared_dir,
    )
  return loss_batches, decode_tasks


class Validation:
  """Evaluates parameters on every task and writes what it finds.

  Attributes:
    last_step: the step that was evaluated last, if any was.
    found: its `<task>/<metric>` -> value.
    results: its metrics and samples, by task.
  """

  def __init__(
    self,
    evaluator: evaluation.Evaluator,
    log: run_log.RunLog,
    *,
    loss_batches: measuring.LossBatches,
    decode_tasks: Sequence[scoring.EvalTask],
  ):
    """Checks the tasks, so that a run does not fail at its first evaluation.

    Args:
      evaluator: computes losses and metrics.
      log: takes the metrics, under `eval/<task>`, and shows them.
      loss_batches: task name -> batches for teacher-forced evaluation.
      decode_tasks: tasks to decode.
    """
    evaluator.check(decode_tasks)
    self._evaluator = evaluator
    self._loss_batches = loss_batches
    self._decode_tasks = decode_tasks
    self._log = log
    self.found: dict[str, float] = {}
    self.results: Sequence[evaluation.EvalResult] = ()
    self.last_step: int | None = None

  def run(self, step: int, params: Params) -> dict[str, float]:
    """Evaluates, writes and shows.

    Args:
      step: the number of completed optimizer steps.
      params: the model's parameters, on devices.

    Returns:
      `<task>/<metric>` -> value; teacher-forced metrics are `<task>/loss`,
      `<task>/token_accuracy` and so on.
    """
    measured = measuring.measure(
      self._evaluator,
      params,
      self._loss_batches,
      self._decode_tasks,
      step=step,
    )
    self.results = measured.results
    for task, metrics in measured.by_task.items():
      self._log.writer.write(f"eval/{task}", step, metrics)
      shown = "  ".join(
        f"{name} {value:.3f}"
        for name, value in metrics.items()
        if name in self._shown_metrics(task)
      )
      self._log.note(f"eval at step {step}  {task}: {shown}")
    self._log.writer.flush()
    self.last_step = step
    self.found = measured.flat
    return self.found

  def _shown_metrics(self, task: str) -> set[str]:
    own = {
      name
      for result in self.results
      if result.task == task
      for name in result.metrics
      if "/" not in name
    }
    return {"loss"} | own

  def floors(self) -> dict[str, evaluation.Floor | None]:
    """Returns, by task, the metrics of the better trivial answer."""
    evaluated = {result.task: result.num_examples for result in self.results}
    return {
      task.name: evaluation.floor(task, evaluated[task.name])
      for task in self._decode_tasks
    }
