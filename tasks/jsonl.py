"""A seqio source over JSONL files, plain or gzip-compressed.

Used by the task files of this package; imports seqio and, only when a dataset
is asked for, TensorFlow. `read` serves Python code that needs neither.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import gzip
import json
from typing import Any

import seqio


def read(path: str, split: str | None = None) -> Iterator[dict[str, Any]]:
  """Yields the records of a JSONL file, or those of one split.

  Args:
    path: the file; a name that ends in `.gz` is decompressed.
    split: keep records whose `split` field (default `train`) equals this.

  Yields:
    One dict per line.
  """
  opener = gzip.open if path.endswith(".gz") else open
  with opener(path, "rt", encoding="utf-8") as lines:
    for number, line in enumerate(lines, start=1):
      try:
        record = json.loads(line)
      except json.JSONDecodeError as error:
        # The line itself may be private: it is counted, not shown.
        raise ValueError(
          f"Line {number} of {path} is not JSON ({error.msg} at column "
          f"{error.colno}); each line must be one JSON object."
        ) from None
      if split is None or record.get("split", "train") == split:
        yield record


class JsonLinesSource(seqio.FileDataSource):
  """Text fields of the records of one JSONL file, by their `split` field."""

  def __init__(
    self,
    path: str,
    splits: Sequence[str] | Mapping[str, str] = ("train", "validation"),
    fields: Sequence[str] = ("inputs", "targets"),
  ):
    """Describes the source; nothing is read until it is used.

    Args:
      path: the file; read as a whole, so meant for files that fit in memory.
      splits: the values of the `split` field that are offered, or a mapping
        from the names they are offered under.
      fields: the string fields that become features.
    """
    if not isinstance(splits, Mapping):
      splits = {split: split for split in splits}
    # As a file source it tells what must be prepared again when it changes.
    super().__init__(
      read_file_fn=read, split_to_filepattern=dict.fromkeys(splits, path)
    )
    self._path = path
    self._split_values = dict(splits)
    self._fields = tuple(fields)

  def __str__(self) -> str:
    return (
      f"JsonLinesSource({self._path}, {self._split_values}, {self._fields})"
    )

  @functools.cached_property
  def _columns(self) -> Mapping[str, Mapping[str, list[str]]]:
    """Returns split value -> field -> texts, from one pass over the file."""
    columns: dict[str, dict[str, list[str]]] = {
      value: {field: [] for field in self._fields}
      for value in self._split_values.values()
    }
    for number, record in enumerate(read(self._path), start=1):
      chosen = columns.get(record.get("split", "train"))
      if chosen is None:
        continue
      for field, values in chosen.items():
        if not isinstance(record.get(field), str):
          raise ValueError(
            f"Field {field!r} of line {number} of {self._path} is "
            f"{type(record.get(field)).__name__}, not a string; the line "
            f"has the fields {sorted(record)}."
          )
        values.append(record[field])
    return columns

  def num_input_examples(self, split: str) -> int:
    """Returns the number of records of a split."""
    return len(self._of(split)[self._fields[0]])

  def _of(self, split: str) -> Mapping[str, list[str]]:
    if split not in self._split_values:
      raise ValueError(
        f"{self._path} has no split {split!r}; it has {list(self.splits)}."
      )
    return self._columns[self._split_values[split]]

  def get_dataset(
    self,
    split="train",
    shuffle=True,
    seed=None,
    shard_info=None,
    *,
    sequence_length=None,
    use_cached=False,
    num_epochs=1,
  ):
    """Returns a tf.data.Dataset of string features, once over the split."""
    import tensorflow as tf

    del sequence_length, use_cached, num_epochs
    columns = self._of(split)
    if shard_info and shard_info.num_shards > 1:
      raise ValueError(
        f"{self._path} is one shard; {shard_info.num_shards} were asked for."
      )
    dataset = tf.data.Dataset.from_tensor_slices(dict(columns))
    if shuffle:
      dataset = dataset.shuffle(max(1, self.num_input_examples(split)), seed)
    return dataset
