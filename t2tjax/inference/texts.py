"""A model with its parameters, from tokens of any length to output fields.

Batches are sorted by length and padded to one of few lengths, so that little
is computed for padding and little is compiled. Called by `infer`. May import:
layers 0 to 4 and `evaluation`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np

from t2tjax.data import layouts
from t2tjax.evaluation import evaluator, running
from t2tjax.partitioning import Partitioner
from t2tjax.typing import Params

MODES = ("predict", "score", "predict_with_scores")
_SMALLEST_BUCKET = 16

Tokens = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Batch:
  """Which inputs of which group a batch holds."""

  group: Any
  members: np.ndarray
  arrays: Mapping[str, np.ndarray]


class TextModel:
  """Predicts and scores; the programs are compiled once per shape."""

  def __init__(
    self,
    model: Any,
    params: Params,
    partitioner: Partitioner,
    *,
    mode: str = "predict",
    batch_size: int = 32,
    feature_lengths: Mapping[str, int],
    max_decode_steps: int | None = None,
    random_seed: int = 0,
  ):
    """Compiles nothing yet.

    Args:
      model: gives `predict_batch_with_aux`, `score_batch` and vocabularies.
      params: its parameters, on devices.
      partitioner: spreads the rows of a batch.
      mode: 'predict', 'score' or 'predict_with_scores'.
      batch_size: rows of a batch, over all devices.
      feature_lengths: most tokens of `inputs` and `targets`.
      max_decode_steps: most tokens of a prediction; None for as many as
        `targets` may have.
      random_seed: of decoding functions that draw.
    """
    check_settings(mode, feature_lengths)
    self._model = model
    self._mode = mode
    self._batch_size = batch_size
    self._lengths = dict(feature_lengths)
    self._sharding = partitioner.batch_sharding
    self._rows = partitioner.data_layout(batch_size).rows
    steps = max_decode_steps or self._lengths["targets"]
    key = jax.random.key(random_seed)
    function: Callable
    if mode == "score":
      function = jax.jit(lambda params, batch: model.score_batch(params, batch))
      self._function = functools.partial(function, params)
    else:
      function = jax.jit(
        lambda params, key, batch: model.predict_batch_with_aux(
          params, batch, key, max_decode_steps=steps
        )
      )
      self._function = functools.partial(function, params, key)

  def truncated(self, tokens: Tokens) -> tuple[dict[str, np.ndarray], bool]:
    """Returns tokens that fit, and whether any had to be cut."""
    fitting = {
      name: _cut(ids, self._lengths[name], self._eos(name))
      for name, ids in tokens.items()
    }
    cut = any(len(fitting[name]) < len(ids) for name, ids in tokens.items())
    return fitting, cut

  def run(
    self, groups: Iterable[tuple[Any, Sequence[Tokens]]]
  ) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Yields each group with an output for each of its inputs, in order.

    The next group is read and tokenized while the device works on this one.

    Args:
      groups: a name, and inputs that are batched together.
    """
    sizes: dict[Any, int] = {}

    def batches():
      for group, inputs in groups:
        sizes[group] = len(inputs)
        for batch in self._batches(group, inputs):
          yield batch, batch.arrays
        if not inputs:
          yield Batch(group, np.zeros(0, int), {}), {}

    outputs: dict[Any, dict[int, dict[str, Any]]] = {}

    def function(arrays):
      return self._function(arrays) if arrays else None

    for batch, output in running.run(function, batches(), self._sharding):
      found = outputs.setdefault(batch.group, {})
      if len(batch.members):
        for member, fields in zip(
          batch.members.tolist(), self._fields(output), strict=False
        ):
          found[member] = fields
      if len(found) == sizes[batch.group]:
        done = outputs.pop(batch.group)
        yield batch.group, [done[i] for i in range(len(done))]

  def _batches(self, group: Any, inputs: Sequence[Tokens]) -> Iterator[Batch]:
    """Cuts inputs, sorted by length, into batches of one shape each."""
    rows = [self._row(tokens) for tokens in inputs]
    if not rows:
      return
    costs = np.array([self._cost(row) for row in rows])
    order = np.lexsort(costs.T[::-1])[::-1]
    for begin in range(0, len(order), self._batch_size):
      members = order[begin : begin + self._batch_size]
      layout = self._layout(costs[members].max(axis=0))
      arrays = layout.assemble(
        [
          [rows[members[row]]] if row < len(members) else []
          for row in self._rows
        ]
      )
      yield Batch(group, members, arrays)

  def _row(self, tokens: Tokens) -> dict[str, np.ndarray]:
    if self._mode == "score":
      return dict(tokens)
    # A target that is never read: a decoder-only row needs a position behind
    # its last input token.
    return {"inputs": tokens["inputs"], "targets": np.ones(1, np.int32)}

  def _cost(self, row: Tokens) -> tuple[int, ...]:
    lengths = {name: len(ids) for name, ids in row.items()}
    if self._model.feature_layout == "decoder_only":
      return (lengths["inputs"] + lengths["targets"],)
    return lengths["inputs"], lengths["targets"]

  def _layout(self, cost: np.ndarray) -> layouts.Layout:
    """Returns the smallest layout with room for the longest rows."""
    targets = self._lengths["targets"] if self._mode == "score" else 1
    if self._model.feature_layout == "decoder_only":
      room = bucket(cost[0], self._lengths["inputs"] + targets)
      lengths = {"inputs": room - 1, "targets": 1}
    else:
      lengths = {
        "inputs": bucket(cost[0], self._lengths["inputs"]),
        "targets": bucket(cost[1], targets),
      }
    return layouts.make_layout(self._model.feature_layout, lengths, pack=False)

  def _fields(self, output: Any) -> Iterator[dict[str, Any]]:
    """Yields what is written of each row of a batch."""
    if self._mode == "score":
      for score in output:
        yield {"score": _json_number(score)}
      return
    tokens, aux = output
    texts = evaluator.decode(self._model.output_vocabulary, tokens)
    for text, score in zip(texts, aux["scores"], strict=True):
      fields: dict[str, Any] = {"prediction": text}
      if self._mode == "predict_with_scores":
        fields["score"] = _json_number(score)
      yield fields

  def _eos(self, name: str) -> int | None:
    vocabularies = {
      "inputs": self._model.input_vocabulary,
      "targets": self._model.output_vocabulary,
    }
    return vocabularies[name].eos_id


def check_settings(mode: str, feature_lengths: Mapping[str, int]) -> None:
  """Raises ValueError for an unknown mode or lengths that are missing."""
  given = dict(feature_lengths)
  if min(given.get(name, 0) for name in ("inputs", "targets")) < 1:
    raise ValueError(
      f"infer.feature_lengths = {given!r} must give at least 1 for 'inputs' "
      "and 'targets'; change TASK_FEATURE_LENGTHS."
    )
  if mode not in MODES:
    raise ValueError(
      f"infer.mode = {mode!r} must be one of {', '.join(map(repr, MODES))}."
    )


def bucket(length: int, longest: int) -> int:
  """Returns the power of two that has room, or the greatest length."""
  power = 1 << max(int(length) - 1, _SMALLEST_BUCKET - 1).bit_length()
  return min(power, longest)


def _cut(ids: np.ndarray, limit: int, eos: int | None) -> np.ndarray:
  """Cuts at a limit; what ended in EOS still does."""
  if len(ids) <= limit:
    return ids
  cut = ids[:limit].copy()
  if eos is not None and ids[-1] == eos:
    cut[-1] = eos
  return cut


def _json_number(value: Any) -> float | None:
  return float(value) if math.isfinite(value) else None
