"""The T5 encoder-decoder: 1.0, 1.1, mT5, ByT5, UMT5 are settings of it.

Called by `models.EncoderDecoderModel` through `module.apply`. The parameter
tree has T5X's names. May import: layers, configs, stack, blocks.
"""

from typing import Any

from flax import linen as nn

from t2tjax.layers import masks
from t2tjax.layers.dropout import Dropout
from t2tjax.layers.embedding import Embedding
from t2tjax.networks import stack
from t2tjax.networks.blocks import (
  EncoderLayer,
  Shared,
  make_norm,
  make_position_bias,
)
from t2tjax.networks.configs import T5Config
from t2tjax.networks.decoder import Decoder
from t2tjax.typing import Array, Params, PyTree


class Encoder(nn.Module):
  """Token vectors to contextual vectors."""

  config: T5Config

  def setup(self):
    """Makes the submodules."""
    config = self.config
    if config.relpos_bias == "shared":
      self.relpos_bias = make_position_bias(config, bidirectional=True)
    self.layers = stack.make_layers(
      EncoderLayer, config, config.num_encoder_layers
    )
    self.encoder_norm = make_norm(config)
    self.dropout = Dropout(config.dropout_rate)

  def __call__(
    self, x_BLD: Array, mask: Array, *, enable_dropout: bool
  ) -> Array:
    """Maps embedded tokens `[batch, length, embed]` to the same shape."""
    bias = None
    if self.config.relpos_bias == "shared":
      bias = self.relpos_bias(x_BLD.shape[1])
    shared = Shared(mask=mask, bias=bias, enable_dropout=enable_dropout)
    x_BLD = self.dropout(x_BLD, enable_dropout=enable_dropout)
    x_BLD, _ = stack.run_layers(self.layers, x_BLD, shared)
    x_BLD = self.encoder_norm(x_BLD)
    return self.dropout(x_BLD, enable_dropout=enable_dropout)


