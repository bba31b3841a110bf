"""Applies a task's postprocessor and metric functions to decoded texts.

Called by `Evaluator` for a model's texts and by `baselines` for others;
imports NumPy only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import inspect
from typing import Any, Protocol

import numpy as np

Example = Mapping[str, Any]


class EvalTask(Protocol):
  """What `data.eval_tasks` gives for each task."""

  @property
  def name(self) -> str:
    """The task's name."""
    ...

  @property
  def metric_fns(self) -> Sequence[Callable]:
    """Functions `(targets, predictions)` or `(targets, scores)`."""
    ...

  @property
  def postprocess_fn(self) -> Callable | None:
    """`(text, example=, is_target=)`, or None for the text as it is."""
    ...

  @property
  def examples(self) -> Sequence[Example]:
    """All examples, in order, with `<feature>_pretokenized` texts.

    `targets_pretokenized` is there always, `inputs_pretokenized` where the
    task has inputs.
    """
    ...

  def batches(self) -> Iterator[Mapping[str, Any]]:
    """Yields the examples in order; the last batch is filled up."""
    ...


def split_by_arguments(
  task: EvalTask,
) -> tuple[list[Callable], list[Callable]]:
  """Returns the task's metric functions of predictions and of scores."""
  found: dict[str, list[Callable]] = {"predictions": [], "scores": []}
  for function in task.metric_fns:
    names = list(inspect.signature(function).parameters)[:2]
    if names[:1] != ["targets"] or names[-1] not in found:
      raise ValueError(
        f"Metric function {function} of task {task.name} takes {names}; it "
        "must take (targets, predictions) or (targets, scores)."
      )
    found[names[1]].append(function)
  return found["predictions"], found["scores"]


def score(
  task: EvalTask,
  examples: Sequence[Example],
  *,
  texts: Sequence[str] | None,
  scores: Sequence[float] | np.ndarray | None = None,
) -> dict[str, float]:
  """Returns the metrics of texts and scores, one of each per example.

  Args:
    task: whose postprocessor and metric functions are used.
    examples: some of the task's examples.
    texts: what was predicted; None leaves out metrics of predictions.
    scores: the model's scores of the targets; None leaves out their metrics.

  Returns:
    Metric name to value, over all metric functions.
  """
  return apply_metrics(task, *compared(task, examples, texts), scores)


def compared(
  task: EvalTask, examples: Sequence[Example], texts: Sequence[str] | None
) -> tuple[list[Any], list[Any] | None]:
  """Returns the postprocessed targets, and predictions if there are texts."""
  post = task.postprocess_fn or _unchanged
  targets = [
    post(text_of(e, "targets"), example=e, is_target=True) for e in examples
  ]
  if texts is None:
    return targets, None
  return targets, [
    post(text, example=example, is_target=False)
    for text, example in zip(texts, examples, strict=True)
  ]


def apply_metrics(
  task: EvalTask,
  targets: Sequence[Any],
  predictions: Sequence[Any] | None,
  scores: Sequence[float] | np.ndarray | None,
) -> dict[str, float]:
  """Returns the metrics of what `compared` returned, and of scores."""
  of_predictions, of_scores = split_by_arguments(task)
  metrics: dict[str, float] = {}
  if predictions is not None:
    for function in of_predictions:
      metrics |= function(targets, predictions)
  if scores is not None:
    for function in of_scores:
      metrics |= function(targets, scores)
  return {name: float(value) for name, value in metrics.items()}


def text_of(example: Example, feature: str) -> str:
  """Returns a feature's text before tokenization, empty if there is none."""
  text = example.get(f"{feature}_pretokenized", "")
  return text.decode("utf-8") if isinstance(text, bytes) else text


def _unchanged(text: str, *, example: Any, is_target: bool) -> str:
  del example, is_target
  return text
