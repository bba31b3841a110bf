"""Multi-head attention with T5's semantics, and its decoding cache.

Called by the networks. May import: typing, dense, dropout, reductions,
sharding.
"""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from t2tjax.layers.dense import Dense, attention_init
from t2tjax.layers.dropout import Dropout
from t2tjax.layers.reductions import add_bias
from t2tjax.layers.sharding import constrain
from t2tjax.typing import Array

# Finite, so that a row with no key at all is uniform instead of NaN.
MASKED = -1e10

# Keys and values [batch, heads, length, kv] of one layer, under `key` and
# `value`.
KeyValues = dict[str, Array]


class Attention(nn.Module):
  """Multi-head dot-product attention.

  Scores are not divided by sqrt(head_dim): T5 folds that into the initial
  query kernel. Scores and softmax are fp32 whatever the activations are.

  Attributes:
    emb_dim: size of inputs and output.
    num_heads: number of heads.
    head_dim: size of a head.
    dropout_rate: of the attention weights.
    dtype: of the projections and the weighted sum.
    param_dtype: of the kernels.
    lora_rank: rank of the adapters on `lora_targets`.
    lora_alpha: see `Dense`.
    lora_targets: kernels with an adapter, out of query, key, value, out.
  """

  emb_dim: int
  num_heads: int
  head_dim: int
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"
  lora_rank: int = 0
  lora_alpha: float = 16.0
  lora_targets: tuple[str, ...] = ()

  def setup(self):
    """Makes the submodules."""

    def query_init(key, shape, dtype):
      return attention_init(key, shape, dtype) / math.sqrt(self.head_dim)

    def dense(name, *, kernel_init=attention_init):
      into = (self.emb_dim, self.num_heads * self.head_dim)
      axes = ("embed", "joined_kv")
      if name == "out":
        into, axes = into[::-1], axes[::-1]
      return Dense(
        in_features=into[0],
        features=into[1],
        kernel_axes=axes,
        kernel_init=kernel_init,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        lora_rank=self.lora_rank if name in self.lora_targets else 0,
        lora_alpha=self.lora_alpha,
      )

    self.query = dense("query", kernel_init=query_init)
    self.key = dense("key")
    self.value = dense("value")
    self.out = dense("out")
    self.dropout = Dropout(self.dropout_rate)

  def __call__(
    self,
    inputs_BLD: Array,
    memory_BSD: Array,
    *,
    mask: Array | None = None,
    bias: Array | None = None,
    enable_dropout: bool = False,
  ) -> Array:
    """Attends from every input position to the memory.

    Args:
      inputs_BLD: queries' inputs, [batch, length, embed].
      memory_BSD: keys' and values' inputs, the same array in self-attention.
      mask: boolean, broadcasts to [batch, heads, length, length].
      bias: fp32, broadcasts to the same shape.
      enable_dropout: whether attention weights are dropped.

    Returns:
      [batch, length, embed].
    """
    return self._attend(
      self._split_heads(self.query(inputs_BLD)),
      self.project_memory(memory_BSD),
      mask=mask,
      bias=bias,
      enable_dropout=enable_dropout,
    )

  def attend_self(
    self,
    inputs_BLD: Array,
    *,
    mask: Array | None = None,
    bias: Array | None = None,
    enable_dropout: bool = False,
  ) -> tuple[Array, KeyValues]:
    """As `__call__` on its own inputs; also returns the keys and values."""
    key_values = self.project_memory(inputs_BLD)
    out_BLD = self._attend(
      self._split_heads(self.query(inputs_BLD)),
      key_values,
      mask=mask,
      bias=bias,
      enable_dropout=enable_dropout,
    )
    return out_BLD, key_values

  def project_memory(self, memory_BSD: Array) -> KeyValues:
    """Returns keys and values of `[batch, length, embed]`."""
    return {
      "key": self._split_heads(self.key(memory_BSD)),
      "value": self._split_heads(self.value(memory_BSD)),
    }

  def attend_memory(
    self, inputs_B1D: Array, memory: KeyValues, *, mask: Array | None
  ) -> Array:
    """Attends from one position per row to projected memory.

    Args:
      inputs_B1D: [rows, 1, embed]. The rows may be a multiple of the memory's
        batch: consecutive rows (beams, samples) then share one memory.
      memory: what `project_memory` returned.
      mask: boolean, [batch, 1, 1, length].

    Returns:
      [rows, 1, embed].
    """
    batch = memory["key"].shape[0]
    # Rows that share a memory are the query positions of one batch entry.
    inputs_BLD = inputs_B1D.reshape(batch, -1, self.emb_dim)
    query = self._split_heads(self.query(inputs_BLD))
    out_BLD = self._attend(query, memory, mask=mask)
    return out_BLD.reshape(inputs_B1D.shape)

  def step(
    self,
    inputs_B1D: Array,
    cache: KeyValues,
    position_B: Array,
    *,
    bias: Array | None,
  ) -> tuple[Array, KeyValues]:
    """Attends from one new position per row to itself and those before.

    Args:
      inputs_B1D: [batch, 1, embed].
      cache: keys and values of the positions so far.
      position_B: the new position, [batch], or [1] if the same in all rows.
      bias: fp32, [batch or 1, heads, 1, length].

    Returns:
      [batch, 1, embed], and the cache with the new position written.
    """
    cache = write_cache(cache, self.project_memory(inputs_B1D), position_B)
    length = cache["key"].shape[2]
    seen_BS = jnp.arange(length)[None, :] <= position_B[:, None]
    out_B1D = self._attend(
      self._split_heads(self.query(inputs_B1D)),
      cache,
      mask=seen_BS[:, None, None, :],
      bias=bias,
    )
    return out_B1D, cache

  def _split_heads(self, x_BLM: Array) -> Array:
    """[batch, length, joined_kv] -> [batch, heads, length, kv]."""
    batch, length, _ = x_BLM.shape
    x_BLHK = x_BLM.reshape(batch, length, self.num_heads, self.head_dim)
    x_BLHK = constrain(x_BLHK, ("batch", "length", "heads", "kv"))
    return x_BLHK.swapaxes(1, 2)

  def _attend(
    self,
    query_BHLK: Array,
    memory: KeyValues,
    *,
    mask: Array | None = None,
    bias: Array | None = None,
    enable_dropout: bool = False,
  ) -> Array:
    scores_BHLS = jnp.einsum(
      "bhlk,bhsk->bhls",
      query_BHLK,
      memory["key"],
      preferred_element_type=jnp.float32,
    )
    if bias is not None:
      scores_BHLS = add_bias(scores_BHLS, bias)
    if mask is not None:
      scores_BHLS = jnp.where(mask, scores_BHLS, MASKED)
    weights_BHLS = jax.nn.softmax(scores_BHLS).astype(self.dtype)
    weights_BHLS = self.dropout(weights_BHLS, enable_dropout=enable_dropout)
    context_BHLK = jnp.einsum("bhls,bhsk->bhlk", weights_BHLS, memory["value"])
    batch, _, length, _ = context_BHLK.shape
    context_BLM = context_BHLK.swapaxes(1, 2).reshape(batch, length, -1)
    context_BLM = constrain(context_BLM, ("batch", "length", "joined_kv"))
    return self.out(context_BLM)


def empty_cache(
  batch: int, num_heads: int, max_length: int, head_dim: int, dtype: str
) -> KeyValues:
  """Returns room for `max_length` positions [batch, heads, length, kv]."""
  shape = (batch, num_heads, max_length, head_dim)
  return {"key": jnp.zeros(shape, dtype), "value": jnp.zeros(shape, dtype)}


def write_cache(
  cache: KeyValues, new: KeyValues, position_B: Array
) -> KeyValues:
  """Writes consecutive positions into a cache, in place where XLA can.

  Args:
    cache: keys and values [batch, heads, length, kv].
    new: the same of fewer positions.
    position_B: first position written, [batch], or [1] if the same in all rows.

  Returns:
    The updated cache.
  """

  def write(old: Array, update: Array) -> Array:
    update = update.astype(old.dtype)
    if position_B.shape[0] == 1:
      return jax.lax.dynamic_update_slice(old, update, (0, 0, position_B[0], 0))
    return jax.vmap(
      lambda row, value, at: jax.lax.dynamic_update_slice(
        row, value, (0, at, 0)
      )
    )(old, update, position_B)

  return {name: write(cache[name], new[name]) for name in cache}
