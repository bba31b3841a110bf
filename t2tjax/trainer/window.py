"""Metrics between two reports, collected without a sync for every step.

Called by `train`. May import: layers 0 to 4.
"""

import collections
from collections.abc import Mapping
import time

import jax

from t2tjax import models

# With no bound on steps in flight, several CPU processes deadlock in their
# collectives; two keep a device busy.
_MAX_STEPS_IN_FLIGHT = 2


class MetricWindow:
  """Averages step metrics over the steps since the last report.

  The scalars of a step stay on the device until the window is summarised,
  which happens after the next step was dispatched: the device never waits.
  """

  def __init__(self, *, flops_per_step: float | None, peak_flops: float | None):
    """Starts the clock.

    Args:
      flops_per_step: model FLOPs of one optimizer step (forward and backward,
        padding counted as work), or None to leave MFU out.
      peak_flops: FLOP/s of all devices together, or None if unknown.
    """
    self._flops_per_step = flops_per_step
    self._peak_flops = peak_flops
    self._steps: list[Mapping[str, jax.Array]] = []
    self._in_flight: collections.deque = collections.deque()
    self.data_wait_secs = 0.0
    self._start = time.perf_counter()

  def __len__(self) -> int:
    return len(self._steps)

  def add(self, metrics: Mapping[str, jax.Array]) -> None:
    """Takes the metrics of a step just dispatched."""
    self._steps.append(metrics)
    self._in_flight.append(metrics)
    if len(self._in_flight) > _MAX_STEPS_IN_FLIGHT:
      jax.block_until_ready(self._in_flight.popleft())

  def restart_clock(self) -> None:
    """Leaves the time since the last summary out (evaluation, saving)."""
    self._start = time.perf_counter()
    self.data_wait_secs = 0.0

  def summarize(self) -> dict[str, float]:
    """Returns the averages of the window and starts the next one.

    Waits for the last step that was added, not for one dispatched since.
    """
    steps = jax.device_get(self._steps)
    seconds = time.perf_counter() - self._start
    count = len(steps)
    totals = {k: sum(float(step[k]) for step in steps) for k in steps[0]}
    sums = {k: totals.pop(k) for k in models.SUM_NAMES}
    summary = models.summarize(sums)
    summary |= {name: total / count for name, total in totals.items()}
    # The schedule's newest value says more than its average.
    summary["learning_rate"] = float(steps[-1]["learning_rate"])
    tokens = sums["target_tokens"] + sums["input_tokens"]
    summary["tokens_per_second"] = tokens / seconds
    summary["sequences_per_second"] = sums["sequences"] / seconds
    summary["steps_per_second"] = count / seconds
    summary["data_wait_fraction"] = self.data_wait_secs / seconds
    if self._flops_per_step and self._peak_flops:
      flops_per_second = self._flops_per_step * count / seconds
      summary["mfu"] = flops_per_second / self._peak_flops
    self._steps = []
    self.restart_clock()
    return summary
