"""Mistakes in a config are refused with the binding to change."""

import jax.numpy as jnp
import pytest

from t2tjax import networks

SIZES = dict(
  vocab_size=40,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=24,
  num_encoder_layers=2,
  num_decoder_layers=2,
)


def test_fp16_is_refused_with_the_reason_unless_asked_for():
  with pytest.raises(ValueError, match="overflow fp16.*allow_float16 = True"):
    networks.T5Config(**SIZES, dtype="float16")
  config = networks.T5Config(**SIZES, dtype="float16", allow_float16=True)
  assert config.dtype == "float16"


def test_dtype_objects_and_lists_are_welcome_and_hashable():
  config = networks.T5Config(
    **SIZES, dtype=jnp.bfloat16, mlp_activations=["gelu", "linear"]
  )
  assert config.dtype == "bfloat16"
  assert config == networks.T5Config(**SIZES, dtype="bfloat16")
  hash(config)


@pytest.mark.parametrize(
  "field,value",
  [
    ("emb_dim", 0),
    ("dropout_rate", 1.0),
    ("dtype", "int32"),
    ("mlp_activations", ("gelo",)),
    ("remat_policy", "some"),
    ("relpos_bias", "none"),
    ("relpos_num_buckets", 6),
    ("relpos_max_distance", 16),
    ("lora_targets", ("mlp",)),
    ("num_decoder_layers", 0),
  ],
)
def test_a_wrong_value_is_named_with_its_binding(field, value):
  with pytest.raises(ValueError, match=f"binding `T5Config.{field}`"):
    networks.T5Config(**{**SIZES, field: value})
