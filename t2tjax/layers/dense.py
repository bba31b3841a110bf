"""Bias-free linear maps with named axes, and their low-rank adapters.

Called by attention, MLP and readout. May import: typing.
"""

from collections.abc import Callable

from flax import linen as nn
import jax
import jax.numpy as jnp

from t2tjax.typing import Array

Initializer = Callable[..., Array]

# Mesh-TensorFlow's and T5X's choices for the two kinds of kernels.
attention_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
mlp_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


@jax.custom_vjp
def matmul(x: Array, kernel_MN: Array) -> Array:
  """Returns `x @ kernel` for `x` [..., in], with a gradient that copies less.

  The kernel's gradient contracts the tokens of `x` and of the cotangent, and
  one of the two has to be transposed first. JAX transposes the cotangent; here
  it is the narrower one, and where several kernels share their input (query,
  key and value; gated MLPs) it is transposed once.
  """
  return x @ kernel_MN


def _matmul_forward(x, kernel_MN):
  return x @ kernel_MN, (x, kernel_MN)


def _matmul_backward(residuals, y):
  x, kernel_MN = residuals
  tokens = tuple(range(x.ndim - 1))
  contract = ((tokens, tokens), ((), ()))
  if x.shape[-1] <= y.shape[-1]:
    kernel_gradient = jax.lax.dot_general(x, y, contract)
  else:
    kernel_gradient = jax.lax.dot_general(y, x, contract).T
  return y @ kernel_MN.T, kernel_gradient


matmul.defvjp(_matmul_forward, _matmul_backward)


class Dense(nn.Module):
  """`y = x @ kernel`, plus `(x @ lora_a) @ lora_b * alpha / rank` if asked.

  The kernel is always a matrix [in, out]: heads are split off the output, not
  kept in the parameter, so that it is initialised, sharded, factored by
  Adafactor and stored in one shape.

  Attributes:
    in_features: size of the contracted axis.
    features: size of the output axis.
    kernel_axes: logical names of the kernel's two axes.
    kernel_init: initializer of the kernel.
    dtype: of the computation and the output.
    param_dtype: of the parameters.
    lora_rank: rank of the adapter, 0 for none. `lora_b` starts at zero, so a
      fresh adapter changes nothing.
    lora_alpha: the adapter's output is scaled by `lora_alpha / lora_rank`.
  """

  in_features: int
  features: int
  kernel_axes: tuple[str, str]
  kernel_init: Initializer = mlp_init
  dtype: str = "float32"
  param_dtype: str = "float32"
  lora_rank: int = 0
  lora_alpha: float = 16.0

  def setup(self):
    """Makes the parameters."""
    in_axis, out_axis = self.kernel_axes
    self.kernel = self._matrix(
      "kernel",
      self.kernel_init,
      (self.in_features, self.features),
      self.kernel_axes,
    )
    if self.lora_rank:
      self.lora_a = self._matrix(
        "lora_a",
        attention_init,
        (self.in_features, self.lora_rank),
        (in_axis, "lora_rank"),
      )
      self.lora_b = self._matrix(
        "lora_b",
        nn.initializers.zeros,
        (self.lora_rank, self.features),
        ("lora_rank", out_axis),
      )

  def _matrix(self, name, init, shape, axes):
    init = nn.with_logical_partitioning(init, axes)
    return self.param(name, init, shape, self.param_dtype)

  def __call__(self, x: Array) -> Array:
    """Maps `[..., in]` to `[..., out]`."""
    x = x.astype(self.dtype)
    y = matmul(x, self.kernel.astype(self.dtype))
    if self.lora_rank:
      low = matmul(x, self.lora_a.astype(self.dtype))
      scale = jnp.asarray(self.lora_alpha / self.lora_rank, self.dtype)
      y = y + (low @ self.lora_b.astype(self.dtype)) * scale
    return y
