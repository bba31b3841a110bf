"""Text sources of one's own: JSONL, CSV and TSV files, no registration.

Bound to `DatasetConfig.source`; prepared by the same writer as tasks, without
TensorFlow. May import: data.paths, data.records, data.vocabularies.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import csv
import dataclasses
import gzip
import itertools
import json
from typing import Any

import numpy as np

from t2tjax.data import paths
from t2tjax.data.records import Example
from t2tjax.data.vocabularies import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSource:
  """Rows of named columns, turned into inputs and targets.

  Attributes:
    path: file or glob pattern, or one per split.
    inputs: a column's name, or a template such as
      `'question: {question} context: {context}'`.
    targets: likewise.
    split_column: column that names the split of a row, if one file holds all.
    metric_fns: functions `(targets, predictions) -> dict`.
  """

  path: str | Mapping[str, str]
  inputs: str = "inputs"
  targets: str = "targets"
  split_column: str | None = None
  metric_fns: Sequence[Callable] = ()

  def rows(self, path: str) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of one file."""
    raise NotImplementedError

  def spec(self) -> dict[str, Any]:
    """Returns what decides the examples, as JSON-able values."""
    fields = dataclasses.asdict(self)
    del fields["metric_fns"]
    return {"kind": type(self).__name__, **fields}

  def files(self, split: str) -> list[str]:
    """Returns the files that hold a split."""
    pattern = self.path
    if isinstance(pattern, Mapping):
      if split not in pattern:
        raise ValueError(
          f"there is no path for split {split!r}, only for "
          f"{', '.join(pattern)}; change {type(self).__name__}.path or "
          "DatasetConfig.split"
        )
      pattern = pattern[split]
    found = paths.resolve_files(pattern)
    if not found:
      raise ValueError(
        f"no file matches {pattern!r}; change {type(self).__name__}.path"
      )
    return found

  def examples(
    self,
    split: str,
    vocabulary: Vocabulary,
    features: Sequence[str],
    *,
    eos: bool,
    texts: bool,
    skip: int = 0,
  ) -> Iterator[Example]:
    """Yields tokenized examples of a split, from number `skip` on."""
    end = [vocabulary.eos_id] if eos and vocabulary.eos_id is not None else []
    for row in itertools.islice(self._split_rows(split), skip, None):
      text = {name: self._text(row, getattr(self, name)) for name in features}
      yield Example(
        {
          name: np.asarray(vocabulary.encode(text[name]) + end, np.int32)
          for name in features
        },
        {f"{name}_pretokenized": value for name, value in text.items()}
        if texts
        else None,
      )

  def _split_rows(self, split: str) -> Iterator[Mapping[str, Any]]:
    for path in self.files(split):
      for row in self.rows(path):
        if self.split_column is None or row.get(self.split_column) == split:
          yield row

  def _text(self, row: Mapping[str, Any], column: str) -> str:
    try:
      if "{" in column:
        return column.format_map(row)
      value = row[column]
    except KeyError as error:
      raise ValueError(
        f"column {error.args[0]!r} is missing; the row has "
        f"{', '.join(map(str, row))}; change {type(self).__name__}.inputs or "
        ".targets"
      ) from error
    if not isinstance(value, (str, int, float)):
      raise ValueError(
        f"column {column!r} holds {type(value).__name__}, not text; change "
        f"{type(self).__name__}.inputs or .targets"
      )
    return str(value)


def _open_text(path: str):
  opener = gzip.open if path.endswith(".gz") else open
  return opener(path, "rt", encoding="utf-8", newline="")


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonlSource(TextSource):
  """One JSON object a line; `.gz` is decompressed."""

  def rows(self, path):
    """Yields the objects of one file."""
    with _open_text(path) as file:
      for number, line in enumerate(file, 1):
        if not line.strip():
          continue
        try:
          row = json.loads(line)
        except json.JSONDecodeError as error:
          # The line itself may be private: it is counted, not shown.
          raise ValueError(
            f"line {number} of {path} is not JSON ({error.msg} at column "
            f"{error.colno}); mend the file or change JsonlSource.path"
          ) from None
        if not isinstance(row, dict):
          raise ValueError(
            f"line {number} of {path} is a {type(row).__name__}, not a JSON "
            "object; mend the file or change JsonlSource.path"
          )
        yield row


@dataclasses.dataclass(frozen=True, kw_only=True)
class CsvSource(TextSource):
  """Comma or otherwise separated columns, named by the first line."""

  delimiter: str = ","

  def rows(self, path):
    """Yields the lines of one file as column -> text."""
    with _open_text(path) as file:
      for number, row in enumerate(
        csv.DictReader(file, delimiter=self.delimiter), 2
      ):
        if None in row or None in row.values():
          raise ValueError(
            f"line {number} of {path} has another number of columns than the "
            "first; mend the file or change CsvSource.delimiter"
          )
        yield row
