"""What a person sees of a job: a bar on a terminal, else a line now and then.

Called by `infer`. May import: nothing of t2tjax.
"""

import sys
import time

import rich.console
import rich.progress

_PLAIN_SECONDS = 10.0


class Progress:
  """Counts lines that are done."""

  def __init__(self, total: int, *, enabled: bool = True):
    """Shows nothing yet.

    Args:
      total: lines to do.
      enabled: whether anything is shown.
    """
    self.console = rich.console.Console(quiet=not enabled)
    self._total = total
    self._start = self._shown = time.monotonic()
    self._done = 0
    self._bar = None
    if enabled and sys.stdout.isatty():
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn("{task.description}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("ETA"),
        rich.progress.TimeRemainingColumn(),
        console=self.console,
      )
      self._task = self._bar.add_task("compiling", total=total)
      self._bar.start()

  def add(self, lines: int, rejected: int) -> None:
    """Counts lines of a chunk.

    Args:
      lines: that are done.
      rejected: so far, of all.
    """
    self._done += lines
    now = time.monotonic()
    rate = self._done / max(now - self._start, 1e-3)
    text = f"{rate:,.1f} inputs/s  {rejected:,} rejected"
    if self._bar is not None:
      self._bar.update(self._task, completed=self._done, description=text)
    elif now - self._shown > _PLAIN_SECONDS or self._done == self._total:
      self._shown = now
      self.note(f"{self._done:,}/{self._total:,} lines  {text}")

  def note(self, text: str) -> None:
    """Prints a line, above the bar where there is one."""
    self.console.print(text, highlight=False, markup=False, soft_wrap=True)

  def close(self) -> None:
    """Takes the bar away."""
    if self._bar is not None:
      self._bar.stop()
      self._bar = None
