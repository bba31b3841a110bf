"""T5X's `contrib.gpu.t5.network`. May import: `networks`."""

from typing import Any

from t2tjax import networks
from t2tjax.compat.t5x.examples.t5 import network
from t2tjax.compat.t5x.examples.t5.network import Transformer

__all__ = ["T5Config", "Transformer"]


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
  mlp_activations: Any = ("relu",),
  dropout_rate: float = 0.1,
  logits_via_embedding: bool = False,
  float32_attention_logits: bool = False,
  scale_attn_logits: bool = False,
) -> networks.T5Config:
  """Returns `examples.t5.network.T5Config`, without scaled attention logits."""
  if scale_attn_logits:
    raise ValueError(
      "network.T5Config.scale_attn_logits = True is not supported: T5 folds "
      "the scale into the initial query kernels. Leave it False."
    )
  return network.T5Config(
    vocab_size=vocab_size,
    dtype=dtype,
    emb_dim=emb_dim,
    num_heads=num_heads,
    num_encoder_layers=num_encoder_layers,
    num_decoder_layers=num_decoder_layers,
    head_dim=head_dim,
    mlp_dim=mlp_dim,
    mlp_activations=mlp_activations,
    dropout_rate=dropout_rate,
    logits_via_embedding=logits_via_embedding,
    float32_attention_logits=float32_attention_logits,
  )