class EncoderDecoder(nn.Module):
  """Encoder and decoder over one shared embedding.

  All token arrays are int32; id 0 is padding. Packed rows come with segment
  ids (1, 2, ... and 0 for padding); examples of a row never see each other.

  Attributes:
    config: sizes and choices.
  """

  config: T5Config

  def setup(self):
    """Makes the submodules."""
    config = self.config
    self.token_embedder = Embedding(
      vocab_size=config.vocab_size,
      features=config.emb_dim,
      dtype=config.dtype,
      param_dtype=config.param_dtype,
    )
    self.encoder = Encoder(config)
    self.decoder = Decoder(
      config, config.num_decoder_layers, cross_attention=True
    )

  def __call__(
    self,
    encoder_input_tokens: Array,
    decoder_input_tokens: Array,
    *,
    encoder_segment_ids: Array | None = None,
    decoder_segment_ids: Array | None = None,
    encoder_positions: Array | None = None,
    decoder_positions: Array | None = None,
    enable_dropout: bool = False,
  ) -> Array:
    """Returns fp32 logits `[batch, length, vocab]` of every target position.

    Training uses `hidden` and a chunked loss instead, which keeps no logits.
    See `hidden` for the arguments.
    """
    hidden_BLD = self.hidden(
      encoder_input_tokens,
      decoder_input_tokens,
      encoder_segment_ids=encoder_segment_ids,
      decoder_segment_ids=decoder_segment_ids,
      encoder_positions=encoder_positions,
      decoder_positions=decoder_positions,
      enable_dropout=enable_dropout,
    )
    return self._logits(hidden_BLD)

  def hidden(
    self,
    encoder_input_tokens: Array,
    decoder_input_tokens: Array,
    *,
    encoder_segment_ids: Array | None = None,
    decoder_segment_ids: Array | None = None,
    encoder_positions: Array | None = None,
    decoder_positions: Array | None = None,
    enable_dropout: bool = False,
  ) -> Array:
    """Returns the decoder's final states `[batch, length, embed]`.

    They are normed and dropped out, ready for `readout`.

    Args:
      encoder_input_tokens: [batch, input length].
      decoder_input_tokens: [batch, target length], targets shifted right.
      encoder_segment_ids: of packed inputs. Without them, id 0 is masked.
      decoder_segment_ids: of packed targets; both or neither are given.
      encoder_positions: accepted as part of a packed batch. Relative positions
        within an example are the same in its row, so nothing depends on them.
      decoder_positions: likewise.
      enable_dropout: whether to drop out; needs rng `dropout`.
    """
    del encoder_positions, decoder_positions
    _check_segments(encoder_segment_ids, decoder_segment_ids)
    encoded = self.encode(
      encoder_input_tokens,
      encoder_segment_ids=encoder_segment_ids,
      enable_dropout=enable_dropout,
    )
    mask = masks.causal_mask(decoder_input_tokens.shape[1])
    if encoder_segment_ids is None or decoder_segment_ids is None:
      memory_mask = masks.padding_mask(encoder_input_tokens)
    else:
      mask = mask & masks.segment_mask(decoder_segment_ids, decoder_segment_ids)
      memory_mask = masks.segment_mask(decoder_segment_ids, encoder_segment_ids)
    return self.decoder(
      self.token_embedder(decoder_input_tokens),
      mask,
      memory=encoded,
      memory_mask=memory_mask,
      enable_dropout=enable_dropout,
    )

  def encode(
    self,
    encoder_input_tokens: Array,
    *,
    encoder_segment_ids: Array | None = None,
    enable_dropout: bool = False,
  ) -> Array:
    """Returns the encoder's output `[batch, length, embed]`."""
    if encoder_segment_ids is None:
      mask = masks.padding_mask(encoder_input_tokens)
    else:
      mask = masks.segment_mask(encoder_segment_ids, encoder_segment_ids)
    return self.encoder(
      self.token_embedder(encoder_input_tokens),
      mask,
      enable_dropout=enable_dropout,
    )

  def init_cache(
    self,
    encoded: Array,
    encoder_input_tokens: Array,
    max_decode_length: int,
    *,
    num_rows_per_input: int = 1,
  ) -> dict[str, Any]:
    """Returns the cache that `decode_step` starts from.

    Args:
      encoded: output of `encode`, [batch, input length, embed].
      encoder_input_tokens: [batch, input length], for the padding.
      max_decode_length: number of positions that will be decoded at most.
      num_rows_per_input: beams or samples per input: decoding then runs on
        `batch * num_rows_per_input` rows, those of one input side by side,
        while keys and values of the input exist once.

    Returns:
      A dict of `self`, the decoder's own keys and values, zero yet, whose
      arrays all have the rows at axis 0, [rows, ..., heads, length, kv], so
      that a beam search gathers them with `tree.map(lambda x: x[rows], ...)`;
      and of `cross`, keys and values of the inputs, and `memory_mask`, both
      with the inputs at axis 0, which do not change.
    """
    return {
      "self": self.decoder.empty_cache(
        encoded.shape[0] * num_rows_per_input, max_decode_length
      ),
      "cross": self.decoder.project_memory(encoded),
      "memory_mask": masks.padding_mask(encoder_input_tokens),
    }

  def decode_step(
    self, cache: dict[str, Any], tokens: Array, position: Array
  ) -> tuple[Array, dict[str, Any]]:
    """Reads one token per row and predicts the next.

    Args:
      cache: of `init_cache` or the previous step.
      tokens: [rows], the decoder's input at `position`: 0 at position 0.
      position: scalar, or [rows] if the rows are not in step.

    Returns:
      fp32 logits [rows, vocab] and the new cache.
    """
    hidden_BD, self_cache = self.decoder.step(
      self.token_embedder(tokens[:, None]),
      cache["self"],
      position,
      cross_cache=cache["cross"],
      memory_mask=cache["memory_mask"],
    )
    return self._logits(hidden_BD), {**cache, "self": self_cache}

  def readout(self, params: Params) -> tuple[Array, float]:
    """Returns `(kernel [embed, vocab], scale)`; logits = scale * h @ kernel.

    A plain function of a parameter tree; needs no `apply`.
    """
    if self.config.logits_via_embedding:
      table = params["token_embedder"]["embedding"]
      return table.T, self.config.emb_dim**-0.5
    return params["decoder"]["logits_dense"]["kernel"], 1.0

  def _logits(self, hidden: Array) -> Array:
    if self.config.logits_via_embedding:
      table = self.token_embedder.embedding
      return self.decoder.tied_logits(hidden, table)
    return self.decoder.logits(hidden)


def _check_segments(encoder: PyTree, decoder: PyTree) -> None:
  if (encoder is None) != (decoder is None):
    given, missing = (
      ("decoder", "encoder") if encoder is None else ("encoder", "decoder")
    )
    raise ValueError(
      f"Got {given}_segment_ids but no {missing}_segment_ids: a packed batch "
      "needs both, or its examples would see each other. Pack with "
      "`DatasetConfig.pack = True`, which gives all features."
    )
