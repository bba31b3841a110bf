"""Sizes and choices of the networks, checked when they are made.

Called by gin templates, the networks and `flops`. May import: layers.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from t2tjax.layers.mlp import ACTIVATIONS

REMAT_POLICIES = ("none", "minimal", "dots", "full")
RELPOS_BIASES = ("shared", "per_layer")
LORA_TARGETS = ("query", "key", "value", "out", "wi", "wo")
_FLOATS = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
  """What both networks have in common.

  Attributes:
    vocab_size: rows of the embedding; may exceed the vocabulary's own size.
    emb_dim: width of the residual stream.
    num_heads: attention heads.
    head_dim: width of a head; `num_heads * head_dim` need not be `emb_dim`.
    mlp_dim: width of the feed-forward layer.
    mlp_activations: ('gelu', 'linear') is T5 1.1's gated block, ('relu',) T5
      1.0's plain one.
    dropout_rate: of embeddings, block outputs, hidden layers and attention.
    logits_via_embedding: whether the readout is the embedding, transposed and
      scaled by `emb_dim ** -0.5` (T5 1.0), or a matrix of its own.
    dtype: of the activations: 'float32' or 'bfloat16'. Norm statistics,
      attention softmax, logits and losses are fp32 in any case.
    param_dtype: of the parameters.
    allow_float16: whether dtype 'float16' is let through.
    relpos_num_buckets: buckets of the relative position bias.
    relpos_max_distance: distance from which on all share one bucket.
    relpos_bias: 'shared' by all layers of a stack, or 'per_layer' (umT5).
    scan_layers: whether the layers are one `scan` over stacked parameters:
      compiles in constant time, and gives the same numbers.
    remat_policy: what a layer keeps for the backward pass: 'none' is
      everything, 'dots' every matmul's result, 'minimal' those of matmuls with
      parameters, 'full' is full rematerialisation: the layer's input only.
    lora_rank: rank of the adapters on `lora_targets`, 0 for none.
    lora_alpha: adapters are scaled by `lora_alpha / lora_rank`.
    lora_targets: kernels with an adapter; 'wi' means all MLP input kernels.
  """

  vocab_size: int
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  mlp_activations: tuple[str, ...] = ("gelu", "linear")
  dropout_rate: float = 0.0
  logits_via_embedding: bool = False
  dtype: Any = "float32"
  param_dtype: Any = "float32"
  allow_float16: bool = False
  relpos_num_buckets: int = 32
  relpos_max_distance: int = 128
  relpos_bias: str = "shared"
  scan_layers: bool = False
  remat_policy: str = "none"
  lora_rank: int = 0
  lora_alpha: float = 16.0
  lora_targets: tuple[str, ...] = ("query", "value")

  def __post_init__(self):
    # Lists and dtype objects are welcome; the fields become hashable here.
    object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
    object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
    for field in ("dtype", "param_dtype"):
      self._check_dtype(field)
    for field in ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim"):
      self._check(field, getattr(self, field) >= 1, "a positive integer")
    self._check("dropout_rate", 0 <= self.dropout_rate < 1, "in [0, 1)")
    self._check("lora_rank", self.lora_rank >= 0, "0 (none) or a positive rank")
    self._check_names("mlp_activations", tuple(ACTIVATIONS))
    self._check(
      "mlp_activations",
      len(self.mlp_activations) in (1, 2),
      "one name (plain) or two names (gated)",
    )
    self._check_names("lora_targets", LORA_TARGETS)
    self._check_names("remat_policy", REMAT_POLICIES)
    self._check_names("relpos_bias", RELPOS_BIASES)
    buckets = self.relpos_num_buckets
    self._check(
      "relpos_num_buckets",
      buckets >= 4 and buckets % 4 == 0,
      "a multiple of 4 (two directions, exact and coarse halves)",
    )
    self._check(
      "relpos_max_distance",
      self.relpos_max_distance > buckets // 2,
      f"more than relpos_num_buckets / 2 = {buckets // 2}",
    )

  def _check(self, field: str, good: bool, allowed: str) -> None:
    if not good:
      name = type(self).__name__
      raise ValueError(
        f"{name}.{field} = {getattr(self, field)!r}, but it must be "
        f"{allowed}. Change the gin binding `{name}.{field}`."
      )

  def _check_names(self, field: str, allowed: tuple[str, ...]) -> None:
    names = getattr(self, field)
    names = (names,) if isinstance(names, str) else names
    self._check(
      field,
      all(name in allowed for name in names),
      f"out of {', '.join(allowed)}",
    )

  def _check_dtype(self, field: str) -> None:
    try:
      name = jnp.dtype(getattr(self, field)).name
    except TypeError:
      name = str(getattr(self, field))
    object.__setattr__(self, field, name)
    self._check(field, name in _FLOATS, f"out of {', '.join(_FLOATS)}")
    if name == "float16" and not self.allow_float16:
      config = type(self).__name__
      raise ValueError(
        f"{config}.{field} = 'float16': T5's activations overflow fp16 "
        "(the feed-forward layers exceed 65504), which gives NaN losses. "
        f"Set `{config}.{field} = 'bfloat16'`, or, if you know what you "
        f"are doing, `{config}.allow_float16 = True`."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config(NetworkConfig):
  """Sizes and choices of an encoder-decoder; see `NetworkConfig`.

  Attributes:
    num_encoder_layers: layers of the encoder.
    num_decoder_layers: layers of the decoder.
  """

  num_encoder_layers: int
  num_decoder_layers: int

  def __post_init__(self):
    super().__post_init__()
    for field in ("num_encoder_layers", "num_decoder_layers"):
      self._check(field, getattr(self, field) >= 1, "a positive integer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderOnlyConfig(NetworkConfig):
  """Sizes and choices of a decoder-only network; see `NetworkConfig`.

  Attributes:
    num_layers: layers of the decoder.
  """

  num_layers: int

  def __post_init__(self):
    super().__post_init__()
    self._check("num_layers", self.num_layers >= 1, "a positive integer")
