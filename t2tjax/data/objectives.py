"""Pretraining objectives as numpy functions of (seed, index).

An objective turns a chunk of plain tokens into (inputs, targets). The lengths
of both follow from the chunk's length and the key alone, so that feeds can pack
without reading tokens. Used by prepared feeds and, wrapped, as a seqio
preprocessor. May import: data.{counter_random,vocabularies}.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from t2tjax.data import counter_random, vocabularies


class Objective:
  """Turns chunks of tokens into inputs and targets; EOS is added by the feed.

  All methods are pure; `key` is one element of `counter_random.keys_of`.
  """

  def lengths(
    self, num_tokens: np.ndarray, keys: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lengths of inputs and targets, without EOS, per chunk."""
    raise NotImplementedError

  def apply(
    self, tokens: np.ndarray, key: np.uint64, sentinels: Sequence[int]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns (inputs, targets) of one chunk, without EOS."""
    raise NotImplementedError

  def chunk_length(self, inputs_length: int, targets_length: int) -> int:
    """Returns the longest chunk that fits, EOS included, whatever the key."""
    raise NotImplementedError

  def num_sentinels(self, chunk_length: int) -> int:
    """Returns how many sentinels a chunk of this length may need."""
    return 0

  def mode_tokens(self) -> tuple[int, ...]:
    """Returns the ids that are put in front of inputs."""
    return ()

  def spec(self) -> dict[str, Any]:
    """Returns a JSON description from which `from_spec` builds it again."""
    fields = {
      f.name: getattr(self, f.name)
      for f in dataclasses.fields(self)  # type: ignore[arg-type]
    }
    return {"kind": type(self).__name__, **fields}

  def _longest(self, fits) -> int:
    """Returns the largest length for which the monotone `fits` holds."""
    low, high = 1, 2
    while fits(high):
      low, high = high, high * 2
    while high - low > 1:
      middle = (low + high) // 2
      low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanCorruption(Objective):
  """Replaces random spans by sentinels; targets spell the spans out.

  The numbers of masked tokens and of spans are fixed by the chunk's length;
  their places are uniform over all ways to cut the chunk into alternating kept
  and masked pieces, a kept one first.
  """

  noise_density: float = 0.15
  mean_span_length: float = 3.0
  mode_token: int | None = None

  def __post_init__(self):
    if not 0 < self.noise_density < 1 or self.mean_span_length < 1:
      raise ValueError(
        f"noise_density={self.noise_density} must lie between 0 and 1 and "
        f"mean_span_length={self.mean_span_length} be at least 1; change "
        "SpanCorruption.noise_density / .mean_span_length"
      )

  def _counts(self, num_tokens: Any) -> tuple[Any, Any]:
    """Returns (masked tokens, spans) per chunk length."""
    n = np.asarray(num_tokens, np.int64)
    most = np.maximum(n - 1, 0)
    noise = np.rint(n * self.noise_density).astype(np.int64)
    noise = np.minimum(np.maximum(noise, 1), most)
    spans = np.rint(noise / self.mean_span_length).astype(np.int64)
    # Every span is led by at least one kept token.
    spans = np.minimum(np.maximum(spans, 1), np.minimum(noise, n - noise))
    return noise, spans

  def lengths(self, num_tokens, keys):
    """Returns the lengths of inputs and targets, without EOS, per chunk."""
    noise, spans = self._counts(num_tokens)
    mode = 0 if self.mode_token is None else 1
    return num_tokens - noise + spans + mode, noise + spans

  def apply(self, tokens, key, sentinels):
    """Returns (inputs, targets) of one chunk, without EOS."""
    n = len(tokens)
    noise, spans = (int(x) for x in self._counts(n))
    rng = np.random.Generator(np.random.Philox(key=int(key)))
    kept_lengths = _random_composition(rng, n - noise, spans)
    noise_lengths = _random_composition(rng, noise, spans)
    pieces = np.stack([kept_lengths, noise_lengths], 1).reshape(-1)
    masked = np.repeat(np.arange(2 * spans) % 2 == 1, pieces)
    marks = np.asarray(sentinels[:spans], np.int32)
    # Where each span begins in the chunk.
    begins = np.cumsum(pieces)[0::2]
    tokens = np.asarray(tokens, np.int32)
    inputs = np.insert(tokens, begins, marks)[~np.insert(masked, begins, False)]
    noise_begins = np.concatenate([[0], np.cumsum(noise_lengths)])[:spans]
    targets = np.insert(tokens[masked], noise_begins, marks)
    if self.mode_token is not None:
      inputs = np.concatenate([[np.int32(self.mode_token)], inputs])
    return inputs.astype(np.int32), targets.astype(np.int32)

  def chunk_length(self, inputs_length, targets_length):
    """Returns the longest chunk that fits, EOS included."""

    def fits(n):
      inputs, targets = self.lengths(n, None)
      return inputs < inputs_length and targets < targets_length

    return self._longest(fits)

  def num_sentinels(self, chunk_length):
    """Returns the number of spans of a chunk."""
    return int(self._counts(chunk_length)[1])

  def mode_tokens(self):
    """Returns the mode token, if any."""
    return () if self.mode_token is None else (self.mode_token,)


def _random_composition(rng, total: int, parts: int) -> np.ndarray:
  """Returns `parts` positive numbers of sum `total`, uniformly."""
  if parts <= 0:
    return np.zeros(0, np.int64)
  cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
  return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixLM(Objective):
  """Continues a prefix: the chunk is cut at a uniformly random place.

  `min_fraction` and `max_fraction` bound the prefix's share of the chunk.
  """

  min_fraction: float = 0.0
  max_fraction: float = 1.0
  mode_token: int | None = None

  def __post_init__(self):
    if not 0 <= self.min_fraction <= self.max_fraction <= 1:
      raise ValueError(
        f"min_fraction={self.min_fraction} and max_fraction="
        f"{self.max_fraction} must satisfy 0 <= min <= max <= 1; change "
        "PrefixLM.min_fraction / .max_fraction"
      )

  def _prefix(self, num_tokens: Any, keys: Any) -> Any:
    n = np.asarray(num_tokens, np.int64)
    low, high = self._bounds(n)
    choice = (counter_random.uniform(keys, 1) * (high - low + 1)).astype(
      np.int64
    )
    return np.minimum(low + choice, high)

  def _bounds(self, n: Any) -> tuple[Any, Any]:
    """Returns the shortest and longest prefix; one token stays to predict."""
    low = np.ceil(n * self.min_fraction).astype(np.int64)
    high = np.floor(n * self.max_fraction).astype(np.int64)
    high = np.maximum(np.minimum(high, n - 1), 0)
    return np.minimum(low, high), high

  def lengths(self, num_tokens, keys):
    """Returns the lengths of inputs and targets, without EOS, per chunk."""
    prefix = self._prefix(num_tokens, keys)
    mode = 0 if self.mode_token is None else 1
    return prefix + mode, num_tokens - prefix

  def apply(self, tokens, key, sentinels):
    """Returns (inputs, targets) of one chunk, without EOS."""
    split = int(self._prefix(len(tokens), np.asarray(key, np.uint64)))
    tokens = np.asarray(tokens, np.int32)
    mode = np.asarray(self.mode_tokens(), np.int32)
    return np.concatenate([mode, tokens[:split]]), tokens[split:]

  def chunk_length(self, inputs_length, targets_length):
    """Returns the longest chunk whose every allowed cut fits."""
    mode = len(self.mode_tokens())

    def fits(n):
      low, high = self._bounds(np.int64(n))
      return high + mode < inputs_length and n - low < targets_length

    return self._longest(fits)

  def mode_tokens(self):
    """Returns the mode token, if any."""
    return () if self.mode_token is None else (self.mode_token,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLM(Objective):
  """Predicts every token of the chunk; there are no inputs."""

  def lengths(self, num_tokens, keys):
    """Returns zero and the chunk's length."""
    n = np.asarray(num_tokens, np.int64)
    return np.zeros_like(n), n

  def apply(self, tokens, key, sentinels):
    """Returns no inputs and the chunk as targets."""
    return np.zeros(0, np.int32), np.asarray(tokens, np.int32)

  def chunk_length(self, inputs_length, targets_length):
    """Returns the targets' length without EOS."""
    return targets_length - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserMixture(Objective):
  """Draws one of several objectives per chunk, by rate (UL2)."""

  objectives: Sequence[Objective]
  rates: Sequence[float] | None = None

  def __post_init__(self):
    rates = self.rates
    if not self.objectives or (
      rates is not None
      and (len(rates) != len(self.objectives) or min(rates) < 0)
    ):
      raise ValueError(
        f"{len(self.objectives)} objectives with rates={rates}: give at "
        "least one objective and as many rates, none negative; change "
        "DenoiserMixture.objectives / .rates"
      )

  def _choice(self, keys: Any) -> Any:
    """Returns the number of the objective per key."""
    rates = self.rates or [1.0] * len(self.objectives)
    bounds = np.cumsum(rates) / np.sum(rates)
    choice = np.searchsorted(
      bounds, counter_random.uniform(keys, 2), side="right"
    )
    return np.minimum(choice, len(self.objectives) - 1)

  def lengths(self, num_tokens, keys):
    """Returns the lengths of inputs and targets, without EOS, per chunk."""
    choice = self._choice(keys)
    every = [o.lengths(num_tokens, keys) for o in self.objectives]
    return (
      np.choose(choice, [inputs for inputs, _ in every]),
      np.choose(choice, [targets for _, targets in every]),
    )

  def apply(self, tokens, key, sentinels):
    """Returns (inputs, targets) of one chunk, without EOS."""
    chosen = self.objectives[int(self._choice(np.asarray(key, np.uint64)))]
    return chosen.apply(tokens, key, sentinels)

  def chunk_length(self, inputs_length, targets_length):
    """Returns the longest chunk that fits under every objective."""
    return min(
      o.chunk_length(inputs_length, targets_length) for o in self.objectives
    )

  def num_sentinels(self, chunk_length):
    """Returns the most spans any objective makes."""
    return max(o.num_sentinels(chunk_length) for o in self.objectives)

  def mode_tokens(self):
    """Returns the mode tokens of all objectives."""
    return tuple(t for o in self.objectives for t in o.mode_tokens())

  def spec(self):
    """Returns the JSON description."""
    inner = [o.spec() for o in self.objectives]
    rates = None if self.rates is None else list(self.rates)
    return {"kind": "DenoiserMixture", "objectives": inner, "rates": rates}


def ul2(
  *,
  regular_token: int | None = None,
  sequential_token: int | None = None,
  extreme_token: int | None = None,
) -> DenoiserMixture:
  """Returns UL2's seven denoisers at equal rates, with mode tokens if given.

  Two regular (R), one sequential (S) and four extreme (X) ones, after
  https://arxiv.org/abs/2205.05131, table 1.
  """
  r = {"mode_token": regular_token}
  x = {"mode_token": extreme_token}
  return DenoiserMixture(
    objectives=(
      SpanCorruption(noise_density=0.15, mean_span_length=3.0, **r),
      SpanCorruption(noise_density=0.15, mean_span_length=8.0, **r),
      PrefixLM(min_fraction=0.5, max_fraction=1.0, mode_token=sequential_token),
      SpanCorruption(noise_density=0.5, mean_span_length=3.0, **x),
      SpanCorruption(noise_density=0.5, mean_span_length=8.0, **x),
      SpanCorruption(noise_density=0.15, mean_span_length=64.0, **x),
      SpanCorruption(noise_density=0.5, mean_span_length=64.0, **x),
    )
  )


def from_spec(spec: Mapping[str, Any]) -> Objective:
  """Builds the objective that `Objective.spec` described."""
  fields = dict(spec)
  kind = fields.pop("kind")
  if kind == "DenoiserMixture":
    fields["objectives"] = tuple(from_spec(o) for o in fields["objectives"])
  kinds = {
    c.__name__: c for c in (SpanCorruption, PrefixLM, CausalLM, DenoiserMixture)
  }
  return kinds[kind](**fields)


class SeqioObjective:
  """An objective as a seqio preprocessor, over features `targets`.

  In prepared mode the feed recognises it and applies the objective itself;
  elsewhere in seqio it joins, cuts and corrupts within tf.data. No dataclass:
  seqio would look for its lengths among the fields.
  """

  def __init__(self, objective: Objective):
    self.objective = objective

  def __call__(self, dataset, sequence_length=None, output_features=None):
    """Returns the dataset of corrupted chunks, without EOS."""
    import seqio
    import tensorflow as tf

    if not sequence_length or "targets" not in sequence_length:
      raise ValueError(
        "an objective needs the lengths of its features; set "
        "DatasetConfig.task_feature_lengths"
      )
    inputs_length = sequence_length.get("inputs", 2**30)
    chunk = self.objective.chunk_length(
      inputs_length, sequence_length["targets"]
    )
    vocabulary = vocabularies.from_seqio(output_features["targets"].vocabulary)
    sentinels = vocabulary.sentinels(
      self.objective.num_sentinels(chunk), f"chunks of {chunk} tokens"
    )

    def corrupt(tokens, seed):
      index = int(seed[0]) * 2**31 + int(seed[1])
      key = counter_random.keys_of(0, np.asarray([index % 2**63]))[0]
      return self.objective.apply(tokens, key, sentinels)

    @seqio.map_over_dataset(num_seeds=1)
    def corrupt_chunk(tokens, seed):
      inputs, targets = tf.numpy_function(
        corrupt, (tokens, seed), (tf.int32, tf.int32)
      )
      inputs.set_shape((None,))
      targets.set_shape((None,))
      return {"inputs": inputs, "targets": targets}

    # End to end, then cut into chunks; one token cannot be corrupted.
    tokens = dataset.map(lambda x: tf.cast(x["targets"], tf.int32))
    chunks = tokens.unbatch().batch(chunk).filter(lambda x: tf.size(x) > 1)
    return corrupt_chunk(chunks)


def as_seqio_preprocessor(objective: Objective) -> SeqioObjective:
  """Returns the objective as a preprocessor for a seqio Task.

  Put it behind tokenization (and behind a CacheDatasetPlaceholder, if any),
  before `append_eos`.
  """
  return SeqioObjective(objective)
