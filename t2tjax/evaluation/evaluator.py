"""Runs a model over tasks: decode, postprocess, and the tasks' own metrics.

Called by `train` and `evaluate`. May import: layers 0 to 4. Compiles each of
the model's functions once per shape of batch and keeps it between calls.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
import pathlib
import time
from typing import Any

import jax
import numpy as np

from t2tjax import models
from t2tjax.evaluation import bootstrap, judging, results, running, scoring
from t2tjax.evaluation import metrics as metrics_lib


class Evaluator:
  """Computes task metrics and teacher-forced losses of one model."""

  def __init__(
    self,
    model: Any,
    *,
    batch_sharding: jax.sharding.Sharding | None = None,
    num_examples: int | None = None,
    num_samples: int = 3,
    predictions_dir: str | None = None,
    num_predictions: int | None = None,
    num_resamples: int = 0,
    allow_no_metrics: bool = False,
    made_up_personal_data: Sequence[str] = ("pii_templates", "pii_values"),
  ):
    """Compiles nothing yet.

    Args:
      model: gives `predict_batch`, `score_batch`, `eval_fn` and
        `output_vocabulary`.
      batch_sharding: how rows lie over devices; None for one device.
      num_examples: evaluate at most this many examples of each task.
      num_samples: how many samples a result shows.
      predictions_dir: where to write `<step>/<task>.jsonl` with all texts, if
        anywhere.
      num_predictions: how many examples' texts are written there; None for
        all.
      num_resamples: draws of the examples from which the confidence intervals
        of all metrics are taken; 0 for none. Each computes every metric anew.
      allow_no_metrics: let tasks that have no metric function pass.
      made_up_personal_data: tasks that remove personal data are shown and
        written without their texts, except these, whose data are invented.
    """
    if num_examples is not None and num_examples < 1:
      raise ValueError(
        f"num_examples={num_examples} must be at least 1, or None for all; "
        "change Evaluator.num_examples."
      )
    self._model = model
    self._sharding = batch_sharding
    self._num_examples = num_examples
    self._num_samples = num_samples
    self._predictions_dir = predictions_dir
    self._num_predictions = num_predictions
    self._num_resamples = num_resamples
    self._allow_no_metrics = allow_no_metrics
    self._made_up = tuple(made_up_personal_data)
    self._predict = jax.jit(model.predict_batch)
    self._score = jax.jit(model.score_batch)
    self._eval = jax.jit(model.eval_fn)

  @property
  def settings(self) -> dict[str, Any]:
    """What decides the results besides model and data, JSON-able."""
    return {
      "num_examples": self._num_examples,
      "num_resamples": self._num_resamples,
    }

  def check(self, tasks: Iterable[scoring.EvalTask]) -> None:
    """Raises what `evaluate` would raise; call it before training starts."""
    tasks = list(tasks)
    without = [task.name for task in tasks if not task.metric_fns]
    if without and not self._allow_no_metrics:
      raise ValueError(
        f"Tasks without a metric function: {without}. Give them metric_fns, "
        "leave them out of infer_eval/DatasetConfig.mixture_or_task_name, "
        "or set Evaluator.allow_no_metrics = True."
      )
    empty = [task.name for task in tasks if not task.examples]
    if empty:
      raise ValueError(
        f"Tasks without an example to evaluate: {empty}; change "
        "infer_eval/DatasetConfig.split."
      )

  def teacher_forced(
    self, params: Any, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, float]:
    """Returns loss, accuracy and so on of predicting each next token.

    Args:
      params: the model's parameters.
      batches: host-local batches with targets, of `data.eval_batches`.

    Returns:
      `models.summarize` of the sums over all batches.
    """
    sums: dict[str, float] = collections.defaultdict(float)
    run = functools.partial(self._eval, params)
    for batch_sums in self._run(run, batches):
      for name, value in batch_sums.items():
        sums[name] += float(value)
    if not sums:
      raise ValueError(
        "There is no batch to compute a loss on; change "
        "train_eval/DatasetConfig.split."
      )
    return models.summarize(sums)

  def evaluate(
    self, params: Any, tasks: Iterable[scoring.EvalTask], *, step: int = 0
  ) -> list[results.EvalResult]:
    """Decodes and scores every task.

    Args:
      params: the model's parameters.
      tasks: of `data.eval_tasks`.
      step: names the directory of the predictions.

    Returns:
      An EvalResult for each task, in order. On several processes each of them
      gets all results.
    """
    tasks = list(tasks)
    self.check(tasks)
    return [self._evaluate_task(params, task, step) for task in tasks]

  def _evaluate_task(
    self, params: Any, task: scoring.EvalTask, step: int
  ) -> results.EvalResult:
    start = time.perf_counter()
    examples = task.examples[: self._num_examples]
    of_predictions, of_scores = scoring.split_by_arguments(task)
    texts, scores = None, None
    if of_predictions or not of_scores:
      tokens = self._rows(self._predict, params, task, len(examples))
      texts = decode(self._model.output_vocabulary, tokens)
    if of_scores:
      scores = self._rows(self._score, params, task, len(examples))
    compared = scoring.compared(task, examples, texts)

    samples = [
      results.Sample(
        inputs=scoring.text_of(example, "inputs"),
        prediction=text,
        target=scoring.text_of(example, "targets"),
      )
      for text, example in zip(
        texts or [""] * len(examples), examples, strict=True
      )
    ]
    if self.is_private(task):
      samples = [sample.withheld() for sample in samples]
    elif self._predictions_dir and jax.process_index() == 0:
      folder = pathlib.Path(self._predictions_dir) / str(step)
      written = samples[: self._num_predictions]
      results.write_predictions(
        folder / f"{task.name}.jsonl",
        judging.judged(task, written, *compared),
      )
    every = max(1, len(samples) // max(1, self._num_samples))
    return results.EvalResult(
      task=task.name,
      metrics=scoring.apply_metrics(task, *compared, scores),
      intervals=bootstrap.intervals(
        task, *compared, scores, num_resamples=self._num_resamples
      ),
      samples=samples[::every][: self._num_samples],
      num_examples=len(examples),
      seconds=time.perf_counter() - start,
    )

  def is_private(self, task: scoring.EvalTask) -> bool:
    """Whether the task's texts may hold personal data of somebody."""
    removes = metrics_lib.pii_redaction in task.metric_fns
    return removes and task.name not in self._made_up

  def _rows(
    self, function: Callable, params: Any, task: scoring.EvalTask, count: int
  ) -> np.ndarray:
    """Returns the function's rows for the first `count` examples."""
    rows: list[np.ndarray] = []

    def needed():
      found = 0
      for batch in task.batches():
        if found >= count:
          return
        yield batch
        local_rows = len(next(iter(batch.values())))
        found += local_rows * jax.process_count()

    run = functools.partial(function, params)
    for output in self._run(run, needed()):
      rows.extend(output)
    if len(rows) < count:
      raise ValueError(
        f"Task {task.name} has {count} examples but its batches hold only "
        f"{len(rows)} rows."
      )
    return np.stack(rows[:count])

  def _run(self, function: Callable, batches: Iterable) -> Iterator[Any]:
    tagged = ((None, batch) for batch in batches)
    for _, output in running.run(function, tagged, self._sharding):
      yield output


def decode(vocabulary: Any, tokens: np.ndarray) -> list[str]:
  """Returns the text of each row [batch, length], up to its first EOS."""
  texts = []
  for row in tokens:
    (ends,) = np.nonzero(row == vocabulary.eos_id)
    row = row[: ends[0]] if len(ends) else row
    texts.append(vocabulary.decode(row[row != vocabulary.pad_id].tolist()))
  return texts
