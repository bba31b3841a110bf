"""Reading models of transformers: names, tying, rows, refusals, memory."""

import dataclasses
import json

from absl import logging
from flax.core import meta
import huggingface_models
import jax
import jax.numpy as jnp
import numpy as np
import peak_memory
import pytest
import safetensors.numpy

from t2tjax import checkpoint, networks, partitioning, trees
from t2tjax.checkpoint import formats

FAMILIES = list(huggingface_models.FAMILIES)
# Ours -> theirs, by hand, for one tensor of every kind.
EXAMPLES = {
  "encoder/layers_1/attention/query/kernel": (
    "encoder.block.1.layer.0.SelfAttention.q.weight"
  ),
  "decoder/layers_0/self_attention/out/kernel": (
    "decoder.block.0.layer.0.SelfAttention.o.weight"
  ),
  "decoder/layers_1/encoder_decoder_attention/key/kernel": (
    "decoder.block.1.layer.1.EncDecAttention.k.weight"
  ),
  "decoder/layers_1/mlp/wo/kernel": (
    "decoder.block.1.layer.2.DenseReluDense.wo.weight"
  ),
  "encoder/layers_0/pre_mlp_layer_norm/scale": (
    "encoder.block.0.layer.1.layer_norm.weight"
  ),
  "decoder/layers_1/pre_cross_attention_layer_norm/scale": (
    "decoder.block.1.layer.1.layer_norm.weight"
  ),
  "decoder/decoder_norm/scale": "decoder.final_layer_norm.weight",
}


def abstract_params(config):
  module = networks.EncoderDecoder(config)
  tokens = jnp.ones((1, 4), jnp.int32)
  return meta.unbox(
    jax.eval_shape(
      lambda: module.init(jax.random.key(0), tokens, tokens)["params"]
    )
  )


def restore(path, **changes):
  """Returns named parameters of the network that the directory describes."""
  source = formats.open_source(path)
  config = dataclasses.replace(source.config, **changes)
  params = checkpoint.restore_params(path, abstract_params(config))
  return dict(trees.named_leaves(params))


@pytest.fixture
def warnings(monkeypatch):
  said = []
  monkeypatch.setattr(
    logging, "warning", lambda text, *args: said.append(text % args)
  )
  return said


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_becomes_the_parameter_of_its_name(tmp_path, family):
  theirs = huggingface_models.make(tmp_path, family)
  ours = restore(tmp_path)
  assert len(ours) == len(theirs)
  for name, their_name in EXAMPLES.items():
    np.testing.assert_array_equal(ours[name], theirs[their_name].T)
  np.testing.assert_array_equal(
    ours["token_embedder/embedding"], theirs["shared.weight"]
  )
  bias = theirs[
    "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
  ]
  per_layer = family.startswith("umt5")
  name = "layers_0/relpos_bias" if per_layer else "relpos_bias"
  np.testing.assert_array_equal(ours[f"decoder/{name}/rel_embedding"], bias.T)
  # Each of theirs is one of ours, no two the same.
  values = {np.sort(np.asarray(x), axis=None).tobytes() for x in ours.values()}
  assert values == {np.sort(x, axis=None).tobytes() for x in theirs.values()}


@pytest.mark.parametrize("family", FAMILIES)
def test_scanned_layers_are_the_unrolled_ones_in_order(tmp_path, family):
  huggingface_models.make(tmp_path, family)
  unrolled, scanned = restore(tmp_path), restore(tmp_path, scan_layers=True)
  for name, array in scanned.items():
    if "/layers/" in name:
      for i, layer in enumerate(array):
        part = unrolled[name.replace("/layers/", f"/layers_{i}/")]
        np.testing.assert_array_equal(layer, part)
    else:
      np.testing.assert_array_equal(array, unrolled[name])


