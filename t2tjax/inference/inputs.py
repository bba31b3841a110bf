"""Where inputs come from: files of one's own, or the examples of a Task.

Bound to `infer.inputs`. Every line is numbered before it is looked at, so that
a bad one takes its place and work can be cut into chunks of lines.
May import: layers 0 to 4.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
from typing import Any, Protocol

import numpy as np

from t2tjax import data
from t2tjax.data import sources, vocabularies

# Rows that are looked at before the work starts.
_CHECKED_ROWS = 10


class RejectedError(ValueError):
  """Why a line is no input; never shows it, for it may be private."""


@dataclasses.dataclass(frozen=True)
class Input:
  """One input.

  Attributes:
    fields: what its output line begins with: where it is from, its text.
    tokens: `inputs` and, if there are any, `targets`; whole.
  """

  fields: Mapping[str, Any]
  tokens: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Line:
  """A place in the input, and what is there, not yet looked at."""

  place: Mapping[str, Any]
  content: Any


class Inputs(Protocol):
  """What a job reads."""

  def identity(self) -> dict[str, Any]:
    """Returns what decides the inputs, JSON-able."""

  def lines(self) -> Iterator[Line]:
    """Yields every line, bad ones as well; cheap."""

  def parse(self, line: Line, model: Any, *, targets: bool) -> Input:
    """Returns the input in a line.

    Raises:
      RejectedError: there is none.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileInputs:
  """Lines of JSONL, CSV, TSV or text files; `.gz` is decompressed.

  Attributes:
    path: a file, or a glob pattern of several.
    inputs: a column's name, or a template such as 'question: {question}'. A
      text file has the column `inputs`.
    targets: likewise, of what is to be scored.
    format: 'jsonl', 'csv', 'tsv', 'text', or 'auto' for what the name ends in.
    keep: columns that are copied to the output.
    write_inputs: whether the output repeats the inputs.
    add_eos: whether inputs end in EOS, as in training from files.
  """

  path: str
  inputs: str = "inputs"
  targets: str | None = None
  format: str = "auto"
  keep: Sequence[str] = ()
  write_inputs: bool = True
  add_eos: bool = True

  def __post_init__(self):
    if self.format not in ("auto", *_FORMATS):
      raise ValueError(
        f"FileInputs.format = {self.format!r} must be 'auto' or one of "
        f"{', '.join(map(repr, _FORMATS))}."
      )

  def identity(self) -> dict[str, Any]:
    """Returns settings and checksums of the files."""
    files = {f: vocabularies.file_sha256(f) for f in self._files}
    return {**dataclasses.asdict(self), "files": files}

  def lines(self) -> Iterator[Line]:
    """Yields the lines of all files, which are in order of their names."""
    several = len(self._files) > 1
    for path in self._files:
      place = {"file": os.path.basename(path)} if several else {}
      for number, content in self._source(path).lines(path):
        yield Line({**place, "line": number}, (path, content))

  def parse(self, line: Line, model: Any, *, targets: bool) -> Input:
    """Returns the input in a line; see `Inputs`."""
    texts, row = self._texts(line, targets=targets)
    tokens = {
      name: encode(vocabulary, texts[name], self.add_eos or name == "targets")
      for name, vocabulary in (
        ("inputs", model.input_vocabulary),
        ("targets", model.output_vocabulary),
      )
      if name in texts
    }
    kept = {name: row[name] for name in self.keep if name in row}
    shown = texts if self.write_inputs else {}
    return Input({**line.place, **kept, **shown}, tokens)

  def check(self, *, targets: bool) -> None:
    """Raises ValueError if the first rows all lack a column."""
    if targets and self.targets is None:
      raise ValueError(
        "mode 'score' needs the texts to score; set FileInputs.targets "
        "(TARGETS) to their column."
      )
    errors = []
    for line in self.lines():
      try:
        self._texts(line, targets=targets)
      except RejectedError as error:
        errors.append(error)
      else:
        return
      if len(errors) == _CHECKED_ROWS:
        break
    if errors:
      raise ValueError(
        f"None of the first {len(errors)} lines of {self.path!r} is an input: "
        f"{errors[-1]}. Change INPUT_PATH, FileInputs.inputs (INPUTS) or "
        "FileInputs.format."
      )

  def _texts(
    self, line: Line, *, targets: bool
  ) -> tuple[dict[str, str], Mapping[str, Any]]:
    path, content = line.content
    source = self._source(path)
    columns = {"inputs": self.inputs}
    if targets and self.targets is not None:
      columns["targets"] = self.targets
    try:
      row = source.parse(content)
      if row is None:
        raise RejectedError("is empty")
      texts = {name: source.text(row, c) for name, c in columns.items()}
    except sources.BadLineError as error:
      # What to change is in the configuration; a line gets the reason only.
      raise RejectedError(str(error).split("; change")[0]) from None
    for name, text in texts.items():
      if not text.strip():
        raise RejectedError(f"the {name} are empty")
      if not sources.is_text(text):
        raise RejectedError(f"the {name} hold half a character (surrogate)")
    return texts, row

  @property
  def _files(self) -> list[str]:
    return data.JsonlSource(path=self.path).files("")

  def _source(self, path: str) -> sources.TextSource:
    name = path.removesuffix(".gz")
    format_ = self.format
    if format_ == "auto":
      ending = os.path.splitext(name)[1].lstrip(".")
      if ending not in _ENDINGS:
        raise ValueError(
          f"{path!r} has none of the endings {', '.join(_ENDINGS)}; set "
          f"FileInputs.format to one of {', '.join(map(repr, _FORMATS))}."
        )
      format_ = _ENDINGS[ending]
    return _FORMATS[format_]


