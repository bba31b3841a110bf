"""Transformer layers: attention and MLP blocks with residuals.

Each block is `x + dropout(block(norm(x)))`. Called by `encoder_decoder` and
`decoder_only` through `stack.run_layers`. May import: layers, configs.
"""

from typing import Any

from flax import linen as nn
from flax import struct

from t2tjax.layers.attention import Attention, KeyValues
from t2tjax.layers.dropout import Dropout
from t2tjax.layers.mlp import Mlp
from t2tjax.layers.norm import LayerNorm
from t2tjax.layers.relative_position import RelativePositionBias
from t2tjax.layers.sharding import constrain
from t2tjax.networks.configs import NetworkConfig
from t2tjax.typing import Array

RESIDUAL_AXES = ("batch", "length", "embed")


@struct.dataclass
class Shared:
  """What all layers of a stack get alike. Unused entries are None.

  Attributes:
    mask: of self-attention, boolean.
    bias: of self-attention, fp32; None if every layer has its own.
    memory: encoder output [batch, length, embed].
    memory_mask: of cross-attention, boolean.
    position: of the one query per row in cached decoding, [batch] or [1].
    enable_dropout: static.
  """

  mask: Array | None = None
  bias: Array | None = None
  memory: Array | None = None
  memory_mask: Array | None = None
  position: Array | None = None
  enable_dropout: bool = struct.field(pytree_node=False, default=False)


def make_norm(config: NetworkConfig) -> LayerNorm:
  """Returns a layer norm as `config` wants it."""
  return LayerNorm(dtype=config.dtype, param_dtype=config.param_dtype)


def make_position_bias(
  config: NetworkConfig, *, bidirectional: bool
) -> RelativePositionBias:
  """Returns a relative position bias as `config` wants it."""
  return RelativePositionBias(
    num_heads=config.num_heads,
    bidirectional=bidirectional,
    num_buckets=config.relpos_num_buckets,
    max_distance=config.relpos_max_distance,
    param_dtype=config.param_dtype,
  )


def _shared_attributes(config: NetworkConfig) -> dict[str, Any]:
  return dict(
    emb_dim=config.emb_dim,
    dropout_rate=config.dropout_rate,
    dtype=config.dtype,
    param_dtype=config.param_dtype,
    lora_rank=config.lora_rank,
    lora_alpha=config.lora_alpha,
    lora_targets=config.lora_targets,
  )


def _make_attention(config: NetworkConfig) -> Attention:
  return Attention(
    num_heads=config.num_heads,
    head_dim=config.head_dim,
    **_shared_attributes(config),
  )


def _make_mlp(config: NetworkConfig) -> Mlp:
  return Mlp(
    mlp_dim=config.mlp_dim,
    activations=config.mlp_activations,
    **_shared_attributes(config),
  )


class EncoderLayer(nn.Module):
  """Bidirectional self-attention, then MLP."""

  config: NetworkConfig

  def setup(self):
    """Makes the submodules."""
    config = self.config
    self.pre_attention_layer_norm = make_norm(config)
    self.attention = _make_attention(config)
    self.pre_mlp_layer_norm = make_norm(config)
    self.mlp = _make_mlp(config)
    self.dropout = Dropout(config.dropout_rate)
    if config.relpos_bias == "per_layer":
      self.relpos_bias = make_position_bias(config, bidirectional=True)

  def __call__(
    self, x_BLD: Array, per_layer: None, shared: Shared
  ) -> tuple[Array, None]:
    """Maps `[batch, length, embed]` to the same shape."""
    del per_layer
    dropout = shared.enable_dropout
    bias = shared.bias
    if self.config.relpos_bias == "per_layer":
      bias = self.relpos_bias(x_BLD.shape[1])
    x_BLD = constrain(x_BLD, RESIDUAL_AXES)
    normed_BLD = self.pre_attention_layer_norm(x_BLD)
    y_BLD = self.attention(
      normed_BLD,
      normed_BLD,
      mask=shared.mask,
      bias=bias,
      enable_dropout=dropout,
    )
    x_BLD = x_BLD + self.dropout(y_BLD, enable_dropout=dropout)
    y_BLD = self.mlp(self.pre_mlp_layer_norm(x_BLD), enable_dropout=dropout)
    x_BLD = x_BLD + self.dropout(y_BLD, enable_dropout=dropout)
    return constrain(x_BLD, RESIDUAL_AXES), None


