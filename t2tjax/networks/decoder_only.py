"""A decoder-only T5: causal language model or prefix language model.

Called by `models.DecoderOnlyModel` through `module.apply`. The parameter tree
has the names of T5X's decoder-only example. May import: layers, configs,
stack, blocks, decoder.
"""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from t2tjax.layers import masks
from t2tjax.layers.embedding import Embedding
from t2tjax.networks.configs import DecoderOnlyConfig
from t2tjax.networks.decoder import Decoder
from t2tjax.typing import Array, Params


class DecoderOnly(nn.Module):
  """One decoder stack over tokens.

  Attributes:
    config: sizes and choices.
  """

  config: DecoderOnlyConfig

  def setup(self):
    """Makes the submodules."""
    self.decoder = EmbeddingDecoder(
      self.config, self.config.num_layers, cross_attention=False
    )

  def __call__(
    self,
    decoder_input_tokens: Array,
    *,
    decoder_segment_ids: Array | None = None,
    decoder_positions: Array | None = None,
    decoder_causal_attention: Array | None = None,
    enable_dropout: bool = False,
  ) -> Array:
    """Returns fp32 logits `[batch, length, vocab]`; see `hidden`."""
    hidden_BLD = self.hidden(
      decoder_input_tokens,
      decoder_segment_ids=decoder_segment_ids,
      decoder_positions=decoder_positions,
      decoder_causal_attention=decoder_causal_attention,
      enable_dropout=enable_dropout,
    )
    return self.decoder.readout_logits(hidden_BLD)

  def hidden(
    self,
    decoder_input_tokens: Array,
    *,
    decoder_segment_ids: Array | None = None,
    decoder_positions: Array | None = None,
    decoder_causal_attention: Array | None = None,
    enable_dropout: bool = False,
  ) -> Array:
    """Returns the final states `[batch, length, embed]`.

    Args:
      decoder_input_tokens: [batch, length], targets shifted right.
      decoder_segment_ids: of packed rows (1, 2, ... and 0 for padding).
      decoder_positions: accepted as part of a packed batch. Relative positions
        within an example are the same in its row, so nothing depends on them.
      decoder_causal_attention: [batch, length], 1 on prefix tokens, which see
        each other in both directions; None for a causal model.
      enable_dropout: whether to drop out; needs rng `dropout`.
    """
    del decoder_positions
    mask = _self_mask(
      decoder_input_tokens, decoder_segment_ids, decoder_causal_attention
    )
    return self.decoder(
      self.decoder.token_embedder(decoder_input_tokens),
      mask,
      enable_dropout=enable_dropout,
    )

  def init_cache(self, rows: int, max_decode_length: int) -> dict[str, Any]:
    """Returns an empty cache for `rows` sequences.

    Its arrays all have the rows at axis 0, [rows, ..., heads, length, kv]. The
    length counts prompt and decoded positions.
    """
    return {"self": self.decoder.empty_cache(rows, max_decode_length)}

  def prefill(
    self,
    prompt_tokens: Array,
    max_decode_length: int,
    *,
    decoder_causal_attention: Array | None = None,
  ) -> tuple[Array, dict[str, Any]]:
    """Reads whole prompts at once.

    Prompts of unequal length are padded at the end: the next `decode_step` of
    row i is at position `prompt length of i`, and overwrites the padding.

    Args:
      prompt_tokens: [batch, prompt length], the decoder's input tokens (the
        first is 0).
      max_decode_length: positions of the cache, prompt included.
      decoder_causal_attention: [batch, prompt length], 1 on tokens of a
        bidirectional prefix.

    Returns:
      fp32 logits [batch, prompt length, vocab] and the cache.
    """
    batch, length = prompt_tokens.shape
    if length > max_decode_length:
      raise ValueError(
        f"The prompt has {length} positions, the cache "
        f"max_decode_length = {max_decode_length}; raise it or shorten the "
        "prompt (`task_feature_lengths`)."
      )
    hidden_BLD, cache = self.decoder.prefill(
      self.decoder.token_embedder(prompt_tokens),
      _self_mask(prompt_tokens, None, decoder_causal_attention),
      self.decoder.empty_cache(batch, max_decode_length),
    )
    return self.decoder.readout_logits(hidden_BLD), {"self": cache}

  def decode_step(
    self, cache: dict[str, Any], tokens: Array, position: Array
  ) -> tuple[Array, dict[str, Any]]:
    """Reads one token per row and predicts the next.

    Args:
      cache: of `init_cache`, `prefill` or the previous step.
      tokens: [rows], the input at `position`.
      position: scalar, or [rows] if the rows are not in step.

    Returns:
      fp32 logits [rows, vocab] and the new cache.
    """
    hidden_BD, self_cache = self.decoder.step(
      self.decoder.token_embedder(tokens[:, None]), cache["self"], position
    )
    return self.decoder.readout_logits(hidden_BD), {"self": self_cache}

  def readout(self, params: Params) -> tuple[Array, float]:
    """Returns `(kernel [embed, vocab], scale)`; logits = scale * h @ kernel.

    A plain function of a parameter tree; needs no `apply`.
    """
    if self.config.logits_via_embedding:
      table = params["decoder"]["token_embedder"]["embedding"]
      return table.T, self.config.emb_dim**-0.5
    return params["decoder"]["logits_dense"]["kernel"], 1.0


class EmbeddingDecoder(Decoder):
  """A decoder that owns its embedding, where T5X's example keeps it."""

  def setup(self):
    """Makes the submodules."""
    super().setup()
    config = self.config
    self.token_embedder = Embedding(
      vocab_size=config.vocab_size,
      features=config.emb_dim,
      dtype=config.dtype,
      param_dtype=config.param_dtype,
    )

  def readout_logits(self, hidden: Array) -> Array:
    """Returns fp32 logits `[..., vocab]` of states `[..., embed]`."""
    if self.config.logits_via_embedding:
      return self.tied_logits(hidden, self.token_embedder.embedding)
    return self.logits(hidden)


def _self_mask(
  tokens_BL: Array,
  segment_ids_BL: Array | None,
  causal_attention_BL: Array | None,
) -> Array:
  mask = masks.causal_mask(tokens_BL.shape[1])
  if causal_attention_BL is not None:
    mask = jnp.logical_or(mask, masks.prefix_mask(causal_attention_BL))
  if segment_ids_BL is not None:
    mask = jnp.logical_and(
      mask, masks.segment_mask(segment_ids_BL, segment_ids_BL)
    )
  return mask
