"""The tasks of a mixture as endless sequences of draws.

Draw j of a member is an example of epoch j // n. A member resolves many draws
at once to references, tells the lengths behind references without reading
them, and reads one. Called by `planning` and feeds. May import: `data`.
"""

from collections.abc import Iterator, Mapping
from typing import Any
import zlib

import numpy as np

from t2tjax.data import counter_random, objectives, records
from t2tjax.data import manifest as manifest_lib
from t2tjax.data.config import DatasetConfig

# Columns of a reference; what they mean is the member's own affair.
REFERENCE_SIZE = 3
# Stands for "as long as you like" where a feature has no length limit.
_UNBOUNDED = 2**30


class Member:
  """One task: what every kind of draw shares.

  Attributes:
    name: task name.
    num_draws_per_epoch: draws until every example was seen once.
    records: the prepared records.
    report: counts of truncated, dropped and empty examples of one epoch.
  """

  records: records.Records

  def __init__(self, name: str, seed: int, shuffle: bool):
    self.name = name
    self.num_draws_per_epoch = 0
    self.report: dict[str, Any] = {}
    self._shuffle = shuffle
    # Members of a mixture must not share their orders.
    self._seed = seed * 2**32 + zlib.crc32(name.encode())

  def all_tokens(self) -> Iterator[dict[str, np.ndarray]]:
    """Yields the draws of the first epoch."""
    for reference in self.resolve(np.arange(self.num_draws_per_epoch)):
      yield self.tokens(reference)

  def positions(self, draws: np.ndarray) -> np.ndarray:
    """Returns which of the epoch's examples each draw is."""
    epochs, places = np.divmod(np.asarray(draws), self.num_draws_per_epoch)
    if not self._shuffle:
      return places
    keys = counter_random.keys_of(self._seed, epochs)
    return counter_random.permute(self.num_draws_per_epoch, keys, places)

  def resolve(self, draws: np.ndarray) -> np.ndarray:
    """Returns references, uint64 `[draws, REFERENCE_SIZE]`."""
    raise NotImplementedError

  def lengths(self, references: np.ndarray) -> dict[str, np.ndarray]:
    """Returns final token counts per feature, int64 `[references]`."""
    raise NotImplementedError

  def tokens(self, reference: np.ndarray) -> dict[str, np.ndarray]:
    """Returns final token ids per feature behind one reference."""
    raise NotImplementedError


class ExampleMember(Member):
  """Examples as prepared, trimmed to the feature lengths."""

  def __init__(
    self,
    manifest: manifest_lib.TaskManifest,
    task_records: records.Records,
    config: DatasetConfig,
    *,
    keep_all: bool = False,
  ):
    super().__init__(manifest.task, config.data_seed, config.shuffle)
    self.records = task_records
    self._limits = dict(config.task_feature_lengths)
    features = {f.name: f for f in manifest.features}
    for name in self._limits:
      if name not in features:
        raise ValueError(
          f"task {manifest.task!r} has no feature {name!r} (it has "
          f"{', '.join(features)}); change DatasetConfig.task_feature_lengths"
          ", or set DatasetConfig.objective if it is a corpus"
        )
    self._final_eos = {
      name: features[name].build_vocabulary().eos_id
      for name in self._limits
      if features[name].eos_after_trim
    }
    long = {
      name: task_records.lengths[name] > limit
      for name, limit in self._limits.items()
    }
    empty = self._without_targets(features["targets"])
    dropped = task_records.lengths["targets"] == 0
    if config.overlong == "drop":
      dropped = dropped | np.any(list(long.values()), axis=0)
    if keep_all:
      dropped = np.zeros_like(dropped)
    self._kept = np.flatnonzero(~dropped)
    self.num_draws_per_epoch = len(self._kept)
    if not len(self._kept):
      raise ValueError(
        f"task {manifest.task!r} split {manifest.split!r} has no usable "
        f"example among {len(task_records)} (no targets, or longer than "
        "task_feature_lengths); change DatasetConfig.overlong or "
        "DatasetConfig.task_feature_lengths"
      )
    self.report = {
      "examples": len(task_records),
      "dropped": int(dropped.sum()),
      "empty_targets": int(empty.sum()),
      "truncated": {
        name: int((where & ~dropped).sum()) for name, where in long.items()
      },
      "tokens": {
        name: int(np.minimum(task_records.lengths[name][self._kept], n).sum())
        for name, n in self._limits.items()
      },
    }

  def _without_targets(self, feature: manifest_lib.FeatureSpec) -> np.ndarray:
    """Returns which examples have no target token besides EOS."""
    lengths = self.records.lengths["targets"]
    empty = lengths == 0
    eos = feature.build_vocabulary().eos_id
    for index in np.flatnonzero(lengths == 1):
      empty[index] = self.records.tokens("targets", int(index))[0] == eos
    return empty

  def resolve(self, draws):
    """Returns references: the record's number."""
    references = np.zeros((len(draws), REFERENCE_SIZE), np.uint64)
    references[:, 0] = self._kept[self.positions(draws)]
    return references

  def lengths(self, references):
    """Returns final token counts per feature, int64 `[references]`."""
    indices = references[:, 0].astype(np.int64)
    return {
      name: np.minimum(self.records.lengths[name][indices], limit)
      for name, limit in self._limits.items()
    }

  def tokens(self, reference):
    """Returns final token ids per feature of one record."""
    index, example = int(reference[0]), {}
    for name, limit in self._limits.items():
      tokens = self.records.tokens(name, index)
      if len(tokens) > limit:
        tokens = tokens[:limit]
        if name in self._final_eos:
          tokens = tokens.copy()
          tokens[-1] = self._final_eos[name]
      example[name] = tokens
    return example