class DecoderLayer(nn.Module):
  """Causal self-attention, cross-attention if asked, then MLP.

  Attributes:
    config: of the network.
    cross_attention: whether there is an encoder to attend to.
  """

  config: NetworkConfig
  cross_attention: bool

  def setup(self):
    """Makes the submodules."""
    config = self.config
    self.pre_self_attention_layer_norm = make_norm(config)
    self.self_attention = _make_attention(config)
    if self.cross_attention:
      self.pre_cross_attention_layer_norm = make_norm(config)
      self.encoder_decoder_attention = _make_attention(config)
    self.pre_mlp_layer_norm = make_norm(config)
    self.mlp = _make_mlp(config)
    self.dropout = Dropout(config.dropout_rate)
    if config.relpos_bias == "per_layer":
      self.relpos_bias = make_position_bias(config, bidirectional=False)

  def __call__(
    self, x_BLD: Array, per_layer: None, shared: Shared
  ) -> tuple[Array, None]:
    """Maps `[batch, length, embed]` to itself, all positions at once."""
    del per_layer
    return self._forward(x_BLD, shared)[0], None

  def prefill(
    self, x_BLD: Array, per_layer: None, shared: Shared
  ) -> tuple[Array, KeyValues]:
    """As `__call__`, and returns self-attention's keys and values."""
    del per_layer
    return self._forward(x_BLD, shared)

  def project_memory(
    self, x: Array, per_layer: None, shared: Shared
  ) -> tuple[Array, KeyValues]:
    """Returns `x` and cross-attention's keys and values."""
    del per_layer
    return x, self.encoder_decoder_attention.project_memory(shared.memory)

  def step(
    self, x_B1D: Array, cache: dict[str, KeyValues], shared: Shared
  ) -> tuple[Array, KeyValues]:
    """One position per row: [batch, 1, embed], and the new self cache.

    `cache` holds keys and values: `self` of the positions so far, and `cross`
    of the memory.
    """
    bias = shared.bias
    if self.config.relpos_bias == "per_layer":
      length = cache["self"]["key"].shape[2]
      bias = self.relpos_bias.at(shared.position, length)
    y_B1D, self_cache = self.self_attention.step(
      self.pre_self_attention_layer_norm(x_B1D),
      cache["self"],
      shared.position,
      bias=bias,
    )
    x_B1D = x_B1D + y_B1D
    if self.cross_attention:
      x_B1D = x_B1D + self.encoder_decoder_attention.attend_memory(
        self.pre_cross_attention_layer_norm(x_B1D),
        cache["cross"],
        mask=shared.memory_mask,
      )
    return x_B1D + self.mlp(self.pre_mlp_layer_norm(x_B1D)), self_cache

  def _forward(self, x_BLD: Array, shared: Shared) -> tuple[Array, KeyValues]:
    dropout = shared.enable_dropout
    bias = shared.bias
    if self.config.relpos_bias == "per_layer":
      bias = self.relpos_bias(x_BLD.shape[1])
    x_BLD = constrain(x_BLD, RESIDUAL_AXES)
    y_BLD, key_values = self.self_attention.attend_self(
      self.pre_self_attention_layer_norm(x_BLD),
      mask=shared.mask,
      bias=bias,
      enable_dropout=dropout,
    )
    x_BLD = x_BLD + self.dropout(y_BLD, enable_dropout=dropout)
    if self.cross_attention:
      y_BLD = self.encoder_decoder_attention(
        self.pre_cross_attention_layer_norm(x_BLD),
        shared.memory,
        mask=shared.memory_mask,
        enable_dropout=dropout,
      )
      x_BLD = x_BLD + self.dropout(y_BLD, enable_dropout=dropout)
    y_BLD = self.mlp(self.pre_mlp_layer_norm(x_BLD), enable_dropout=dropout)
    x_BLD = x_BLD + self.dropout(y_BLD, enable_dropout=dropout)
    return constrain(x_BLD, RESIDUAL_AXES), key_values
