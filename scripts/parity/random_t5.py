"""Random T5 models and batches from numpy seeds, for both sides of a parity.

Needs numpy alone, so that the interpreter of either framework can import it.
"""

from collections.abc import Mapping
from typing import Any
import zlib

import numpy as np

EOS = 1
MAX_NEW_TOKENS = 24

# family -> what config.json says beyond the sizes.
_FAMILIES: dict[str, dict[str, Any]] = {
  "t5_1_0": {"model_type": "t5", "feed_forward_proj": "relu"},
  "t5_1_1": {"model_type": "t5", "feed_forward_proj": "gated-gelu"},
  "mt5": {"model_type": "mt5", "feed_forward_proj": "gated-gelu"},
  "byt5": {"model_type": "t5", "feed_forward_proj": "gated-gelu"},
  "umt5": {"model_type": "umt5", "feed_forward_proj": "gated-gelu"},
}
FAMILIES = tuple(_FAMILIES)

_FIELDS = (
  "d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers",
  "vocab_size",
)  # fmt: skip
_SMALL = {
  "t5_1_0": (512, 64, 2048, 8, 6, 6, 32128),
  "t5_1_1": (512, 64, 1024, 6, 8, 8, 32128),
  "mt5": (512, 64, 1024, 6, 8, 8, 250112),
  "byt5": (1472, 64, 3584, 6, 12, 4, 384),
  "umt5": (512, 64, 1024, 6, 8, 8, 256384),
}
SIZES = ("golden", "d64", "small")

# How outputs are generated, in the words of transformers.
GENERATIONS: dict[str, dict[str, Any]] = {
  "greedy": {"num_beams": 1},
  "beams": {"num_beams": 4},
  "beams_early": {
    "num_beams": 4,
    "early_stopping": True,
    "length_penalty": 2.0,
  },
  "beams_never": {
    "num_beams": 3,
    "early_stopping": "never",
    "length_penalty": 0.5,
  },
}


def fields(family: str, size: str) -> dict[str, Any]:
  """Returns the content of `config.json`."""
  encoder_layers = 4 if family == "byt5" else 2
  numbers = {
    "golden": (32, 8, 48, 4, encoder_layers, 2, 150),
    "d64": (64, 16, 128, 4, encoder_layers, 2, 384),
    "small": _SMALL[family],
  }[size]
  return {
    **_FAMILIES[family],
    **dict(zip(_FIELDS, numbers, strict=True)),
    "tie_word_embeddings": family == "t5_1_0",
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": EOS,
  }


def value(
  name: str, shape: tuple[int, ...], config: Mapping[str, Any]
) -> np.ndarray:
  """Returns a random tensor, by its name in transformers.

  Sharp enough that outputs differ between inputs: logits have a standard
  deviation of 3, and those of EOS more, so that rows end at unequal lengths.
  """
  # Another model for each family, though some have the same names.
  seed = f"{config['model_type']} {config['num_layers']} {name}"
  rng = np.random.default_rng(zlib.crc32(seed.encode()))
  drawn = rng.standard_normal(shape, np.float32)
  if name.endswith("norm.weight"):
    return 1 + drawn * np.float32(0.1)
  if "relative_attention_bias" in name:
    return drawn
  readout = "shared" if config["tie_word_embeddings"] else "lm_head"
  if name == f"{readout}.weight":
    drawn[EOS] *= np.float32(4 if config["tie_word_embeddings"] else 2.5)
    drawn *= np.float32(3)
  if name != "shared.weight":
    drawn *= np.float32(shape[1] ** -0.5)
  if config["tie_word_embeddings"] and name.endswith(
    (".o.weight", ".wo.weight")
  ):
    # Or the embedding of a token would be all that is read out after it.
    drawn *= np.float32(20)
  if name.endswith(".q.weight"):
    drawn *= np.float32(2 * config["d_kv"] ** -0.5)
  return drawn


def batch(config: Mapping[str, Any], size: str) -> dict[str, np.ndarray]:
  """Returns inputs and targets of unequal lengths, padded with 0."""
  rng = np.random.default_rng(0)
  lengths = {
    "inputs": ([3, 17, 9] if size == "golden" else [12, 3, 41, 26, 7]),
    "targets": ([6, 2, 4] if size == "golden" else [5, 11, 2, 8, 3]),
  }
  arrays = {}
  for name, rows in lengths.items():
    tokens = np.zeros((len(rows), max(rows)), np.int64)
    for i, length in enumerate(rows):
      tokens[i, : length - 1] = rng.integers(
        2, config["vocab_size"], length - 1
      )
      tokens[i, length - 1] = EOS
    arrays[name] = tokens
  return arrays


def until_eos(tokens: np.ndarray) -> np.ndarray:
  """Sets what follows the first EOS `[..., length]` to 0."""
  before = np.cumsum(tokens == EOS, axis=-1) - (tokens == EOS)
  tokens = np.where(before == 0, tokens, 0)
  room = MAX_NEW_TOKENS - tokens.shape[-1]
  return np.pad(tokens, [(0, 0)] * (tokens.ndim - 1) + [(0, room)])
