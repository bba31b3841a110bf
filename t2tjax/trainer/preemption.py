"""Leaving between two steps when the machine or the user asks for it.

Called by `train`. May import: layers 0 to 4.
"""

import signal

import jax
from jax.experimental import multihost_utils

# What a scheduler should restart: sysexits.h's EX_TEMPFAIL.
EXIT_CODE_PREEMPTED = 75


class Preempted(SystemExit):
  """The run saved its state and left; the same command goes on.

  As a SystemExit it ends a command with `EXIT_CODE_PREEMPTED`.
  """

  def __init__(self, step: int):
    super().__init__(EXIT_CODE_PREEMPTED)
    self.step = step


class PreemptionGuard:
  """Turns SIGTERM and the first Ctrl-C into a flag that the loop reads.

  A second Ctrl-C interrupts at once.
  """

  def __init__(self):
    self._requested = False
    self._previous = {}

  def __enter__(self) -> "PreemptionGuard":
    for number in (signal.SIGTERM, signal.SIGINT):
      try:
        self._previous[number] = signal.signal(number, self._request)
      except ValueError:
        # Python allows handlers in the main thread only; a run started from
        # another thread is stopped by its caller.
        break
    return self

  def __exit__(self, *exc_info) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous.clear()

  def _request(self, number: int, frame: object) -> None:
    del frame
    self._requested = True
    if number == signal.SIGINT:
      signal.signal(signal.SIGINT, signal.default_int_handler)

  def should_stop(self, step: int) -> bool:
    """Returns whether to save and leave after `step`; the same on all hosts."""
    if jax.process_count() > 1:
      # The preemption service of jax.distributed catches the signal of any
      # host and agrees on one step with the others.
      return multihost_utils.reached_preemption_sync_point(step)
    return self._requested
