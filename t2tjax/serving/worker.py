"""The one thread that uses the model, and the queue before it.

Called by `app`. May import: nothing of t2tjax.
"""

from collections.abc import Callable, Hashable, Sequence
import concurrent.futures
import dataclasses
import threading
from typing import Any

# (key, items that share it) -> a result for each item.
Run = Callable[[Any, Sequence[Any]], Sequence[Any]]


class QueueFullError(Exception):
  """As many items wait as may."""


class ClosedError(Exception):
  """No more work is taken."""


@dataclasses.dataclass(frozen=True)
class _Job:
  key: Hashable
  items: Sequence[Any]
  future: concurrent.futures.Future


class Worker:
  """Runs jobs, those with the same key together.

  While the model works, jobs gather, and the next batch takes what fits: no
  job waits for company. The oldest job always is in the next batch.
  """

  def __init__(self, run: Run, *, max_batch: int, max_waiting: int):
    """Starts nothing yet.

    Args:
      run: what to do with a batch; called from the one thread.
      max_batch: most items of a batch.
      max_waiting: most items that wait.
    """
    self._run = run
    self._max_batch = max_batch
    self._max_waiting = max_waiting
    self._jobs: list[_Job] = []
    self._changed = threading.Condition()
    self._closed = False
    self._thread = threading.Thread(target=self._work, name="model")

  def start(self) -> None:
    """Starts the thread."""
    self._thread.start()

  def close(self) -> None:
    """Takes no more jobs, and returns when those that wait are done."""
    with self._changed:
      self._closed = True
      self._changed.notify()
    self._thread.join()

  def submit(
    self, key: Hashable, items: Sequence[Any]
  ) -> concurrent.futures.Future:
    """Returns the future results of `items`; to be cancelled if unwanted.

    Raises:
      QueueFullError: too much waits already.
      ClosedError: after `close`.
    """
    if len(items) > self._max_batch:
      raise ValueError(
        f"{len(items)} items do not fit a batch of {self._max_batch}."
      )
    job = _Job(key, items, concurrent.futures.Future())
    with self._changed:
      if self._closed:
        raise ClosedError
      self._jobs = [job for job in self._jobs if not job.future.cancelled()]
      waiting = sum(len(job.items) for job in self._jobs)
      if waiting + len(items) > self._max_waiting:
        raise QueueFullError
      self._jobs.append(job)
      self._changed.notify()
    return job.future

  def _work(self) -> None:
    while True:
      with self._changed:
        while not self._jobs and not self._closed:
          self._changed.wait()
        if not self._jobs:
          return
        batch = self._take()
      batch = [j for j in batch if j.future.set_running_or_notify_cancel()]
      if batch:
        self._do(batch)

  def _take(self) -> list[_Job]:
    """Removes the oldest job, and those that go with it, from the queue."""
    key, size = self._jobs[0].key, 0
    batch, left = [], []
    for job in self._jobs:
      if job.key == key and size + len(job.items) <= self._max_batch:
        batch.append(job)
        size += len(job.items)
      else:
        left.append(job)
    self._jobs = left
    return batch

  def _do(self, batch: Sequence[_Job]) -> None:
    items = [item for job in batch for item in job.items]
    try:
      results = list(self._run(batch[0].key, items))
      if len(results) != len(items):
        raise RuntimeError(f"{len(results)} results of {len(items)} items")
    except Exception as error:
      for job in batch:
        job.future.set_exception(error)
      return
    for job in batch:
      own, results = results[: len(job.items)], results[len(job.items) :]
      job.future.set_result(own)
