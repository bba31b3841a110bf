"""Cuts the lines of a job into chunks, reads them and writes what comes out.

Called by `infer`. May import: this package.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
from typing import Any

from t2tjax.inference import inputs as inputs_lib
from t2tjax.inference import job as job_lib
from t2tjax.inference import progress as progress_lib
from t2tjax.inference import texts

OVERLONG = ("truncate", "reject")


@dataclasses.dataclass
class _Chunk:
  """A chunk whose inputs are under way."""

  number: int
  num_lines: int
  fields: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  tokens: list[Any] = dataclasses.field(default_factory=list)
  rejected: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  truncated: int = 0


@dataclasses.dataclass(frozen=True)
class Work:
  """The part of a job that one process does.

  Attributes:
    inputs: what is read.
    job: where it goes.
    chunk_size: lines of a chunk.
    shard_id: does the chunks whose number leaves this remainder ...
    num_shards: ... divided by this.
    overlong: 'truncate' or 'reject', for inputs with too many tokens.
    targets: whether the inputs must have targets.
    writes: whether this process writes; on several hosts one of them does.
  """

  inputs: Any
  job: job_lib.Job
  chunk_size: int
  shard_id: int
  num_shards: int
  overlong: str
  targets: bool
  writes: bool = True

  def __post_init__(self):
    if self.chunk_size < 1:
      raise ValueError(
        f"infer.chunk_size = {self.chunk_size} must be at least 1."
      )
    if not 0 <= self.shard_id < self.num_shards:
      raise ValueError(
        f"infer.shard_id = {self.shard_id} must be at least 0 and less than "
        f"infer.num_shards = {self.num_shards}."
      )
    if self.overlong not in OVERLONG:
      raise ValueError(
        f"infer.overlong = {self.overlong!r} must be 'truncate' or 'reject'."
      )

  def sizes(self, num_lines: int) -> list[int]:
    """Returns the number of lines in each chunk of the job."""
    return [
      min(self.chunk_size, num_lines - begin)
      for begin in range(0, num_lines, self.chunk_size)
    ]

  def is_own(self, chunk: int) -> bool:
    """Whether a chunk is this process's and still to be done."""
    own = chunk % self.num_shards == self.shard_id
    return own and not self.job.is_written(chunk)

  def run(
    self,
    model: texts.TextModel,
    vocabularies: Any,
    progress: progress_lib.Progress,
  ) -> None:
    """Does the chunks that are missing.

    Args:
      model: predicts or scores.
      vocabularies: has `input_vocabulary` and `output_vocabulary`.
      progress: shows what is done.
    """
    under_way: dict[int, _Chunk] = {}
    rejected = 0

    def groups() -> Iterator[tuple[int, Sequence[Any]]]:
      for number, lines in self._missing():
        chunk = self._read(number, lines, model, vocabularies)
        under_way[number] = chunk
        yield number, chunk.tokens

    for number, outputs in model.run(groups()):
      chunk = under_way.pop(number)
      if self.writes:
        lines = [
          fields | output
          for fields, output in zip(chunk.fields, outputs, strict=True)
        ]
        self.job.write(number, lines, chunk.rejected, chunk.truncated)
      rejected += len(chunk.rejected)
      progress.add(chunk.num_lines, rejected)

  def _missing(self) -> Iterator[tuple[int, list[inputs_lib.Line]]]:
    lines = self.inputs.lines()
    for number in itertools.count():
      # All of a chunk that is not wanted as well, so that the next one begins
      # where it does.
      found = list(itertools.islice(lines, self.chunk_size))
      if not found:
        return
      if self.is_own(number):
        yield number, found

  def _read(
    self,
    number: int,
    lines: Sequence[inputs_lib.Line],
    model: texts.TextModel,
    vocabularies: Any,
  ) -> _Chunk:
    chunk = _Chunk(number, len(lines))
    for line in lines:
      try:
        found = self.inputs.parse(line, vocabularies, targets=self.targets)
        tokens, cut = model.truncated(found.tokens)
        if cut and self.overlong == "reject":
          raise inputs_lib.RejectedError("has too many tokens")
      except inputs_lib.RejectedError as error:
        chunk.rejected.append({**line.place, "reason": str(error)})
        continue
      chunk.truncated += cut
      chunk.fields.append(dict(found.fields))
      chunk.tokens.append(tokens)
    return chunk
