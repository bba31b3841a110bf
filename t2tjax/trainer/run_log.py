"""Everything a training run says: to a person, to files, to TensorBoard.

Called by `train`. May import: layers 0 to 4, `trainer.progress`,
`trainer.writers`, `trainer.window`.
"""

from collections.abc import Callable, Mapping
import math
import os
import time
from typing import TypeVar

import jax

from t2tjax.trainer import progress as progress_lib
from t2tjax.trainer import window as window_lib
from t2tjax.trainer import writers

T = TypeVar("T")


class DivergedError(ValueError):
  """The loss is not a finite number any more."""


class RunLog:
  """Collects step metrics and reports them; process 0 alone is heard.

  Attributes:
    writer: TensorBoard and `metrics.jsonl`.
    progress: the terminal.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    *,
    first_step: int,
    total_steps: int,
    flops_per_step: float | None,
    peak_flops: float | None,
  ):
    enabled = jax.process_index() == 0
    self.writer = writers.MetricWriter(directory, enabled=enabled)
    self.progress = progress_lib.Progress(
      first_step=first_step, total_steps=total_steps, enabled=enabled
    )
    self._window = window_lib.MetricWindow(
      flops_per_step=flops_per_step, peak_flops=peak_flops
    )
    self._last_step = first_step

  def note(self, text: str) -> None:
    """Shows a line on the terminal."""
    self.progress.note(text)

  def add(self, metrics: Mapping[str, jax.Array]) -> None:
    """Takes the metrics of a step just dispatched."""
    self._window.add(metrics)

  def wait_for(self, fetch: Callable[[], T]) -> T:
    """Returns `fetch()` and counts its time as waiting for data.

    What came since the last report, if no step has been added (compiling,
    evaluating, saving), stays out of the throughput.
    """
    if not len(self._window):
      self._window.restart_clock()
    start = time.perf_counter()
    result = fetch()
    self._window.data_wait_secs += time.perf_counter() - start
    return result

  def report(self, step: int) -> None:
    """Writes and shows the averages of the steps before `step`.

    Raises:
      DivergedError: if the loss of one of them was not finite.
    """
    self.progress.step(step)
    if not len(self._window):
      return
    first, self._last_step = self._last_step + 1, step
    metrics = self._window.summarize()
    self.writer.write("train", step, metrics)
    self.progress.report(step, metrics)
    if not math.isfinite(metrics["loss"]):
      raise DivergedError(
        f"The loss became {metrics['loss']} between steps {first} and {step}. "
        "Nothing was saved since. Lower the learning rate or clip the gradient "
        "(Adafactor.global_norm_clip_threshold) and run the same command: it "
        "goes on from the last checkpoint."
      )

  def close(self) -> None:
    """Flushes the files and takes the bar away."""
    self.progress.close()
    self.writer.close()
