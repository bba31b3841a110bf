"""From texts to jobs for the worker, and from batches to answers.

Called by `app` and, in the worker's thread, by `worker`. May import: all layers
below.
"""

from collections.abc import Hashable, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from t2tjax import trees
from t2tjax.evaluation import evaluator
from t2tjax.inference import inputs as inputs_lib
from t2tjax.inference import loaded, texts
from t2tjax.serving.limits import (
  Limits,
  PredictRequest,
  RefusedError,
  ScoreRequest,
)


@dataclasses.dataclass(frozen=True)
class _Predict:
  """What the inputs of a batch share; one program serves it."""

  num_beams: int
  max_new_tokens: int
  bucket: int


@dataclasses.dataclass(frozen=True)
class _Score:
  input_bucket: int
  target_bucket: int


# A key and the items of a job.
Job = tuple[Hashable, Sequence[Any]]


class Engine:
  """A loaded model as the worker uses it."""

  def __init__(self, model: loaded.LoadedModel, limits: Limits):
    """Refuses a model that has no vocabulary.

    Args:
      model: from `t2tjax.load`.
      limits: what requests may ask for.
    """
    for side in ("input", "output"):
      vocabulary = getattr(model.model, f"{side}_vocabulary")
      if isinstance(vocabulary, loaded.NoVocabulary):
        raise ValueError(
          f"{vocabulary.reason} On the command line: --vocabulary=FILE."
        )
    self._model = model
    self._limits = limits

  def facts(self) -> dict[str, Any]:
    """Returns what the model is."""
    config = self._model.config
    return {
      "step": self._model.step,
      "parameters": trees.num_elements(self._model.params),
      "network": type(self._model.model.module).__name__,
      "sizes": {
        field.name: value
        for field in dataclasses.fields(config)
        if type(value := getattr(config, field.name)) is int
      },
      "dtype": config.dtype,
    }

  def warm_up(self) -> None:
    """Compiles what the first requests need, to fail or be slow here."""
    key = _Predict(
      self._limits.num_beams[0],
      self._limits.default_new_tokens,
      texts.bucket(1, 16),
    )
    row = self._encode(["a"], "input")[0]
    for count in (1, self._limits.max_batch):
      self.run(key, [row] * count)

  # ------------------------------------------------ In the threads of requests
  def predict_job(self, request: PredictRequest) -> Job:
    """Returns the job of a request.

    Raises:
      RefusedError: an input has too many tokens.
    """
    rows = self._encode(request.inputs, "input")
    bucket = self._bucket(rows, "inputs")
    key = _Predict(request.num_beams, request.max_new_tokens, bucket)
    return key, rows

  def score_job(self, request: ScoreRequest) -> Job:
    """Returns the job of a request.

    Raises:
      RefusedError: an input or a target has too many tokens.
    """
    key = _Score(
      self._bucket(self._encode(request.inputs, "input"), "inputs"),
      self._bucket(self._encode(request.targets, "output"), "targets"),
    )
    return key, list(zip(request.inputs, request.targets, strict=True))

  def _encode(self, lines: Sequence[str], side: str) -> list[np.ndarray]:
    vocabulary = getattr(self._model.model, f"{side}_vocabulary")
    return [inputs_lib.encode(vocabulary, line, True) for line in lines]

  def _bucket(self, rows: Sequence[np.ndarray], name: str) -> int:
    most = self._limits.max_input_tokens
    for number, row in enumerate(rows):
      if len(row) > most:
        raise RefusedError(
          422,
          f"{name}[{number}] has {len(row)} tokens with its end; at most"
          f" {most} are allowed.",
        )
    return texts.bucket(max(map(len, rows)), most)

  # ------------------------------------------------ In the worker's thread
  def run(self, key: Any, items: Sequence[Any]) -> list[Any]:
    """Returns a result for each item of a batch."""
    if isinstance(key, _Score):
      inputs, targets = zip(*items, strict=True)
      scores = self._model.score(
        inputs, targets, batch_size=self._limits.max_batch
      )
      return [float(s) if math.isfinite(s) else None for s in scores]
    # Repeated rows end when the others do.
    spare = self._num_rows(len(items)) - len(items)
    rows = [*items, *[items[0]] * spare]
    tokens, scores = self._model.generate(
      rows,
      max_new_tokens=key.max_new_tokens,
      num_beams=key.num_beams,
      num_return_sequences=key.num_beams,
      return_scores=True,
    )
    shape = len(rows), key.num_beams
    tokens, scores = tokens.reshape(*shape, -1), scores.reshape(shape)
    return [
      self._answers(own, score, searched=key.num_beams > 1)
      for own, score in zip(tokens, scores, strict=True)
    ][: len(items)]

  def _num_rows(self, rows: int) -> int:
    """Returns one of few sizes, as each is compiled."""
    power = 1
    while power < rows:
      power *= 4
    return min(power, self._limits.max_batch)

  def _answers(
    self, tokens: np.ndarray, scores: np.ndarray, *, searched: bool
  ) -> list[dict[str, Any]]:
    """Returns the sequences of an input, the best first."""
    vocabulary = self._model.model.output_vocabulary
    answers = []
    for row, text, score in zip(
      tokens, evaluator.decode(vocabulary, tokens), scores, strict=True
    ):
      (ends,) = np.nonzero(row == vocabulary.eos_id)
      length = int(ends[0]) + 1 if len(ends) else len(row)
      # A search gives the mean over the tokens.
      log_probability = float(score) * (length if searched else 1)
      finite = math.isfinite(log_probability)
      answers.append(
        {
          "output": text,
          "score": float(score) if finite else None,
          "log_probability": log_probability if finite else None,
          "probability": math.exp(min(log_probability, 0.0))
          if finite
          else None,
          "num_tokens": length,
          "ended": bool(len(ends)),
        }
      )
    return answers
