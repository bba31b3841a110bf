"""The decoder stack of both networks, all at once or one position at a time.

Called by `encoder_decoder` and `decoder_only`. May import: layers, configs,
stack, blocks.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from t2tjax.layers.attention import empty_cache
from t2tjax.layers.dense import Dense
from t2tjax.layers.dropout import Dropout
from t2tjax.layers.sharding import constrain
from t2tjax.networks import stack
from t2tjax.networks.blocks import (
  DecoderLayer,
  Shared,
  make_norm,
  make_position_bias,
)
from t2tjax.networks.configs import NetworkConfig
from t2tjax.typing import Array, PyTree


class Decoder(nn.Module):
  """Embedded tokens to final states, and to logits.

  Attributes:
    config: of the network.
    num_layers: number of layers.
    cross_attention: whether there is an encoder to attend to.
  """

  config: NetworkConfig
  num_layers: int
  cross_attention: bool

  def setup(self):
    """Makes the submodules."""
    config = self.config
    if config.relpos_bias == "shared":
      self.relpos_bias = make_position_bias(config, bidirectional=False)
    methods = ["prefill", "step"]
    if self.cross_attention:
      methods.append("project_memory")
    self.layers = stack.make_layers(
      DecoderLayer,
      config,
      self.num_layers,
      cached_methods=methods,
      cross_attention=self.cross_attention,
    )
    self.decoder_norm = make_norm(config)
    self.dropout = Dropout(config.dropout_rate)
    if not config.logits_via_embedding:
      self.logits_dense = Dense(
        in_features=config.emb_dim,
        features=config.vocab_size,
        kernel_axes=("embed", "vocab"),
        dtype="float32",
        param_dtype=config.param_dtype,
      )

  def __call__(
    self,
    x_BLD: Array,
    mask: Array,
    *,
    memory: Array | None = None,
    memory_mask: Array | None = None,
    enable_dropout: bool,
  ) -> Array:
    """Maps embedded tokens `[batch, length, embed]` to final states."""
    shared = Shared(
      mask=mask,
      bias=self._bias(x_BLD.shape[1]),
      memory=memory,
      memory_mask=memory_mask,
      enable_dropout=enable_dropout,
    )
    x_BLD = self.dropout(x_BLD, enable_dropout=enable_dropout)
    x_BLD, _ = stack.run_layers(self.layers, x_BLD, shared)
    x_BLD = self.decoder_norm(x_BLD)
    return self.dropout(x_BLD, enable_dropout=enable_dropout)

  def project_memory(self, memory_BSD: Array) -> PyTree:
    """Returns cross-attention's keys and values of every layer."""
    _, key_values = stack.run_layers(
      self.layers,
      memory_BSD[:, :1],
      Shared(memory=memory_BSD),
      method="project_memory",
    )
    return key_values

  def empty_cache(self, rows: int, max_length: int) -> PyTree:
    """Returns self-attention's keys and values of every layer, zero yet."""
    config = self.config
    layer = empty_cache(
      rows, config.num_heads, max_length, config.head_dim, config.dtype
    )
    if config.scan_layers:
      shape = (rows, self.num_layers, *layer["key"].shape[1:])
      return {name: jnp.zeros(shape, config.dtype) for name in layer}
    return {f"layers_{i}": layer for i in range(self.num_layers)}

  def prefill(
    self, x_BLD: Array, mask: Array, cache: PyTree
  ) -> tuple[Array, PyTree]:
    """Maps embedded tokens to final states and writes them into the cache."""
    shared = Shared(mask=mask, bias=self._bias(x_BLD.shape[1]))
    x_BLD, key_values = stack.run_layers(
      self.layers, x_BLD, shared, method="prefill"
    )

    def write(old: Array, new: Array) -> Array:
      # A cache [rows, (layers,) heads, length, kv] is filled from position 0.
      return jax.lax.dynamic_update_slice(
        old, new.astype(old.dtype), (0,) * old.ndim
      )

    cache = jax.tree.map(write, cache, key_values)
    return self.decoder_norm(x_BLD), cache

  def step(
    self,
    x_B1D: Array,
    cache: PyTree,
    position: Array,
    *,
    cross_cache: PyTree = None,
    memory_mask: Array | None = None,
  ) -> tuple[Array, PyTree]:
    """Maps one embedded token per row to its final state [rows, embed]."""
    position_B = jnp.atleast_1d(position)
    leaf = jax.tree.leaves(cache)[0]
    bias = None
    if self.config.relpos_bias == "shared":
      bias = self.relpos_bias.at(position_B, leaf.shape[-2])
    per_layer: Any
    if self.config.scan_layers:
      per_layer = {"self": cache, "cross": cross_cache}
    else:
      per_layer = {
        name: {
          "self": cache[name],
          "cross": None if cross_cache is None else cross_cache[name],
        }
        for name in cache
      }
    x_B1D, cache = stack.run_layers(
      self.layers,
      x_B1D,
      Shared(bias=bias, memory_mask=memory_mask, position=position_B),
      method="step",
      per_layer=per_layer,
    )
    return self.decoder_norm(x_B1D)[:, 0], cache

  def logits(self, hidden: Array) -> Array:
    """Returns fp32 logits `[..., vocab]` of states `[..., embed]`."""
    return _constrain_logits(self.logits_dense(hidden))

  def tied_logits(self, hidden: Array, table_VD: Array) -> Array:
    """Returns fp32 logits from the embedding table, as T5 1.0 does."""
    scaled = hidden.astype(jnp.float32) * self.config.emb_dim**-0.5
    return _constrain_logits(scaled @ table_VD.T.astype(jnp.float32))

  def _bias(self, length: int) -> Array | None:
    if self.config.relpos_bias == "shared":
      return self.relpos_bias(length)
    return None


def _constrain_logits(logits: Array) -> Array:
  axes = (
    ("batch", "length", "vocab") if logits.ndim == 3 else ("batch", "vocab")
  )
  return constrain(logits, axes)
