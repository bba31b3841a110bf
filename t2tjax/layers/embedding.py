"""Token embedding by gather.

Called by the networks. May import: typing, sharding.
"""

from flax import linen as nn
import jax.numpy as jnp

from t2tjax.typing import Array


class Embedding(nn.Module):
  """A table of one vector per token id.

  Attributes:
    vocab_size: rows of the table.
    features: size of a vector.
    dtype: of the output.
    param_dtype: of the table.
  """

  vocab_size: int
  features: int
  dtype: str = "float32"
  param_dtype: str = "float32"

  def setup(self):
    """Makes the parameters."""
    self.embedding = self.param(
      "embedding",
      nn.with_logical_partitioning(
        nn.initializers.normal(stddev=1.0), ("vocab", "embed")
      ),
      (self.vocab_size, self.features),
      self.param_dtype,
    )

  def __call__(self, tokens_BL: Array) -> Array:
    """Returns the vectors `[batch, length, embed]` of int32 token ids.

    An id outside the vocabulary gives NaN, which a run notices at once.
    """
    return jnp.take(self.embedding, tokens_BL, axis=0).astype(self.dtype)
