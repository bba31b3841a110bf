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


@jax.custom_vjp
def add_bias(x_B: Array, bias_1: Array) -> Array:
  """Returns `x + bias`, where only the bias's leading axis may be 1."""
  return x_B + bias_1


def _add_bias_forward(x_B, bias_1):
  return x_B + bias_1, bias_1.shape[0] == 1


def _add_bias_backward(is_shared, y_B):
  return y_B, sum_leading_axis(y_B)[None] if is_shared else y_B


add_bias.defvjp(_add_bias_forward, _add_bias_backward)
