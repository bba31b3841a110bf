"""A job on disk: chunks of output lines, joined when all are there.

Lines of the input are cut into chunks by their number alone. A chunk is
written whole or not at all, so that a job that was killed goes on with the
chunks that are missing, and several processes may each do some of them. Beside
`<name>.jsonl` lies `<name>.job/` with `job.json` (what the job is),
`chunks/`, and at the end `summary.json`. Called by `infer`. May import: nothing
of t2tjax.
"""

from collections.abc import Iterator, Mapping, Sequence
import fcntl
import json
import os
import pathlib
import shutil
from typing import Any

_COUNTS = ("predictions", "rejected", "truncated")


class Job:
  """The files of one job.

  Attributes:
    output: the file of all output lines, in input order.
    rejected: the file of lines that were no input; absent if there are none.
    directory: everything else about the job.
  """

  def __init__(self, output: str | os.PathLike, identity: Mapping[str, Any]):
    """Begins a job or goes on with one.

    Args:
      output: the file to write.
      identity: what decides its lines, JSON-able.

    Raises:
      ValueError: another job writes there, or has.
    """
    self.output = pathlib.Path(output).expanduser().absolute()
    self.rejected = self.output.with_suffix(".rejected.jsonl")
    self.directory = self.output.with_suffix(".job")
    self._chunks = self.directory / "chunks"
    self._summary = self.directory / "summary.json"
    described = {"output": self.output.name, **identity}
    # As it comes back from a file: tuples are lists.
    self._identity = json.loads(json.dumps(described, default=repr))

  def open(self) -> None:
    """Creates the directory of the job, or checks that it is this one's."""
    path = self.directory / "job.json"
    if not path.exists():
      if self.output.exists():
        raise ValueError(
          f"{self.output} exists, and nothing says which job wrote it; move it "
          "away or set OUTPUT_PATH to another file."
        )
      try:
        self.directory.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(self._identity, indent=2) + "\n")
      except OSError as error:
        raise ValueError(
          f"output = {str(self.output)!r} cannot be written "
          f"({error.strerror}); set OUTPUT_PATH to a file that can."
        ) from error
    found = json.loads(path.read_text("utf-8"))
    differences = sorted(
      name
      for name in found.keys() | self._identity.keys()
      if found.get(name) != self._identity.get(name)
    )
    if differences:
      raise ValueError(
        f"{self.output} belongs to a job with another "
        f"{', '.join(differences)} ({path} says which); remove "
        f"{self.directory} and the output, or set OUTPUT_PATH to another file."
      )
    if self.summary is None:
      self._chunks.mkdir(exist_ok=True)

  @property
  def summary(self) -> dict[str, int] | None:
    """Counts of the finished job; None while it is not."""
    if not self._summary.exists() or not self.output.exists():
      return None
    return json.loads(self._summary.read_text("utf-8"))

  def is_written(self, chunk: int) -> bool:
    """Whether a chunk is there."""
    return self._path(chunk).exists()

  def write(
    self,
    chunk: int,
    lines: Sequence[Mapping[str, Any]],
    rejected: Sequence[Mapping[str, Any]],
    truncated: int,
  ) -> None:
    """Writes a chunk: its counts, its output lines, its rejected lines."""
    counts = dict(
      zip(_COUNTS, (len(lines), len(rejected), truncated), strict=True)
    )
    _write(
      self._path(chunk),
      "".join(
        json.dumps(line, ensure_ascii=False) + "\n"
        for line in (counts, *lines, *rejected)
      ),
    )

  def counts(self, chunk: int) -> dict[str, int]:
    """Returns the counts of a chunk that is there."""
    with open(self._path(chunk), encoding="utf-8", newline="\n") as file:
      return json.loads(file.readline())

  def join(self, num_chunks: int) -> dict[str, int] | None:
    """Joins the chunks, if all are there, and removes them.

    Any number of processes may call it; what is left undone by a kill is done
    by the next call.

    Args:
      num_chunks: of the whole job.

    Returns:
      The counts of the job, None if chunks of other processes are missing.
    """
    with open(self.directory / "lock", "w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if self.summary is None:
        if not all(self.is_written(chunk) for chunk in range(num_chunks)):
          return None
        totals = self._join_files(num_chunks)
        _write(self._summary, json.dumps(totals, indent=2) + "\n")
      shutil.rmtree(self._chunks, ignore_errors=True)
      return self.summary

  def _join_files(self, num_chunks: int) -> dict[str, int]:
    totals = dict.fromkeys(_COUNTS, 0)
    outputs = {"predictions": self.output, "rejected": self.rejected}
    partial = {
      name: path.with_name(f".{path.name}.partial")
      for name, path in outputs.items()
    }
    with (
      open(partial["predictions"], "wb") as predictions,
      open(partial["rejected"], "wb") as rejected,
    ):
      for chunk in range(num_chunks):
        counts = self.counts(chunk)
        for number, line in enumerate(self._body(chunk)):
          is_output = number < counts["predictions"]
          (predictions if is_output else rejected).write(line)
        for name in _COUNTS:
          totals[name] += counts[name]
      for file in (predictions, rejected):
        file.flush()
        os.fsync(file.fileno())
    if totals["rejected"]:
      os.replace(partial["rejected"], self.rejected)
    else:
      partial["rejected"].unlink()
      self.rejected.unlink(missing_ok=True)
    os.replace(partial["predictions"], self.output)
    return totals

  def _body(self, chunk: int) -> Iterator[bytes]:
    with open(self._path(chunk), "rb") as file:
      next(file)
      yield from file

  def _path(self, chunk: int) -> pathlib.Path:
    return self._chunks / f"{chunk:06}.jsonl"


def _write(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all, also if the power goes."""
  partial = path.with_name(f".{path.name}.{os.getpid()}")
  with open(partial, "w", encoding="utf-8", newline="\n") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, path)
