"""Prepared records: flat token arrays on disk, read as memory maps.

A split is a list of shards; a shard holds, per feature, all token ids end to
end (`tokens`, uint16 or int32) and where each example begins (`offsets`,
int64). Reading an example is a slice of a memory map: no decoding, no copy, and
all lengths are known without touching a token, which is what lets batches be
planned ahead. (ArrayRecord with one proto per example was the alternative; it
decodes every record and hides the lengths.) Texts for metrics are JSON lines.

Written by `preparation`, read by feeds. May import: nothing of t2tjax.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
from typing import Any

import numpy as np

EXAMPLES_PER_SHARD = 65536
# Long documents fill a shard sooner, which bounds the writer's memory.
TOKENS_PER_SHARD = 2**25


@dataclasses.dataclass
class Example:
  """One prepared example: token ids per feature, and texts for metrics."""

  tokens: Mapping[str, np.ndarray]
  texts: Mapping[str, Any] | None = None


def _path(folder: str, shard: int, name: str) -> str:
  return os.path.join(folder, f"{shard:05d}.{name}")


def _write_array(path: str, array: np.ndarray) -> None:
  # fsync before the shard is named complete: a power cut must not leave a
  # shard that looks whole.
  with open(path, "wb") as file:
    np.save(file, array, allow_pickle=False)
    file.flush()
    os.fsync(file.fileno())


def write_shard(
  folder: str, shard: int, examples: Sequence[Example], features: list[str]
) -> None:
  """Writes one shard; its `.done` file is the last thing to appear."""
  for feature in features:
    arrays = [np.asarray(e.tokens[feature], np.int32) for e in examples]
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(a) for a in arrays], out=offsets[1:])
    tokens = np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
    if len(tokens) == 0 or (tokens.min() >= 0 and tokens.max() < 2**16):
      tokens = tokens.astype(np.uint16)
    _write_array(_path(folder, shard, f"{feature}.tokens.npy"), tokens)
    _write_array(_path(folder, shard, f"{feature}.offsets.npy"), offsets)
  if examples and examples[0].texts is not None:
    with open(_path(folder, shard, "texts.jsonl"), "w") as file:
      for example in examples:
        file.write(json.dumps(example.texts, ensure_ascii=False) + "\n")
  with open(_path(folder, shard, "done"), "w") as file:
    file.write(str(len(examples)))


def finished_shards(folder: str) -> list[int]:
  """Returns the example counts of the leading complete shards."""
  counts: list[int] = []
  while os.path.exists(done := _path(folder, len(counts), "done")):
    with open(done) as file:
      counts.append(int(file.read() or 0))
  return counts


def write_shards(
  folder: str,
  examples: Iterable[Example],
  features: list[str],
  examples_per_shard: int = EXAMPLES_PER_SHARD,
) -> Iterator[int]:
  """Writes all shards, yielding the number of examples written so far.

  `examples` must begin behind the shards that `finished_shards` reports.
  """
  shard, total = len(finished_shards(folder)), sum(finished_shards(folder))
  pending: list[Example] = []
  tokens = 0
  for example in examples:
    pending.append(example)
    total += 1
    tokens += sum(len(example.tokens[name]) for name in features)
    if len(pending) == examples_per_shard or tokens >= TOKENS_PER_SHARD:
      write_shard(folder, shard, pending, features)
      shard, pending, tokens = shard + 1, [], 0
    if total % 512 == 0:
      yield total
  if pending or total == 0:
    write_shard(folder, shard, pending, features)
  yield total


class Records:
  """Read access to the shards of one split.

  Attributes:
    features: feature names.
    lengths: per feature int32 `[examples]`, the number of tokens.
  """

  def __init__(self, folder: str, features: Sequence[str]):
    self.folder = folder
    self.features = list(features)
    counts = finished_shards(folder)
    self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    self._offsets: dict[str, list[np.ndarray]] = {}
    self._tokens: dict[str, list[np.ndarray]] = {}
    self.lengths: dict[str, np.ndarray] = {}
    for feature in self.features:
      offsets = [self._load(s, feature, "offsets") for s in range(len(counts))]
      self._offsets[feature] = offsets
      self._tokens[feature] = [
        self._load(s, feature, "tokens") for s in range(len(counts))
      ]
      self.lengths[feature] = np.concatenate(
        [np.diff(o).astype(np.int32) for o in offsets]
      )
    # Positions of the shards in the concatenation of all their tokens.
    self._stream_starts = {
      feature: np.concatenate([[0], np.cumsum([len(t) for t in shards])])
      for feature, shards in self._tokens.items()
    }

  def _load(self, shard: int, feature: str, what: str) -> np.ndarray:
    path = _path(self.folder, shard, f"{feature}.{what}.npy")
    # numpy cannot map an empty array.
    if os.path.getsize(path) <= 128:
      return np.load(path, allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)

  def __len__(self) -> int:
    return int(self._starts[-1])

  def num_tokens(self, feature: str) -> int:
    """Returns the number of tokens of all examples."""
    return int(self._stream_starts[feature][-1])

  def tokens(self, feature: str, index: int) -> np.ndarray:
    """Returns the token ids of one example."""
    shard = int(np.searchsorted(self._starts, index, side="right")) - 1
    local = index - self._starts[shard]
    begin, end = self._offsets[feature][shard][local : local + 2]
    return self._tokens[feature][shard][begin:end]

  def stream(self, feature: str, begin: int, length: int) -> np.ndarray:
    """Returns tokens of the concatenated examples, wrapping at the end."""
    starts, parts = self._stream_starts[feature], []
    position = begin % self.num_tokens(feature)
    while length > 0:
      shard = int(np.searchsorted(starts, position, side="right")) - 1
      local = position - starts[shard]
      part = self._tokens[feature][shard][local : local + length]
      parts.append(part)
      length -= len(part)
      position = (position + len(part)) % self.num_tokens(feature)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

  def texts(self) -> list[dict[str, Any]]:
    """Returns the texts of all examples, in order."""
    lines: list[dict[str, Any]] = []
    for shard in range(len(self._starts) - 1):
      path = _path(self.folder, shard, "texts.jsonl")
      if os.path.exists(path):
        with open(path) as file:
          lines.extend(json.loads(line) for line in file)
    return lines
