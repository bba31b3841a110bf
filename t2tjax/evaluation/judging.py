"""Whether a single prediction is right, and how near it comes to a target.

Called by `Evaluator` for the predictions it writes; imports only the metrics.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import numbers
from typing import Any

from t2tjax.evaluation import metrics, results, scoring, t5_metrics

# Metric functions that mean something of one example -> their graded value.
# BLEU, chrF and macro-F1 belong to a corpus, and accuracy is right or wrong.
_GRADED: Mapping[Callable, str] = {
  metrics.pii_redaction: "span_f1",
  metrics.rouge: "rougeL",
  metrics.squad: "f1",
  t5_metrics.mlqa: "f1",
  t5_metrics.rouge: "rougeLsum",
  t5_metrics.span_f1: "span_f1",
  t5_metrics.squad: "f1",
  t5_metrics.trivia_qa: "f1",
}
_EXACT = ("exact_match", "em")


def judged(
  task: scoring.EvalTask,
  samples: Sequence[results.Sample],
  targets: Sequence[Any],
  predictions: Sequence[Any] | None,
) -> list[results.Sample]:
  """Returns samples that know if they are right, and their score.

  A task's own exact match decides, so that the share of right ones is the
  metric; without one a prediction is right if it is among its references.

  Args:
    task: gives the metric functions; the first graded one gives the score.
    samples: the first of its examples.
    targets: postprocessed, of those examples and maybe more.
    predictions: postprocessed; None leaves out all but the references.
  """
  functions = (f for f in task.metric_fns if _plain(f) in _GRADED)
  function = next(functions, None)
  return [
    dataclasses.replace(
      sample,
      targets=_several(targets[i]),
      **({} if predictions is None else _judge(function, targets[i], said)),
    )
    for i, (sample, said) in enumerate(
      zip(samples, predictions or [None] * len(samples), strict=False)
    )
  ]


def _judge(
  function: Callable | None, target: Any, prediction: Any
) -> dict[str, Any]:
  correct = _among_references(target, prediction)
  if function is None:
    return {"correct": correct}
  values = function([target], [prediction])
  for name in _EXACT:
    if name in values:
      correct = values[name] > 0
  score = values.get(_GRADED[_plain(function)])
  # Of spans there may be none, neither wanted nor given.
  if correct and "span_f1" in values:
    score = 1.0
  return {"correct": correct, "score": score}


def _plain(function: Callable) -> Callable:
  if isinstance(function, functools.partial):
    return function.func
  return function


def _references(target: Any) -> Any:
  if not isinstance(target, Mapping):
    return target
  return target.get("text", target.get("value"))


def _among_references(target: Any, prediction: Any) -> bool | None:
  """Returns None for what is no single text or number."""
  if isinstance(prediction, Mapping):
    prediction = prediction.get("value")
  if not isinstance(prediction, str | numbers.Number):
    return None
  references = _references(target)
  if not isinstance(references, list | tuple):
    references = [references]
  return any(bool(reference == prediction) for reference in references)


def _several(target: Any) -> tuple[str, ...] | None:
  """Returns the accepted texts if there is more than one."""
  found = _references(target)
  if not isinstance(found, list | tuple) or len(found) < 2:
    return None
  return tuple(found) if all(isinstance(t, str) for t in found) else None