class ObjectiveMember(Member):
  """A corpus, cut into chunks that an objective corrupts.

  Documents are joined in record order; each epoch cuts the endless stream at
  other places, and every token is in exactly one chunk of an epoch.
  """

  def __init__(
    self,
    manifest: manifest_lib.TaskManifest,
    task_records: records.Records,
    config: DatasetConfig,
    objective: objectives.Objective,
  ):
    super().__init__(manifest.task, config.data_seed, config.shuffle)
    self.records = task_records
    self._objective = objective
    limits = config.task_feature_lengths
    features = {f.name: f for f in manifest.features}
    vocabulary = features["targets"].build_vocabulary()
    self._features = list(limits)
    self._eos = vocabulary.eos_id if features["targets"].add_eos else None
    self._chunk = objective.chunk_length(
      limits.get("inputs", _UNBOUNDED), limits["targets"]
    )
    self._sentinels = vocabulary.sentinels(
      objective.num_sentinels(self._chunk), f"chunks of {self._chunk} tokens"
    )
    bad = [t for t in objective.mode_tokens() if t >= vocabulary.vocab_size]
    if bad:
      raise ValueError(
        f"mode tokens {bad} are outside the vocabulary of "
        f"{vocabulary.vocab_size}; change the objective's mode_token"
      )
    self._total = task_records.num_tokens("targets")
    whole, rest = divmod(self._total, self._chunk)
    # One token cannot be corrupted.
    self.num_draws_per_epoch = whole + (rest >= 2)
    if not self.num_draws_per_epoch:
      raise ValueError(
        f"the corpus {manifest.task!r} has {self._total} tokens, too few for "
        "a chunk"
      )
    self.report = {
      "examples": self.num_draws_per_epoch,
      "documents": len(task_records),
      "chunk_tokens": self._chunk,
      "dropped": 0,
      "empty_targets": 0,
      "truncated": dict.fromkeys(limits, 0),
    }

  def resolve(self, draws):
    """Returns references: the chunk's begin, its length, and a random key."""
    places = self.positions(draws) * self._chunk
    lengths = np.minimum(self._chunk, self._total - places)
    if self._shuffle:
      epochs = np.asarray(draws) // self.num_draws_per_epoch
      phases = counter_random.keys_of(self._seed + 1, epochs)
      phases = (phases % np.uint64(self._total)).astype(np.int64)
      places = (places + phases) % self._total
    keys = counter_random.keys_of(self._seed + 2, draws)
    return np.stack(
      [places.astype(np.uint64), lengths.astype(np.uint64), keys], 1
    )

  def lengths(self, references):
    """Returns final token counts per feature, int64 `[references]`."""
    inputs, targets = self._objective.lengths(
      references[:, 1].astype(np.int64), references[:, 2]
    )
    eos = 0 if self._eos is None else 1
    every = {"inputs": inputs + eos, "targets": targets + eos}
    return {name: every[name] for name in self._features}

  def tokens(self, reference):
    """Returns final token ids per feature of one chunk."""
    begin, length, key = reference
    chunk = self.records.stream("targets", int(begin), int(length))
    inputs, targets = self._objective.apply(chunk, key, self._sentinels)
    if self._eos is not None:
      inputs = np.append(inputs, np.int32(self._eos))
      targets = np.append(targets, np.int32(self._eos))
    every = {"inputs": inputs, "targets": targets}
    return {name: every[name] for name in self._features}


def mixing_rates(
  members: Mapping[str, float], config: DatasetConfig
) -> dict[str, float]:
  """Returns the share of each task among the examples drawn.

  Args:
    members: the mixture's own rate per task.
    config: may replace, cut or temper the rates.
  """
  rates = dict(members)
  if config.mixing_rates is not None:
    if set(config.mixing_rates) != set(rates):
      raise ValueError(
        f"mixing_rates names {sorted(config.mixing_rates)}, the mixture has "
        f"{sorted(rates)}; change DatasetConfig.mixing_rates"
      )
    rates = dict(config.mixing_rates)
  if config.mixing_maximum is not None:
    rates = {k: min(r, config.mixing_maximum) for k, r in rates.items()}
  rates = {k: r ** (1.0 / config.mixing_temperature) for k, r in rates.items()}
  total = sum(rates.values())
  if min(rates.values()) < 0 or total <= 0:
    raise ValueError(
      f"mixing rates {rates} must not be negative and not all be zero; "
      "change the mixture or DatasetConfig.mixing_rates"
    )
  return {k: r / total for k, r in rates.items()}
