"""Sums over a leading axis that are fast on every backend.

Called by attention and the optimizers. May import: typing.
"""

import jax
import jax.numpy as jnp

from t2tjax.typing import Array


def sum_leading_axis(x: Array) -> Array:
  """Returns `x.sum(axis=0)` of an fp32 array.

  XLA's CPU backend sums over a leading axis some 50 times slower than memory
  allows, but multiplies by a vector of ones at full speed.
  """
  return jax.lax.platform_dependent(
    x, cpu=_multiply_by_ones, default=lambda x: jnp.sum(x, axis=0)
  )


def _multiply_by_ones(x: Array) -> Array:
  ones = jnp.ones((1, x.shape[0]), x.dtype)
  return (ones @ x.reshape(x.shape[0], -1)).reshape(x.shape[1:])


def add_bias(x_BHLS: Array, bias_BHLS: Array) -> Array:
  """Returns `x + bias`, where the bias may be one for the whole batch.

  The gradient of a shared bias is a `sum_leading_axis`.
  """
  if bias_BHLS.shape[0] == x_BHLS.shape[0]:
    return x_BHLS + bias_BHLS
  return _add_shared_bias(x_BHLS, bias_BHLS)


@jax.custom_vjp
def _add_shared_bias(x_BHLS, bias_1HLS):
  return x_BHLS + bias_1HLS


_add_shared_bias.defvjp(
  lambda x_BHLS, bias_1HLS: (x_BHLS + bias_1HLS, None),
  lambda _, y_BHLS: (y_BHLS, sum_leading_axis(y_BHLS)[None]),
)
