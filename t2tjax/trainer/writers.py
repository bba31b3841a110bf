"""Where scalars go: TensorBoard event files and `metrics.jsonl`.

Called by `train`; process 0 writes, the others hold a writer that drops
everything. May import: layers 0 to 4.
"""

from collections.abc import Mapping
import json
import math
import os
import pathlib
import time
from typing import TextIO

import tensorboardX


class MetricWriter:
  """Writes the scalars of a run; a resumed run goes on in the same files.

  Attributes:
    log_dir: the directory TensorBoard is pointed at.
  """

  def __init__(self, model_dir: str | os.PathLike, *, enabled: bool = True):
    self.log_dir = pathlib.Path(model_dir) / "tensorboard"
    self._writers: dict[str, tensorboardX.SummaryWriter] = {}
    self._file: TextIO | None = None
    if enabled:
      self._file = open(
        pathlib.Path(model_dir) / "metrics.jsonl", "a", encoding="utf-8"
      )

  def write(self, run: str, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars of one step under a run name, e.g. `train`.

    Args:
      run: the TensorBoard run, `train` or `eval/<task>`.
      step: the number of completed optimizer steps.
      scalars: name to value. Values that are not finite are written to the
        event file as they are, and as null to `metrics.jsonl`, which stays
        valid JSON.
    """
    if self._file is None:
      return
    writer = self._writers.get(run)
    if writer is None:
      # Steps after `step` were written by a run that was cut off; TensorBoard
      # drops them when it reads the purge step.
      writer = self._writers[run] = tensorboardX.SummaryWriter(
        str(self.log_dir / run), purge_step=step, write_to_disk=True
      )
    for name, value in scalars.items():
      writer.add_scalar(name, value, step)
    finite = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
    record = {"run": run, "step": step, "time": round(time.time(), 3), **finite}
    self._file.write(json.dumps(record) + "\n")

  def flush(self) -> None:
    """Hands everything written so far to the operating system."""
    if self._file is None:
      return
    self._file.flush()
    for writer in self._writers.values():
      writer.flush()

  def close(self) -> None:
    """Flushes and closes the files."""
    if self._file is None:
      return
    self.flush()
    self._file.close()
    for writer in self._writers.values():
      writer.close()


def read_metrics(model_dir: str | os.PathLike) -> list[dict]:
  """Returns the records of `metrics.jsonl`, each step once, in step order.

  A run that was cut off and resumed has written some steps twice: the last
  record of a (run, step) counts. A line cut in half by a crash is skipped.
  """
  path = pathlib.Path(model_dir) / "metrics.jsonl"
  records = {}
  if path.exists():
    for line in path.read_text(encoding="utf-8").splitlines():
      try:
        record = json.loads(line)
      except json.JSONDecodeError:
        continue
      records[record["run"], record["step"]] = record
  return sorted(records.values(), key=lambda record: record["step"])
