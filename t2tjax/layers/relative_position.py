"""T5's relative position bias.

Called by the networks. Buckets are computed in numpy, never in bf16 (where some
distances would fall into the wrong bucket), once per compilation.
May import: typing.
"""

from flax import linen as nn
import jax.numpy as jnp
import numpy as np

from t2tjax.typing import Array


def relative_position_buckets(
  relative_position: np.ndarray,
  *,
  bidirectional: bool,
  num_buckets: int,
  max_distance: int,
) -> np.ndarray:
  """Returns the bucket of every `key position - query position`.

  Half of the buckets hold one distance each, the other half ranges that grow
  logarithmically up to `max_distance`; all larger distances share the last.

  Args:
    relative_position: integers of any shape.
    bidirectional: whether keys after the query have buckets of their own (the
      upper half); otherwise they fall into bucket 0.
    num_buckets: number of buckets in total.
    max_distance: distance from which on all share one bucket.

  Returns:
    int32 buckets, of the same shape.
  """
  distance = -np.asarray(relative_position)
  offset = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    offset = np.where(distance < 0, num_buckets, 0)
    distance = np.abs(distance)
  distance = np.maximum(distance, 0)
  num_exact = num_buckets // 2
  # fp32 as in the reference implementations: powers of two lie exactly on a
  # boundary, so the precision decides.
  log_ratio = np.log(
    np.maximum(distance, 1).astype(np.float32) / num_exact
  ) / np.log(max_distance / num_exact)
  coarse = num_exact + (log_ratio * (num_buckets - num_exact)).astype(np.int32)
  coarse = np.minimum(coarse, num_buckets - 1)
  bucket = np.where(distance < num_exact, distance, coarse)
  return (offset + bucket).astype(np.int32)


class RelativePositionBias(nn.Module):
  """One learned number per head and bucket, added to attention scores.

  Attributes:
    num_heads: number of heads.
    bidirectional: True in an encoder, False in a decoder.
    num_buckets: see `relative_position_buckets`.
    max_distance: see `relative_position_buckets`.
    param_dtype: of the table. The bias itself is always fp32.
  """

  num_heads: int
  bidirectional: bool
  num_buckets: int = 32
  max_distance: int = 128
  param_dtype: str = "float32"

  def setup(self):
    """Makes the parameters."""
    self.rel_embedding = self.param(
      "rel_embedding",
      nn.with_logical_partitioning(
        nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
        ("heads", "relpos_buckets"),
      ),
      (self.num_heads, self.num_buckets),
      self.param_dtype,
    )

  def _buckets(self, relative_position: np.ndarray) -> np.ndarray:
    return relative_position_buckets(
      relative_position,
      bidirectional=self.bidirectional,
      num_buckets=self.num_buckets,
      max_distance=self.max_distance,
    )

  def __call__(self, length: int) -> Array:
    """Returns the bias [1, heads, length, length] of a whole sequence."""
    position = np.arange(length)
    # Every entry depends on `key - query` only: look up 2 * length - 1 values,
    # and read them off along the diagonals.
    diagonal_HR = jnp.take(
      self.rel_embedding.astype(jnp.float32),
      self._buckets(np.arange(1 - length, length)),
      axis=1,
    )
    index_LS = position[None, :] - position[:, None] + length - 1
    return jnp.take(diagonal_HR, index_LS, axis=1)[None]

  def at(self, position_B: Array, max_length: int) -> Array:
    """Returns the bias [batch, heads, 1, keys] of one query per row.

    Args:
      position_B: position of the query, [batch], or [1] if it is the same in
        all rows.
      max_length: number of keys.
    """
    diagonal_HR = jnp.take(
      self.rel_embedding.astype(jnp.float32),
      self._buckets(np.arange(1 - max_length, max_length)),
      axis=1,
    )
    keys_S = np.arange(max_length)[None, :]
    index_BS = keys_S - position_B[:, None] + max_length - 1
    return jnp.take(diagonal_HR, index_BS, axis=1).swapaxes(0, 1)[:, :, None]
