"""When a run ends before its last step: rules over its evaluations.

Bound to `train.stop_conditions`. A rule is a function of all evaluations so
far, which a run that goes on reads back from its own files, so that it stops
where it would have stopped without the interruption. May import:
`trainer.writers`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
from typing import Protocol

from t2tjax.trainer import writers

_MODES = ("min", "max")

# `(step, {"<task>/<metric>": value})` of every evaluation, oldest first.
History = Sequence[tuple[int, Mapping[str, float]]]


@dataclasses.dataclass(frozen=True)
class Stop:
  """Why a run ends here, and whether its state is worth keeping."""

  reason: str
  save: bool = True


class StopCondition(Protocol):
  """A rule that may end a run after an evaluation."""

  @property
  def metric(self) -> str:
    """The `<task>/<metric>` it looks at."""

  def __call__(self, history: History) -> Stop | None:
    """Returns why to stop now, or None to go on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStopping:
  """Stops when a metric has not improved for a while.

  An evaluation improves on the one before it if it is better by more than
  `atol + rtol * |value before|`.

  Attributes:
    metric: `<task>/<metric>`, such as 'bible_genre/accuracy' or
      'bible_genre/loss'.
    mode: 'min' if a smaller value is better, 'max' otherwise.
    patience: evaluations in a row of which none improves on the one before.
    atol: absolute tolerance.
    rtol: relative tolerance.
  """

  metric: str
  mode: str
  patience: int = 3
  atol: float = 0.0
  rtol: float = 0.0

  def __post_init__(self):
    _check_metric("EarlyStopping", self.metric)
    if self.mode not in _MODES:
      raise ValueError(
        f"EarlyStopping.mode = {self.mode!r} must be 'min' or 'max'."
      )
    if self.patience < 2:
      raise ValueError(
        f"EarlyStopping.patience = {self.patience} must be at least 2: one "
        "evaluation has nothing to be compared with."
      )
    for name in ("atol", "rtol"):
      if getattr(self, name) < 0:
        raise ValueError(
          f"EarlyStopping.{name} = {getattr(self, name)} must not be negative."
        )

  def __call__(self, history: History) -> Stop | None:
    """Returns why to stop now, or None to go on."""
    values = _values(history, self.metric)[-self.patience :]
    if len(values) < self.patience:
      return None
    pairs = zip(values[:-1], values[1:], strict=True)
    if any(self._improves(before, after) for before, after in pairs):
      return None
    shown = ", ".join(f"{value:.6g}" for value in values)
    return Stop(f"{self.metric} has not improved: {shown}")

  def _improves(self, before: float, after: float) -> bool:
    tolerance = self.atol + self.rtol * abs(before)
    gain = before - after if self.mode == "min" else after - before
    return gain > tolerance


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopIfNotFinite:
  """Stops, and saves nothing, when a metric is NaN or infinite.

  The loss of training needs no rule: a run always ends when it is not finite.

  Attributes:
    metric: `<task>/<metric>`.
  """

  metric: str

  def __post_init__(self):
    _check_metric("StopIfNotFinite", self.metric)

  def __call__(self, history: History) -> Stop | None:
    """Returns why to stop now, or None to go on."""
    values = _values(history, self.metric)[-1:]
    if all(map(math.isfinite, values)):
      return None
    return Stop(f"{self.metric} is {values[0]}", save=False)


def check_tasks(
  conditions: Sequence[StopCondition], tasks: Sequence[str]
) -> None:
  """Raises ValueError if a condition watches what is never evaluated.

  Args:
    conditions: of the run.
    tasks: names of the tasks that are evaluated.
  """
  for condition in conditions:
    task = condition.metric.rpartition("/")[0]
    if not any(condition.metric.startswith(f"{name}/") for name in tasks):
      raise ValueError(
        f"{type(condition).__name__}.metric = {condition.metric!r} is of the "
        f"task {task!r}, and evaluated are {', '.join(tasks) or 'none'}; "
        "change it or train_eval/DatasetConfig."
      )


def check_metrics(
  conditions: Sequence[StopCondition], found: Mapping[str, float]
) -> None:
  """Raises ValueError if an evaluation lacks a metric that is watched."""
  for condition in conditions:
    if condition.metric not in found:
      raise ValueError(
        f"{type(condition).__name__}.metric = {condition.metric!r} is not "
        f"among what was evaluated: {', '.join(sorted(found))}."
      )


def first_stop(
  conditions: Sequence[StopCondition], history: History
) -> Stop | None:
  """Returns why to stop after the last evaluation, or None."""
  stops = (condition(history) for condition in conditions)
  return next(filter(None, stops), None)


def read_history(
  model_dir: str | os.PathLike, last_step: int
) -> list[tuple[int, dict[str, float]]]:
  """Returns the evaluations a run has made up to the step it goes on from."""
  found: dict[int, dict[str, float]] = {}
  for record in writers.read_metrics(model_dir):
    run, step = record.pop("run"), record.pop("step")
    if not run.startswith("eval/") or step > last_step:
      continue
    record.pop("time")
    task = run.removeprefix("eval/")
    for name, value in record.items():
      # metrics.jsonl has null for what is not finite.
      value = math.nan if value is None else value
      found.setdefault(step, {})[f"{task}/{name}"] = value
  return sorted(found.items())


def _check_metric(owner: str, metric: str) -> None:
  if "/" not in metric:
    raise ValueError(
      f"{owner}.metric = {metric!r} must be '<task>/<metric>', such as "
      f"'bible_genre/{metric}'."
    )


def _values(history: History, metric: str) -> list[float]:
  return [found[metric] for _, found in history if metric in found]