def test_parameters_are_placed_as_the_mesh_wants(tmp_path):
  huggingface_models.make(tmp_path, "t5_1_1")
  source = formats.open_source(tmp_path)
  config = dataclasses.replace(source.config, scan_layers=True)
  partitioner = partitioning.Partitioner(
    preset="fsdp+tensor", mesh_shape={"fsdp": 4, "model": 2}
  )
  module = networks.EncoderDecoder(config)
  tokens = jnp.ones((1, 4), jnp.int32)
  boxed = jax.eval_shape(
    lambda: module.init(jax.random.key(0), tokens, tokens)["params"]
  )
  axes = jax.tree.map(
    lambda box: tuple(box.names),
    boxed,
    is_leaf=lambda x: isinstance(x, meta.AxisMetadata),
  )
  abstract = meta.unbox(boxed)
  shardings = partitioner.shardings(axes, abstract)
  placed = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    abstract,
    shardings,
  )
  params = checkpoint.restore_params(tmp_path, placed)
  assert jax.tree.map(lambda x: x.sharding, params) == shardings
  assert any(
    not x.sharding.is_fully_replicated for x in jax.tree.leaves(params)
  )
  expected = restore(tmp_path, scan_layers=True)
  for name, array in trees.named_leaves(params):
    np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read_exactly_and_kept_if_asked(tmp_path, dtype):
  theirs = huggingface_models.make(tmp_path, "t5_1_1", dtype=dtype)
  wide = restore(tmp_path)["decoder/layers_1/mlp/wo/kernel"]
  stored = theirs[EXAMPLES["decoder/layers_1/mlp/wo/kernel"]].T
  assert wide.dtype == jnp.float32
  np.testing.assert_array_equal(wide, stored.astype(np.float32))
  config = formats.open_source(tmp_path).config
  narrow = checkpoint.restore_params(
    tmp_path, abstract_params(config), dtype=dtype
  )
  assert {x.dtype for x in jax.tree.leaves(narrow)} == {jnp.dtype(dtype)}


def test_files_with_an_index_are_one_model(tmp_path):
  config = huggingface_models.fields("mt5")
  arrays = huggingface_models.tensors(config)
  huggingface_models.write(tmp_path / "one", config, arrays)
  parted = huggingface_models.write(
    tmp_path / "parts", config, arrays, num_files=3
  )
  one, parts = restore(tmp_path / "one"), restore(parted)
  for name, array in one.items():
    np.testing.assert_array_equal(array, parts[name])
  (parted / "model-00002-of-00003.safetensors").unlink()
  with pytest.raises(ValueError, match="model-00002-of-00003.*not there"):
    formats.open_source(parted)


# model type, what config.json says, which readout is stored -> our tying, and
# what a readout of our own is times. transformers 5.23, run beside, gives the
# same logits, but for the one that is marked.
@pytest.mark.parametrize(
  ("model_type", "says", "stored", "tied", "scale"),
  [
    ("t5", {}, "none", True, None),
    ("t5", {"tie_word_embeddings": True}, "copy", True, None),
    ("t5", {"tie_word_embeddings": True}, "own", False, 0.25),
    ("t5", {"tie_word_embeddings": False}, "own", False, 1.0),
    ("t5", {"tie_word_embeddings": False}, "copy", False, 1.0),
    ("t5", {"tie_word_embeddings": False}, "none", False, 1.0),
    # As release 5 saves every model.
    (
      "t5",
      {"tie_word_embeddings": True, "scale_decoder_outputs": False},
      "own",
      False,
      1.0,
    ),
    ("mt5", {"tie_word_embeddings": False}, "own", False, 1.0),
    ("mt5", {"tie_word_embeddings": True}, "own", False, 1.0),
    ("mt5", {"tie_word_embeddings": True}, "none", False, 1.0),
    # Google's checkpoints: release 5 scales, T5X and release 4 do not.
    ("umt5", {"tie_word_embeddings": False}, "own", False, 1.0),
    ("umt5", {"tie_word_embeddings": True}, "own", False, 0.25),
    ("umt5", {"tie_word_embeddings": True}, "none", True, None),
  ],
)
def test_readout_is_tied_and_scaled_as_transformers_does(
  tmp_path, model_type, says, stored, tied, scale
):
  family = {"t5": "t5_1_0", "mt5": "mt5", "umt5": "umt5_tied"}[model_type]
  config = huggingface_models.fields(family)
  config.pop("tie_word_embeddings", None)
  arrays = huggingface_models.tensors(config)
  readout = arrays["shared.weight"]
  if stored != "none":
    if stored == "own":
      readout = readout[::-1].copy()
    arrays["lm_head.weight"] = readout
  huggingface_models.write(tmp_path, {**config, **says}, arrays)
  source = formats.open_source(tmp_path)
  assert source.config.logits_via_embedding == tied
  params = restore(tmp_path)
  assert ("decoder/logits_dense/kernel" in params) == (not tied)
  if not tied:
    np.testing.assert_array_equal(
      params["decoder/logits_dense/kernel"], readout.T * np.float32(scale)
    )


