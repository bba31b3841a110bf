"""T5X's `examples.scalable_t5.network`. May import: `networks`."""

from collections.abc import Sequence
from typing import Any

from t2tjax import networks
from t2tjax.compat.t5x import notices
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
  mlp_activations: Sequence[str] = ("relu",),
  dropout_rate: float = 0.1,
  logits_via_embedding: bool = False,
  remat_policy: str = "none",
  scan_layers: bool = True,
  param_scan_axis: int = 1,
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
    remat_policy: likewise.
    scan_layers: likewise.
    param_scan_axis: layers are stacked at axis 0; T5X's own checkpoints are
      read whatever theirs is.
  """
  if param_scan_axis not in (0, 1):
    notices.without_effect(
      "network.T5Config.param_scan_axis", "layers are stacked at axis 0"
    )
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
    remat_policy=remat_policy,
    scan_layers=scan_layers,
  )
