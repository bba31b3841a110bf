"""Text sources of one's own: JSONL, CSV, TSV and text files, no registration.

Bound to `DatasetConfig.source` and prepared by the same writer as tasks, or
read line by line by `inference`; no TensorFlow. May import: data.paths,
data.records, data.vocabularies.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import csv
import dataclasses
import functools
import gzip
import io
import itertools
import json
import string
from typing import Any

import numpy as np

from t2tjax.data import paths
from t2tjax.data.records import Example
from t2tjax.data.vocabularies import Vocabulary


class BadLineError(ValueError):
  """Why a line holds no row; never shows the line, which may be private."""


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

  def lines(self, path: str) -> Iterator[tuple[int, Any]]:
    """Yields `(line number, what parse takes)`, bad and empty lines as well.

    Cheap next to `parse`, so that lines can be counted and skipped.
    """
    raise NotImplementedError

  def parse(self, line: Any) -> Mapping[str, Any] | None:
    """Returns the row in a line, None if it is empty.

    Raises:
      BadLineError: the line holds no row.
    """
    raise NotImplementedError

  def rows(self, path: str) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of one file."""
    for number, line in self.lines(path):
      try:
        row = self.parse(line)
      except BadLineError as error:
        raise ValueError(
          f"line {number} of {path} {error}; mend the file or change "
          f"{type(self).__name__}"
        ) from None
      if row is not None:
        yield row

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
      text = {name: self.text(row, getattr(self, name)) for name in features}
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

  def text(self, row: Mapping[str, Any], column: str) -> str:
    """Returns the text of a column, or of a template filled from columns."""
    if "{" not in column:
      return self._value(row, column)
    fields = {name: self._value(row, name) for name in _template_fields(column)}
    return column.format_map(fields)

  def _value(self, row: Mapping[str, Any], column: str) -> str:
    if column not in row:
      raise BadLineError(
        f"column {column!r} is missing; the row has "
        f"{', '.join(map(str, row))}; change {type(self).__name__}.inputs or "
        ".targets"
      )
    value = row[column]
    if not isinstance(value, (str, int, float)):
      raise BadLineError(
        f"column {column!r} holds {type(value).__name__}, not text; change "
        f"{type(self).__name__}.inputs or .targets"
      )
    return str(value)


@functools.lru_cache(maxsize=16)
def _template_fields(template: str) -> tuple[str, ...]:
  parsed = string.Formatter().parse(template)
  return tuple(name for _, name, _, _ in parsed if name)


def _open_bytes(path: str):
  return (gzip.open if path.endswith(".gz") else open)(path, "rb")


def _decoded(line: bytes) -> str:
  try:
    return line.decode("utf-8")
  except UnicodeDecodeError as error:
    raise BadLineError(f"is not UTF-8 (byte {error.start + 1})") from None


class _ByteLines(TextSource):
  """A row in each line of the file; `.gz` is decompressed."""

  def lines(self, path):
    """Yields the numbered lines of one file, as bytes."""
    with _open_bytes(path) as file:
      yield from enumerate(file, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonlSource(_ByteLines):
  """One JSON object a line; `.gz` is decompressed."""

  def parse(self, line):
    """Returns the object in a line."""
    if not line.strip():
      return None
    text = _decoded(line)
    try:
      row = json.loads(text)
    except json.JSONDecodeError as error:
      raise BadLineError(
        f"is not JSON ({error.msg} at column {error.colno})"
      ) from None
    except ValueError:  # An integer of thousands of digits.
      raise BadLineError("is JSON with a number out of range") from None
    except RecursionError:
      raise BadLineError("is nested too deeply") from None
    if not isinstance(row, dict):
      raise BadLineError(f"is a {type(row).__name__}, not a JSON object")
    return row


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineSource(_ByteLines):
  """Plain text; every line is an example with the one column `inputs`."""

  def parse(self, line):
    """Returns the line as the column `inputs`."""
    text = _decoded(line).rstrip("\r\n")
    return {"inputs": text} if text.strip() else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CsvSource(TextSource):
  """Comma or otherwise separated columns, named by the first line."""

  delimiter: str = ","

  def lines(self, path):
    """Yields `(number of the first line, (column names, values or error))`."""
    with _open_bytes(path) as file:
      # Bytes that are no UTF-8 spoil their own row only; see `parse`. A byte
      # order mark, as Excel writes, is no part of the first column's name.
      text = io.TextIOWrapper(
        file, encoding="utf-8-sig", errors="surrogateescape", newline=""
      )
      reader = csv.reader(text, delimiter=self.delimiter)
      names = next(reader, None)
      while True:
        number = reader.line_num + 1
        try:
          values = next(reader)
        except StopIteration:
          return
        except csv.Error as error:
          yield number, (names, f"is not CSV ({error})")
          continue
        yield number, (names, values)

  def parse(self, line):
    """Returns column -> text."""
    names, values = line
    if isinstance(values, str):
      raise BadLineError(values)
    if not values:
      return None
    if len(values) != len(names):
      raise BadLineError("has another number of columns than the first")
    if any(not text.isascii() and not is_text(text) for text in values):
      raise BadLineError("is not UTF-8")
    return dict(zip(names, values, strict=True))


def is_text(text: str) -> bool:
  """Whether a string can be written: it holds no half of a character."""
  try:
    text.encode("utf-8")
  except UnicodeEncodeError:
    return False
  return True