def test_copies_of_the_embedding_are_one_embedding_or_refused(tmp_path):
  config = huggingface_models.fields("t5_1_0")
  arrays = huggingface_models.tensors(config)
  shared = arrays["shared.weight"]
  unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias"
  arrays |= {
    "encoder.embed_tokens.weight": shared,
    "decoder.embed_tokens.weight": shared,
    f"{unused}.weight": np.zeros((32, 2), np.float32),
  }
  huggingface_models.write(tmp_path / "all", config, arrays)
  del arrays["shared.weight"]
  huggingface_models.write(tmp_path / "copies", config, arrays)
  for name in ("all", "copies"):
    embedding = restore(tmp_path / name)["token_embedder/embedding"]
    np.testing.assert_array_equal(embedding, shared)
  arrays["decoder.embed_tokens.weight"] = shared + 1
  huggingface_models.write(tmp_path / "two", config, arrays)
  with pytest.raises(ValueError, match="differs from"):
    formats.open_source(tmp_path / "two")


@pytest.mark.parametrize("rows", [36, 48])
def test_vocabulary_rows_are_padded_or_cut_and_it_is_said(
  tmp_path, warnings, rows
):
  theirs = huggingface_models.make(tmp_path, "t5_1_1")
  ours = restore(tmp_path, vocab_size=rows)
  for name, array in (
    ("token_embedder/embedding", theirs["shared.weight"]),
    ("decoder/logits_dense/kernel", theirs["lm_head.weight"]),
  ):
    expected = np.concatenate([array, np.repeat(array[:1], 8, axis=0)])[:rows]
    found = ours[name] if "embedding" in name else ours[name].T
    np.testing.assert_array_equal(found, expected)
  verb = "cut" if rows < 40 else "padded"
  assert sum(f"40 vocabulary rows {verb} to {rows}" in w for w in warnings) == 2


def test_padding_rows_have_the_logit_of_the_padding(tmp_path):
  huggingface_models.make(tmp_path, "t5_1_0")
  config = dataclasses.replace(
    formats.open_source(tmp_path).config, vocab_size=48
  )
  params = checkpoint.restore_params(tmp_path, abstract_params(config))
  tokens = jnp.arange(2, 8, dtype=jnp.int32)[None]
  logits = networks.EncoderDecoder(config).apply(
    {"params": params}, tokens, tokens
  )
  np.testing.assert_array_equal(
    logits[..., 40:], np.repeat(logits[..., :1], 8, axis=-1)
  )


def test_another_vocabulary_is_no_padding(tmp_path):
  huggingface_models.make(tmp_path, "t5_1_1")
  with pytest.raises(ValueError, match=r"stored \[40, 16\]"):
    restore(tmp_path, vocab_size=4000)


def test_a_config_of_another_size_names_the_bindings_and_reads_nothing(
  tmp_path, monkeypatch
):
  huggingface_models.make(tmp_path, "t5_1_1")
  source = formats.open_source(tmp_path)
  monkeypatch.setattr(type(source), "read", lambda *_: pytest.fail("read"))
  given = dataclasses.replace(
    source.config, emb_dim=32, mlp_activations=("relu",), scan_layers=True
  )
  with pytest.raises(ValueError) as error:
    checkpoint.check_config(source, given)
  message = str(error.value)
  assert "networks.T5Config.emb_dim = 32; the checkpoint has 16" in message
  assert "networks.T5Config.mlp_activations" in message
  assert "scan_layers" not in message
  assert "num_heads" not in message
  checkpoint.check_config(
    source, dataclasses.replace(source.config, scan_layers=True)
  )


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"model_type": "longt5"}, "model_type is 'longt5'"),
    ({"feed_forward_proj": "gelu"}, "feed_forward_proj is 'gelu'"),
    ({"feed_forward_proj": "gated-mish"}, "feed_forward_proj is 'gated-mish'"),
    ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05"),
    ({"decoder_start_token_id": 2}, "decoder_start_token_id is 2"),
    ({"num_decoder_layers": 3}, "missing decoder.block.2"),
    ({"num_layers": 1}, "unknown encoder.block.1"),
    ({"d_model": None}, "d_model is None"),
  ],
)
def test_what_our_networks_lack_is_refused_by_name(tmp_path, changes, said):
  config = huggingface_models.fields("t5_1_1")
  arrays = huggingface_models.tensors(config)
  huggingface_models.write(tmp_path, {**config, **changes}, arrays)
  with pytest.raises(ValueError, match=said):
    formats.open_source(tmp_path)


