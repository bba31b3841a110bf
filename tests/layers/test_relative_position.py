"""T5's position buckets and bias against exact integer arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax.layers.relative_position import (
  RelativePositionBias,
  relative_position_buckets,
)


def _bucket(key_minus_query, bidirectional, num_buckets, max_distance):
  """One bucket, from the definition, with integers only."""
  distance, first = -key_minus_query, 0
  if bidirectional:
    num_buckets //= 2
    if key_minus_query > 0:
      distance, first = key_minus_query, num_buckets
  distance = max(distance, 0)
  exact = num_buckets // 2
  if distance < exact:
    return first + distance
  # The largest k with distance >= exact * (max_distance / exact) ** (k / n),
  # n coarse buckets: compare n-th powers.
  n = num_buckets - exact
  k = max(
    k for k in range(n) if distance**n * exact**k >= exact**n * max_distance**k
  )
  return first + exact + k


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(
  "num_buckets,max_distance", [(32, 128), (64, 256), (8, 20)]
)
def test_buckets_equal_integer_arithmetic(
  bidirectional, num_buckets, max_distance
):
  positions = np.arange(-600, 601)
  buckets = relative_position_buckets(
    positions,
    bidirectional=bidirectional,
    num_buckets=num_buckets,
    max_distance=max_distance,
  )
  expected = [
    _bucket(int(p), bidirectional, num_buckets, max_distance) for p in positions
  ]
  np.testing.assert_array_equal(buckets, expected)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_is_the_table_entry_of_every_pair(bidirectional):
  layer = RelativePositionBias(num_heads=3, bidirectional=bidirectional)
  table = np.random.default_rng(0).normal(size=(3, 32)).astype("float32")
  bias = layer.apply({"params": {"rel_embedding": table}}, 50)
  assert bias.shape == (1, 3, 50, 50)
  assert bias.dtype == jnp.float32
  for query, key in [(0, 0), (7, 3), (3, 7), (49, 0), (0, 49), (20, 21)]:
    bucket = _bucket(key - query, bidirectional, 32, 128)
    np.testing.assert_array_equal(bias[0, :, query, key], table[:, bucket])


def test_bias_at_a_position_is_a_row_of_the_whole_bias():
  layer = RelativePositionBias(num_heads=2, bidirectional=False)
  variables = layer.init(jax.random.key(0), 4)
  whole = layer.apply(variables, 40)
  positions = np.array([0, 17, 39])
  rows = layer.apply(variables, positions, 40, method="at")
  assert rows.shape == (3, 2, 1, 40)
  np.testing.assert_array_equal(
    rows[:, :, 0], np.moveaxis(whole[0][:, positions], 1, 0)
  )


def test_bias_stays_fp32_with_bf16_parameters():
  layer = RelativePositionBias(
    num_heads=2, bidirectional=True, param_dtype="bfloat16"
  )
  variables = layer.init(jax.random.key(0), 4)
  assert layer.apply(variables, 4).dtype == jnp.float32
