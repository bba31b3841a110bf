"""Boolean attention masks: padding, packing, causality, prefixes.

Called by the networks. True means "may attend". A mask has the smallest shape
that broadcasts to [batch, heads, length, length]; padding alone needs
[batch, 1, 1, length]. May import: typing.
"""

import jax.numpy as jnp

from t2tjax.typing import Array


def padding_mask(tokens_BS: Array) -> Array:
  """Returns [batch, 1, 1, length]: keys whose token id is not padding (0)."""
  return (tokens_BS > 0)[:, None, None, :]


def segment_mask(query_segments_BL: Array, key_segments_BS: Array) -> Array:
  """Returns [batch, 1, length, length]: pairs of the same packed example.

  Segment 0 is padding, which nobody attends to.
  """
  query_BL1 = query_segments_BL[:, :, None]
  key_B1S = key_segments_BS[:, None, :]
  return ((query_BL1 == key_B1S) & (key_B1S > 0))[:, None]


def causal_mask(length: int) -> Array:
  """Returns [1, 1, length, length]: keys not after the query."""
  return jnp.tril(jnp.ones((length, length), bool))[None, None]


def prefix_mask(causal_attention_BL: Array) -> Array:
  """Returns [batch, 1, length, length]: pairs that both lie in the prefix."""
  prefix_BL = causal_attention_BL > 0
  return (prefix_BL[:, :, None] & prefix_BL[:, None, :])[:, None]
