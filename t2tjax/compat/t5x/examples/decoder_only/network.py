"""T5X's `examples.decoder_only.network`. May import: `networks`."""

from collections.abc import Sequence
from typing import Any

from t2tjax import networks


def TransformerConfig(  # noqa: N802
  *,
  vocab_size: int,
  dtype: Any = "float32",
  emb_dim: int = 512,
  num_heads: int = 8,
  num_layers: int = 6,
  head_dim: int = 64,
  mlp_dim: int = 2048,
  mlp_activations: Sequence[str] = ("relu",),
  dropout_rate: float = 0.1,
  logits_via_embedding: bool = False,
) -> networks.DecoderOnlyConfig:
  """Returns `networks.DecoderOnlyConfig`, which documents the parameters."""
  return networks.DecoderOnlyConfig(
    vocab_size=vocab_size,
    dtype=dtype,
    emb_dim=emb_dim,
    num_heads=num_heads,
    num_layers=num_layers,
    head_dim=head_dim,
    mlp_dim=mlp_dim,
    mlp_activations=tuple(mlp_activations),
    dropout_rate=dropout_rate,
    logits_via_embedding=logits_via_embedding,
  )


def DecoderWrapper(config: networks.DecoderOnlyConfig) -> networks.DecoderOnly:  # noqa: N802
  """Returns `networks.DecoderOnly`."""
  return networks.DecoderOnly(config)
