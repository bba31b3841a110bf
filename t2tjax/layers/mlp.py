"""The feed-forward block, plain (T5 1.0) or gated (T5 1.1).

Called by the networks. May import: typing, dense, dropout, sharding.
"""

import functools
import operator

from flax import linen as nn

from t2tjax.layers.dense import Dense, mlp_init
from t2tjax.layers.dropout import Dropout
from t2tjax.layers.sharding import constrain
from t2tjax.typing import Array

ACTIVATIONS = {
  "relu": nn.relu,
  "gelu": nn.gelu,  # The tanh approximation, as T5 1.1 was trained with.
  "silu": nn.silu,
  "swish": nn.silu,
  "sigmoid": nn.sigmoid,
  "tanh": nn.tanh,
  "linear": lambda x: x,
}


class Mlp(nn.Module):
  """`wo(product of activation_i(wi_i(x)))`.

  Attributes:
    emb_dim: size of input and output.
    mlp_dim: size of the hidden layer.
    activations: one name out of `ACTIVATIONS` per input kernel; two names make
      a gated block with kernels `wi_0` and `wi_1`, one a plain block with `wi`.
    dropout_rate: of the hidden layer.
    dtype: of the computation.
    param_dtype: of the kernels.
    lora_rank: rank of the adapters on `lora_targets`.
    lora_alpha: see `Dense`.
    lora_targets: kernels with an adapter: `wi` (all input kernels), `wo`.
  """

  emb_dim: int
  mlp_dim: int
  activations: tuple[str, ...] = ("gelu", "linear")
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"
  lora_rank: int = 0
  lora_alpha: float = 16.0
  lora_targets: tuple[str, ...] = ()

  def setup(self):
    """Makes the submodules."""

    def dense(name, in_features, features, kernel_axes, target):
      return Dense(
        in_features=in_features,
        features=features,
        kernel_axes=kernel_axes,
        kernel_init=mlp_init,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        lora_rank=self.lora_rank if target in self.lora_targets else 0,
        lora_alpha=self.lora_alpha,
        name=name,
      )

    plain = len(self.activations) == 1
    self.inputs = [
      dense(
        "wi" if plain else f"wi_{i}",
        self.emb_dim,
        self.mlp_dim,
        ("embed", "mlp"),
        "wi",
      )
      for i in range(len(self.activations))
    ]
    self.output = dense(
      "wo", self.mlp_dim, self.emb_dim, ("mlp", "embed"), "wo"
    )
    self.dropout = Dropout(self.dropout_rate)

  def __call__(self, x_BLD: Array, *, enable_dropout: bool = False) -> Array:
    """Maps `[batch, length, embed]` to the same shape."""
    hidden_BLF = functools.reduce(
      operator.mul,
      [
        ACTIVATIONS[activation](wi(x_BLD))
        for activation, wi in zip(self.activations, self.inputs, strict=True)
      ],
    )
    hidden_BLF = self.dropout(hidden_BLF, enable_dropout=enable_dropout)
    hidden_BLF = constrain(hidden_BLF, ("batch", "length", "mlp"))
    return self.output(hidden_BLF)
