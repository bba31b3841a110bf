import threading
import time

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from t2tjax import data


class Numbers:
  """A feed of counters; fails where told."""

  report = {}
  batch_spec = {"x": jax.ShapeDtypeStruct((8, 2), np.int32)}

  def __init__(self, end=None, error=StopIteration):
    self.number, self.end, self.error = 0, end, error
    self.closed = False

  def __iter__(self):
    return self

  def __next__(self):
    if self.number == self.end:
      raise self.error
    self.number += 1
    return {"x": np.full((8, 2), self.number, np.int32)}

  def state(self):
    return {"number": self.number}

  def restore(self, state):
    self.number = state["number"]

  def close(self):
    self.closed = True


@pytest.fixture
def sharding():
  mesh = jax.make_mesh(
    (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  return NamedSharding(mesh, PartitionSpec("data"))


def feed_threads():
  return [t for t in threading.enumerate() if t.name == "device-feed"]


def test_batches_arrive_in_order_and_sharded(sharding):
  with data.DeviceFeed(Numbers(), sharding) as feed:
    for number in range(1, 6):
      batch = next(feed)
      assert batch["x"].sharding == sharding
      np.testing.assert_array_equal(batch["x"], np.full((8, 2), number))


def test_the_state_is_that_of_the_last_batch_handed_out(sharding):
  inner = Numbers()
  feed = data.DeviceFeed(inner, sharding, prefetch=3)
  assert feed.state() == {"number": 0}
  next(feed)
  deadline = time.monotonic() + 10
  while inner.number < 4 and time.monotonic() < deadline:
    time.sleep(0.01)
  assert inner.number >= 4 and feed.state() == {"number": 1}
  feed.restore({"number": 10})
  assert next(feed)["x"][0, 0] == 11 and feed.state() == {"number": 11}
  feed.close()


def test_errors_and_the_end_are_raised_to_the_caller(sharding):
  feed = data.DeviceFeed(Numbers(2, OSError("disk gone")), sharding)
  next(feed), next(feed)
  with pytest.raises(OSError, match="disk gone"):
    next(feed)
  assert len(list(data.DeviceFeed(Numbers(3), sharding))) == 3


def test_closing_ends_the_thread(sharding):
  inner = Numbers()
  feed = data.DeviceFeed(inner, sharding)
  next(feed)
  assert feed_threads()
  feed.close()
  feed.close()
  assert not feed_threads() and inner.closed
