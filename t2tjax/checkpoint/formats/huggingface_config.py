"""`config.json` of Hugging Face's T5 models, both ways.

Used by the importer and the exporter. May import: networks.
"""

from collections.abc import Mapping
from typing import Any

from t2tjax import networks

CLASSES = {
  "t5": "T5ForConditionalGeneration",
  "mt5": "MT5ForConditionalGeneration",
  "umt5": "UMT5ForConditionalGeneration",
}
# Their activation -> ours. Their 'gelu' is the exact one, which no T5 has;
# ours is the tanh approximation, their 'gelu_new'.
_ACTIVATIONS = {
  "relu": "relu",
  "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "silu": "silu",
  "swish": "silu",
  "sigmoid": "sigmoid",
  "tanh": "tanh",
  "linear": "linear",
}
_EPSILON = 1e-6


class UnsupportedError(ValueError):
  """A config that asks for what our networks do not have."""


def check_model_type(fields: Mapping[str, Any]) -> str:
  """Returns 't5', 'mt5' or 'umt5'."""
  model_type = fields.get("model_type")
  if model_type not in CLASSES:
    raise UnsupportedError(
      f"model_type is {model_type!r}; {', '.join(map(repr, CLASSES))} can be"
      " read (T5 1.0 and 1.1, FLAN-T5 and ByT5 are 't5')"
    )
  return model_type


def scales_logits(fields: Mapping[str, Any]) -> bool:
  """Returns whether the readout is scaled by `d_model ** -0.5`.

  T5's original code scales when the readout is the embedding. In the library
  `tie_word_embeddings` stood for both; since its release 5 all models are
  tied unless their file has another readout, T5 remembers the scale on its
  own, mT5 never scales and UMT5 does where it was not told otherwise.
  """
  if fields["model_type"] == "mt5":
    return False
  tied = fields.get("tie_word_embeddings") is not False
  return bool(fields.get("scale_decoder_outputs", tied))


def read(
  fields: Mapping[str, Any], *, vocab_size: int, tied: bool
) -> networks.T5Config:
  """Returns our config.

  Args:
    fields: content of `config.json`.
    vocab_size: rows that the embedding really has.
    tied: whether our readout is to be the embedding.

  Raises:
    UnsupportedError: says what our networks lack.
  """
  model_type = check_model_type(fields)
  num_layers = _required(fields, "num_layers")
  decoder_layers = fields.get("num_decoder_layers")
  epsilon = fields.get("layer_norm_epsilon", _EPSILON)
  if epsilon != _EPSILON:
    raise UnsupportedError(
      f"layer_norm_epsilon is {epsilon}; our networks have {_EPSILON}"
    )
  start, pad = fields.get("decoder_start_token_id"), fields.get("pad_token_id")
  if (0 if start is None else start) or (0 if pad is None else pad):
    raise UnsupportedError(
      f"decoder_start_token_id is {start} and pad_token_id is {pad}; our"
      " decoders start with 0, which also pads"
    )
  return networks.T5Config(
    vocab_size=vocab_size,
    emb_dim=_required(fields, "d_model"),
    num_heads=_required(fields, "num_heads"),
    head_dim=_required(fields, "d_kv"),
    mlp_dim=_required(fields, "d_ff"),
    num_encoder_layers=num_layers,
    num_decoder_layers=num_layers if decoder_layers is None else decoder_layers,
    mlp_activations=_activations(fields),
    logits_via_embedding=tied,
    relpos_num_buckets=fields.get("relative_attention_num_buckets", 32),
    relpos_max_distance=fields.get("relative_attention_max_distance", 128),
    relpos_bias="per_layer" if model_type == "umt5" else "shared",
  )


def _required(fields: Mapping[str, Any], name: str) -> int:
  if not isinstance(fields.get(name), int):
    raise UnsupportedError(f"{name} is {fields.get(name)!r}, not a number")
  return fields[name]


def _activations(fields: Mapping[str, Any]) -> tuple[str, ...]:
  default = "relu" if fields["model_type"] == "t5" else "gated-gelu"
  projection = fields.get("feed_forward_proj", default)
  gate, _, activation = projection.rpartition("-")
  if projection == "gated-gelu":
    activation = "gelu_new"
  # What the library derived when it saved wins over what it derived from.
  activation = fields.get("dense_act_fn", activation)
  gated = fields.get("is_gated_act", gate == "gated")
  if activation not in _ACTIVATIONS or gate not in ("", "gated"):
    raise UnsupportedError(
      f"feed_forward_proj is {projection!r} (dense_act_fn {activation!r});"
      " supported are 'relu', 'gated-gelu' (the tanh approximation,"
      " 'gelu_new'), and, gated or not, "
      + ", ".join(repr(name) for name in _ACTIVATIONS)
    )
  ours = _ACTIVATIONS[activation]
  return (ours, "linear") if gated else (ours,)


def write(config: networks.T5Config, *, dtype: str) -> dict[str, Any]:
  """Returns the content of `config.json` for a network of ours.

  Args:
    config: of the network.
    dtype: of the stored parameters.

  Raises:
    UnsupportedError: if the library has no such network.
  """
  if not isinstance(config, networks.T5Config):
    raise UnsupportedError(
      f"{type(config).__name__} has no counterpart among the T5 models of"
      " transformers, which are encoder-decoders"
    )
  model_type = family(config)
  theirs = {ours: name for name, ours in reversed(_ACTIVATIONS.items())}
  activation, *gate = config.mlp_activations
  if gate not in ([], ["linear"]):
    raise UnsupportedError(
      f"networks.T5Config.mlp_activations = {config.mlp_activations}: in"
      " transformers the second one is 'linear'"
    )
  projection = theirs[activation]
  if gate:
    projection = f"gated-{projection.removesuffix('_new')}"
  return {
    "architectures": [CLASSES[model_type]],
    "model_type": model_type,
    "is_encoder_decoder": True,
    "vocab_size": config.vocab_size,
    "d_model": config.emb_dim,
    "d_kv": config.head_dim,
    "d_ff": config.mlp_dim,
    "num_heads": config.num_heads,
    "num_layers": config.num_encoder_layers,
    "num_decoder_layers": config.num_decoder_layers,
    "feed_forward_proj": projection,
    "dense_act_fn": theirs[activation],
    "is_gated_act": bool(gate),
    "tie_word_embeddings": config.logits_via_embedding,
    "relative_attention_num_buckets": config.relpos_num_buckets,
    "relative_attention_max_distance": config.relpos_max_distance,
    "dropout_rate": config.dropout_rate,
    "layer_norm_epsilon": _EPSILON,
    "torch_dtype": dtype,
    "use_cache": True,
    **token_ids(),
  }


def family(config: networks.T5Config) -> str:
  """Returns the model type that a network of ours becomes.

  mT5 and ByT5 are T5 1.1 in all but their vocabulary, and 't5' is the one
  type that keeps tied and untied readouts apart.
  """
  return "umt5" if config.relpos_bias == "per_layer" else "t5"


def token_ids() -> dict[str, int]:
  """Returns the ids that decoding needs."""
  return {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
