"""RMS layer norm without bias or mean, as in T5.

Called by the networks. May import: typing.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from t2tjax.typing import Array


class LayerNorm(nn.Module):
  """Scales inputs to unit root mean square, then by a learned vector.

  The statistics are fp32 whatever the activations are.

  Attributes:
    dtype: of the output.
    param_dtype: of the scale.
    epsilon: added to the mean square.
  """

  dtype: str = "float32"
  param_dtype: str = "float32"
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x_BLD: Array) -> Array:
    """Normalises `[..., embed]` along its last axis."""
    scale_D = self.param(
      "scale",
      nn.with_logical_partitioning(nn.initializers.ones, ("embed",)),
      (x_BLD.shape[-1],),
      self.param_dtype,
    )
    x_BLD = x_BLD.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x_BLD), axis=-1, keepdims=True)
    y_BLD = x_BLD * jax.lax.rsqrt(mean_square + self.epsilon)
    scale = jnp.asarray(scale_D).reshape((1,) * (x_BLD.ndim - 1) + (-1,))
    return (y_BLD * scale).astype(self.dtype)