_FORMATS: dict[str, sources.TextSource] = {
  "jsonl": sources.JsonlSource(path=""),
  "csv": sources.CsvSource(path=""),
  "tsv": sources.CsvSource(path="", delimiter="\t"),
  "text": sources.LineSource(path=""),
}
_ENDINGS = {
  "jsonl": "jsonl",
  "json": "jsonl",
  "csv": "csv",
  "tsv": "tsv",
  "txt": "text",
  "text": "text",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskInputs:
  """The examples of a Task or Mixture, prepared at first use.

  Attributes:
    dataset_cfg: names them; its feature lengths cut the examples.
    prepared_dir: where token records are kept.
    write_inputs: whether the output repeats inputs and targets; leave it out
      for personal data.
  """

  dataset_cfg: data.DatasetConfig
  prepared_dir: str | None = None
  write_inputs: bool = True

  def identity(self) -> dict[str, Any]:
    """Returns name, split and lengths."""
    config = self.dataset_cfg
    return {
      "task": config.mixture_or_task_name,
      "split": config.split,
      "lengths": dict(config.task_feature_lengths),
      "write_inputs": self.write_inputs,
    }

  def check(self, *, targets: bool) -> None:
    """Every Task has targets."""

  def lines(self) -> Iterator[Line]:
    """Yields every example of every task, in order."""
    # What is evaluated in order does not depend on the kind of model.
    for task in data.eval_tasks(
      self.dataset_cfg, "decoder_only", prepared_dir=self.prepared_dir
    ):
      tokens = task.member.all_tokens()
      pairs = zip(tokens, task.examples, strict=True)
      for number, content in enumerate(pairs):
        yield Line({"task": task.name, "example": number}, content)

  def parse(self, line: Line, model: Any, *, targets: bool) -> Input:
    """Returns the example; see `Inputs`."""
    tokens, example = line.content
    if "inputs" not in tokens:
      raise RejectedError("has no inputs")
    texts = {}
    for name in ("inputs", "targets") if self.write_inputs else ():
      text = example.get(f"{name}_pretokenized", "")
      texts[name] = text.decode() if isinstance(text, bytes) else text
    names = ("inputs", "targets") if targets else ("inputs",)
    return Input({**line.place, **texts}, {n: tokens[n] for n in names})


def encode(vocabulary: Any, text: str, eos: bool) -> np.ndarray:
  """Returns the ids of a text, with EOS if wanted and there is one."""
  end = [vocabulary.eos_id] if eos and vocabulary.eos_id is not None else []
  return np.asarray(vocabulary.encode(text) + end, np.int32)
