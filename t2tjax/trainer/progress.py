"""What a person sees while training: a progress bar, or lines in a log.

Called by `train`. May import: layers 0 to 4.
"""

from collections.abc import Mapping
import datetime
import sys

import rich.console
import rich.progress


def format_metrics(metrics: Mapping[str, float]) -> str:
  """Returns `loss 2.31  acc 0.512  3,412 tok/s  MFU 41%  lr 1.0e-02`."""
  parts = [f"loss {metrics['loss']:.4f}", f"acc {metrics['accuracy']:.3f}"]
  parts.append(f"{metrics['tokens_per_second']:,.0f} tok/s")
  if "mfu" in metrics:
    parts.append(f"MFU {metrics['mfu']:.0%}")
  parts.append(f"lr {metrics['learning_rate']:.2e}")
  return "  ".join(parts)


class Progress:
  """Shows the step, loss, tokens/s, MFU and the time left.

  On a terminal it is one line that is redrawn; elsewhere each report is a line
  of its own, so that logs stay readable.
  """

  def __init__(
    self, *, first_step: int, total_steps: int, enabled: bool = True
  ):
    self._total_steps = total_steps
    self._first_step = first_step
    self._start = datetime.datetime.now()
    self._bar = None
    self.enabled = enabled
    # Everything printed during the run goes through this console, which knows
    # how to print above the bar.
    self.console = rich.console.Console(quiet=not enabled)
    if enabled and sys.stdout.isatty():
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn("step {task.completed}/{task.total}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn("{task.description}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("ETA"),
        rich.progress.TimeRemainingColumn(),
        console=self.console,
      )
      self._task = self._bar.add_task(
        "compiling", total=total_steps, completed=first_step
      )
      self._bar.start()

  def step(self, step: int) -> None:
    """Moves the bar; costs nothing where there is none."""
    if self._bar is not None:
      self._bar.update(self._task, completed=step)

  def report(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows the averaged metrics of the last `stats_period` steps."""
    if not self.enabled:
      return
    if self._bar is not None:
      self._bar.update(
        self._task, completed=step, description=format_metrics(metrics)
      )
      return
    elapsed = datetime.datetime.now() - self._start
    done = max(1, step - self._first_step)
    left = elapsed / done * (self._total_steps - step)
    eta = datetime.timedelta(seconds=round(left.total_seconds()))
    self.note(
      f"step {step}/{self._total_steps}  {format_metrics(metrics)}  ETA {eta}"
    )

  def note(self, text: str) -> None:
    """Prints a line, above the bar where there is one."""
    if self.enabled:
      self.console.print(text, highlight=False, markup=False, soft_wrap=True)

  def close(self) -> None:
    """Takes the bar away and leaves its last state on the screen."""
    if self._bar is not None:
      self._bar.stop()
      self._bar = None
