"""Moves batches to the devices ahead of the step.

Called by `train`. May import: `data.feed`.
"""

from collections.abc import Iterator
import queue
import threading
from typing import Any

import jax

from t2tjax.data.feed import Feed

_END = object()


class DeviceFeed:
  """Global arrays from host-local batches, made by a background thread.

  `state()` belongs to the last batch handed out, not to those made ahead.
  What the thread raises is raised by `next`.
  """

  def __init__(
    self, feed: Feed, sharding: jax.sharding.Sharding, prefetch: int = 2
  ):
    """Starts working at the first `next`.

    Args:
      feed: of this host's rows.
      sharding: of every feature `[batch, length]`.
      prefetch: batches on the devices ahead of the one in use.
    """
    if prefetch < 1:
      raise ValueError(
        f"prefetch={prefetch} must be at least 1; change DeviceFeed.prefetch"
      )
    self.batch_spec = feed.batch_spec
    self.report = feed.report
    self._feed = feed
    self._sharding = sharding
    self._prefetch = prefetch
    self._state = feed.state()
    self._thread: threading.Thread | None = None
    self._queue: queue.Queue = queue.Queue()
    self._stop = threading.Event()

  def __iter__(self) -> Iterator[dict[str, jax.Array]]:
    return self

  def __next__(self) -> dict[str, jax.Array]:
    if self._thread is None:
      self._start()
    batch, state = self._queue.get()
    if batch is _END:
      self._join()
      raise state
    self._state = state
    return batch

  def state(self) -> dict[str, Any]:
    """Returns the position behind the last batch handed out."""
    return self._state

  def restore(self, state: dict[str, Any]) -> None:
    """Goes to a position that `state` returned."""
    self._join()
    self._feed.restore(state)
    self._state = state

  def close(self) -> None:
    """Stops the thread and the feed; safe to call twice."""
    self._join()
    self._feed.close()

  def __enter__(self) -> "DeviceFeed":
    return self

  def __exit__(self, *unused: Any) -> None:
    self.close()

  def _start(self) -> None:
    self._queue = queue.Queue(maxsize=self._prefetch)
    self._stop = threading.Event()
    self._thread = threading.Thread(
      target=self._run,
      args=(self._queue, self._stop),
      name="device-feed",
      daemon=True,
    )
    self._thread.start()

  def _run(self, out: queue.Queue, stop: threading.Event) -> None:
    try:
      while not stop.is_set():
        batch = self._put(next(self._feed))
        out.put((batch, self._feed.state()))
    except BaseException as error:  # Whatever it is, `next` raises it.
      out.put((_END, error))

  def _put(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
    if jax.process_count() == 1:
      return jax.device_put(batch, self._sharding)
    return {
      name: jax.make_array_from_process_local_data(
        self._sharding, rows, self.batch_spec[name].shape
      )
      for name, rows in batch.items()
    }

  def _join(self) -> None:
    """Ends the thread, throwing away what it made ahead."""
    if self._thread is None:
      return
    self._stop.set()
    while self._thread.is_alive():
      try:
        # It may wait for room in the queue.
        self._queue.get(timeout=0.05)
      except queue.Empty:
        pass
    self._thread = None
