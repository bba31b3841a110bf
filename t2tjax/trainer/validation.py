"""Evaluation during training: teacher-forced losses, then decoding.

Called by `train` every `eval_period` steps and at the end. May import: layers 0
to 4, `evaluation`, `trainer.run_log`, `trainer.stopping`.
"""

from collections.abc import Iterable, Iterator, Sequence
import itertools
from typing import Any

from t2tjax import data, evaluation
from t2tjax.evaluation import measuring, scoring
from t2tjax.partitioning import Partitioner
from t2tjax.trainer import run_log, stopping
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
    stop: why the run ends after it, if it does.
  """

  def __init__(
    self,
    evaluator: evaluation.Evaluator,
    log: run_log.RunLog,
    *,
    loss_batches: measuring.LossBatches,
    decode_tasks: Sequence[scoring.EvalTask],
    stop_conditions: Sequence[stopping.StopCondition] = (),
    history: stopping.History = (),
  ):
    """Checks the tasks, so that a run does not fail at its first evaluation.

    Args:
      evaluator: computes losses and metrics.
      log: takes the metrics, under `eval/<task>`, and shows them.
      loss_batches: task name -> batches for teacher-forced evaluation.
      decode_tasks: tasks to decode.
      stop_conditions: what may end the run after an evaluation.
      history: evaluations of this run before it was interrupted.
    """
    evaluator.check(decode_tasks)
    stopping.check_tasks(
      stop_conditions, [*loss_batches, *(task.name for task in decode_tasks)]
    )
    self._evaluator = evaluator
    self._loss_batches = loss_batches
    self._decode_tasks = decode_tasks
    self._log = log
    self.found: dict[str, float] = {}
    self.results: Sequence[evaluation.EvalResult] = ()
    self.last_step: int | None = None
    self._stop_conditions = tuple(stop_conditions)
    self._history = list(history)
    self.stop: stopping.Stop | None = None
    self._decide()

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
    self._history.append((step, self.found))
    stopping.check_metrics(self._stop_conditions, self.found)
    self._decide()
    return self.found

  def until_stop(self, steps: Iterable[int]) -> Iterator[int]:
    """Yields the steps for as long as the run goes on."""
    return itertools.takewhile(lambda _: self.stop is None, steps)

  def saves(self, due: bool) -> bool:
    """Returns whether to save, which a stop decides before the periods do."""
    return due if self.stop is None else self.stop.save

  def _decide(self) -> None:
    self.stop = stopping.first_stop(self._stop_conditions, self._history)
    if self.stop is not None:
      step, _ = self._history[-1]
      self._log.note(f"Stopped at step {step}: {self.stop.reason}")

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