@pytest.mark.parametrize(
  ("files", "said"),
  [
    (["config.json", "pytorch_model.bin"], "runs whatever code is in it"),
    (["pytorch_model.bin.index.json"], "safe_serialization=True"),
    (["config.json", "tf_model.h5"], "not in the safetensors format"),
    (["config.json"], "has a config.json but no model.safetensors"),
    (["adapter_config.json", "adapter_model.safetensors"], "merge_and_unload"),
  ],
)
def test_directories_that_cannot_be_read_say_what_to_do(tmp_path, files, said):
  for name in files:
    (tmp_path / name).write_text("{}")
  with pytest.raises(ValueError, match=said):
    formats.open_source(tmp_path)


def test_damaged_and_quantized_files_are_refused(tmp_path):
  config = huggingface_models.fields("t5_1_1")
  arrays = huggingface_models.tensors(config)
  arrays["shared.weight"] = arrays["shared.weight"].astype(np.int8)
  huggingface_models.write(tmp_path / "int8", config, arrays)
  with pytest.raises(ValueError, match=r"shared\.weight as I8"):
    formats.open_source(tmp_path / "int8")
  huggingface_models.make(tmp_path / "cut", "t5_1_1")
  file = tmp_path / "cut" / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(ValueError, match="is damaged"):
    formats.open_source(tmp_path / "cut")


def test_other_paths_are_left_to_others(tmp_path):
  assert formats.open_source(tmp_path) is None
  assert formats.open_source(tmp_path / "nowhere") is None
  (tmp_path / "checkpoint_3" / "state").mkdir(parents=True)
  (tmp_path / "checkpoint_3" / "metadata.json").write_text("{}")
  assert formats.open_source(tmp_path) is None


def test_identity_changes_with_the_weights(tmp_path):
  huggingface_models.make(tmp_path, "t5_1_1")
  before = formats.open_source(tmp_path).identity
  assert formats.open_source(tmp_path).identity == before
  (tmp_path / "README.md").write_text("of no matter")
  assert formats.open_source(tmp_path).identity == before
  huggingface_models.make(tmp_path, "t5_1_1", d_ff=32)
  assert formats.open_source(tmp_path).identity != before


def test_renamed_and_missing_parameters_are_as_for_our_own(tmp_path):
  theirs = huggingface_models.make(tmp_path, "t5_1_0")
  config = dataclasses.replace(
    formats.open_source(tmp_path).config, num_decoder_layers=3
  )
  abstract = abstract_params(config)
  with pytest.raises(ValueError, match="not stored: decoder/layers_2"):
    checkpoint.restore_params(tmp_path, abstract)
  params = checkpoint.restore_params(
    tmp_path,
    abstract,
    assignment_map=[(r"decoder/layers_2/(.*)", r"decoder/layers_0/\1")],
  )
  np.testing.assert_array_equal(
    params["decoder"]["layers_2"]["mlp"]["wo"]["kernel"],
    theirs["decoder.block.0.layer.2.DenseReluDense.wo.weight"].T,
  )


_RESTORE_TWO = """
import sys
import peak_memory
import test_formats_huggingface as tests

tests.restore(sys.argv[1], scan_layers=True)  # Compiles and imports.
with peak_memory.Watch() as watch:
  params = tests.restore(sys.argv[2], scan_layers=True)
print(watch.increase / sum(x.nbytes for x in params.values()))
"""


def test_reading_300_mb_takes_less_than_half_as_much_again(tmp_path):
  huggingface_models.make(tmp_path / "tiny", "t5_1_1")
  num_bytes = huggingface_models.make_small(tmp_path / "small")
  assert num_bytes > 300e6
  ratio = float(
    peak_memory.printed_by(_RESTORE_TWO, tmp_path / "tiny", tmp_path / "small")
  )
  assert 0.9 < ratio < 1.5


def test_files_of_ours_are_read_by_the_package(tmp_path):
  from t2tjax.checkpoint.formats import safetensors_files

  rng = np.random.default_rng(0)
  arrays = {
    "a": rng.normal(size=(3, 5)).astype(np.float32),
    "b": rng.normal(size=(7,)).astype(jnp.bfloat16),
    "c": rng.normal(size=(2, 2)).astype(np.float16),
  }
  shapes = {
    n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in arrays.items()
  }
  safetensors_files.write(
    tmp_path, shapes, arrays.__getitem__, max_shard_bytes=80
  )
  index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
  assert len(set(index["weight_map"].values())) == 2
  for name, file in index["weight_map"].items():
    found = safetensors.numpy.load_file(tmp_path / file)[name]
    assert found.dtype == arrays[name].dtype
    np.testing.assert_array_equal(found, arrays[name])
