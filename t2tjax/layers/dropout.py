"""Dropout as T5 does it: one mask for all positions of a sequence.

Called by layers and networks. May import: typing.
"""

from flax import linen as nn
import jax

from t2tjax.typing import Array


class Dropout(nn.Module):
  """Zeroes features and scales the rest by `1 / (1 - rate)`.

  The mask is drawn once per sequence and broadcast over the length axis (the
  last but one), as Mesh-TensorFlow's T5 did: whole features are dropped, and
  the random numbers cost next to nothing. On attention weights
  [batch, heads, length, length] the same axis is that of the queries, so whole
  keys are dropped.

  Attributes:
    rate: share of features that are zeroed.
  """

  rate: float

  @nn.compact
  def __call__(self, x: Array, *, enable_dropout: bool) -> Array:
    """Drops features of `[..., length, features]`; needs rng `dropout`."""
    if not enable_dropout or not self.rate:
      return x
    keep_rate = 1.0 - self.rate
    shape = (*x.shape[:-2], 1, x.shape[-1])
    keep = jax.random.bernoulli(self.make_rng("dropout"), keep_rate, shape)
    return x * (keep / keep_rate).astype(x.dtype)
