"""Runs a jitted function over host batches, the next already under way.

Called by `Evaluator` and `inference`. May import: nothing of t2tjax.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

# Steps in flight: enough to decode texts while the device works, few enough
# for several processes on CPU, which deadlock without a bound.
_IN_FLIGHT = 2

Tag = TypeVar("Tag")


def run(
  function: Callable[[Any], Any],
  batches: Iterable[tuple[Tag, Mapping[str, np.ndarray]]],
  sharding: jax.sharding.Sharding | None,
) -> Iterator[tuple[Tag, Any]]:
  """Yields host copies of the outputs, in order.

  Args:
    function: takes a batch, returns arrays without waiting for them.
    batches: what is known of a batch, and its rows of this process.
    sharding: how rows lie over devices; None for one device.
  """
  running: collections.deque = collections.deque()
  for tag, batch in batches:
    running.append((tag, function(_on_devices(batch, sharding))))
    if len(running) == _IN_FLIGHT:
      tag, output = running.popleft()
      yield tag, _on_host(output)
  for tag, output in running:
    yield tag, _on_host(output)


def _on_devices(
  batch: Mapping[str, np.ndarray], sharding: jax.sharding.Sharding | None
) -> dict[str, Any]:
  if sharding is None:
    return dict(batch)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows)
    for name, rows in batch.items()
  }


def _on_host(output: Any) -> Any:
  """Returns numpy values, of all processes where rows lie on several."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    return jax.tree.map(
      lambda x: (
        x
        if x.is_fully_replicated
        else multihost_utils.process_allgather(x, tiled=True)
      ),
      output,
    )
  return jax.tree.map(np.asarray, output)
