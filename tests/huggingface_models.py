"""Directories as transformers saves T5 models, made with numpy alone.

The tensor names are spelled out here once more, so that the tests do not
compare the table of t2tjax with itself.
"""

import json

import ml_dtypes
import numpy as np
import safetensors.numpy

EMB, HEADS, HEAD_DIM, MLP, BUCKETS = 16, 2, 4, 24, 32

# family -> what config.json says beyond the sizes.
FAMILIES = {
  "t5_1_0": {"model_type": "t5", "feed_forward_proj": "relu"},
  "t5_1_1": {
    "model_type": "t5",
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  },
  "mt5": {
    "model_type": "mt5",
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  },
  "byt5": {
    "model_type": "t5",
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "num_layers": 3,
  },
  "umt5": {
    "model_type": "umt5",
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  },
  "umt5_tied": {"model_type": "umt5", "feed_forward_proj": "gated-gelu"},
}


def fields(family, **changes):
  """Returns the content of config.json."""
  return {
    "d_model": EMB,
    "d_kv": HEAD_DIM,
    "d_ff": MLP,
    "num_heads": HEADS,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "vocab_size": 40,
    "relative_attention_num_buckets": BUCKETS,
    "layer_norm_epsilon": 1e-6,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    **FAMILIES[family],
    **changes,
  }


def tensors(config, *, seed=0, dtype="float32"):
  """Returns random tensors by transformers' names."""
  rng = np.random.default_rng(seed)
  found = {}
  dtype = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
  emb, mlp = config["d_model"], config["d_ff"]
  joined = config["num_heads"] * config["d_kv"]

  def add(name, *shape):
    found[f"{name}.weight"] = rng.normal(size=shape).astype(dtype)

  def add_attention(prefix):
    for letter in "qkv":
      add(f"{prefix}.{letter}", joined, emb)
    add(f"{prefix}.o", emb, joined)

  add("shared", config["vocab_size"], emb)
  for stack, count in (
    ("encoder", config["num_layers"]),
    ("decoder", config["num_decoder_layers"]),
  ):
    for i in range(count):
      block = f"{stack}.block.{i}.layer"
      add_attention(f"{block}.0.SelfAttention")
      if i == 0 or config["model_type"] == "umt5":
        add(
          f"{block}.0.SelfAttention.relative_attention_bias",
          BUCKETS,
          config["num_heads"],
        )
      add(f"{block}.0.layer_norm", emb)
      last = 1 if stack == "encoder" else 2
      if last == 2:
        add_attention(f"{block}.1.EncDecAttention")
        add(f"{block}.1.layer_norm", emb)
      gated = config["feed_forward_proj"].startswith("gated")
      for kernel in ("wi_0", "wi_1") if gated else ("wi",):
        add(f"{block}.{last}.DenseReluDense.{kernel}", mlp, emb)
      add(f"{block}.{last}.DenseReluDense.wo", emb, mlp)
      add(f"{block}.{last}.layer_norm", emb)
    add(f"{stack}.final_layer_norm", emb)
  if config.get("tie_word_embeddings") is False:
    add("lm_head", config["vocab_size"], emb)
  return found


def write(directory, config, arrays, *, num_files=1):
  """Writes a directory, with an index if there are several files."""
  directory.mkdir(parents=True, exist_ok=True)
  (directory / "config.json").write_text(json.dumps(config))
  if num_files == 1:
    safetensors.numpy.save_file(arrays, directory / "model.safetensors")
    return directory
  weight_map = {}
  for i in range(num_files):
    file = f"model-{i + 1:05}-of-{num_files:05}.safetensors"
    part = {name: arrays[name] for name in sorted(arrays)[i::num_files]}
    safetensors.numpy.save_file(part, directory / file)
    weight_map |= dict.fromkeys(part, file)
  (directory / "model.safetensors.index.json").write_text(
    json.dumps({"metadata": {}, "weight_map": weight_map})
  )
  return directory


def make(directory, family, *, seed=0, dtype="float32", **changes):
  """Writes a random model and returns its tensors."""
  config = fields(family, **changes)
  arrays = tensors(config, seed=seed, dtype=dtype)
  write(directory, config, arrays)
  return arrays


def make_small(directory):
  """Writes a T5 1.1 small, 77 million parameters; returns its bytes."""
  config = fields(
    "t5_1_1", d_model=512, d_kv=64, num_heads=6, d_ff=1024,
    num_layers=8, num_decoder_layers=8,
  )  # fmt: skip
  arrays = tensors(config)
  config["vocab_size"] = 32128
  for name in ("shared.weight", "lm_head.weight"):
    arrays[name] = np.ones((32128, 512), np.float32)
  write(directory, config, arrays)
  return sum(array.nbytes for array in arrays.values())
