"""T5X's `examples.t5.network`. May import: `networks`."""

from collections.abc import Sequence
from typing import Any

from t2tjax import networks


def T5Config(  # noqa: N802
  *,
  vocab_size: int,
  dtype: Any = "float32",
  emb_dim: int = 512,
  num_heads: int = 8,
  num_encoder_layers: int = 6,
  num_decoder_layers: int = 6,
  head_dim: int = 64,
  mlp_dim: int = 2048,
  mlp_activations: Sequence[str] = ("relu",),
  dropout_rate: float = 0.1,
  logits_via_embedding: bool = False,
  float32_attention_logits: bool = False,
) -> networks.T5Config:
  """Returns `networks.T5Config`, which documents what has the same name.

  Args:
    vocab_size: see there, as for all that is not mentioned.
    dtype: likewise.
    emb_dim: likewise.
    num_heads: likewise.
    num_encoder_layers: likewise.
    num_decoder_layers: likewise.
    head_dim: likewise.
    mlp_dim: likewise.
    mlp_activations: likewise.
    dropout_rate: likewise.
    logits_via_embedding: likewise.
    float32_attention_logits: they always are.
  """
  del float32_attention_logits
  return networks.T5Config(
    vocab_size=vocab_size,
    dtype=dtype,
    emb_dim=emb_dim,
    num_heads=num_heads,
    num_encoder_layers=num_encoder_layers,
    num_decoder_layers=num_decoder_layers,
    head_dim=head_dim,
    mlp_dim=mlp_dim,
    mlp_activations=tuple(mlp_activations),
    dropout_rate=dropout_rate,
    logits_via_embedding=logits_via_embedding,
  )


def Transformer(config: networks.T5Config) -> networks.EncoderDecoder:  # noqa: N802
  """Returns `networks.EncoderDecoder`."""
  return networks.EncoderDecoder(config)
