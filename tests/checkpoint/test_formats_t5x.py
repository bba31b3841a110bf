"""T5X checkpoints, written by hand as T5X does and by our writer."""

from flax import serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from t2tjax import networks, optim, state
from t2tjax.checkpoint import formats
from t2tjax.checkpoint.formats import t5x, t5x_writer
from t2tjax.trees import named_leaves

SIZES = dict(emb_dim=24, num_heads=2, head_dim=8, mlp_dim=40, vocab_size=32)


def unrolled_shapes(**overrides):
  config = networks.T5Config(
    **SIZES, num_encoder_layers=2, num_decoder_layers=3, **overrides
  )
  tokens = jnp.ones((1, 4), jnp.int32)
  boxed = jax.eval_shape(
    lambda: networks.EncoderDecoder(config).init(
      jax.random.key(0), tokens, tokens
    )
  )
  params = state.train_state.unbox(boxed["params"])
  axes = jax.tree.map(lambda leaf: (None,) * leaf.ndim, params)
  optimizer = optim.Adafactor(beta1=0.9, min_dim_size_to_factor=8)
  opt_state = jax.eval_shape(lambda p: optimizer.init(p, axes), params)
  return config, dict(named_leaves(params)), dict(named_leaves(opt_state))


class Random(formats.Source):
  """A source of random arrays."""

  format = "random"

  def __init__(self, config, shapes, opt_shapes=None):
    self.path, self.description, self.step = "random", "random", 7
    self.config, self.shapes = config, shapes
    self.opt_state_source = opt_shapes and Random(config, opt_shapes)

  def read(self, name):
    seed = sum(map(ord, name))
    shape = self.shapes[name].shape
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_same(found, expected):
  assert set(found.shapes) == set(expected.shapes)
  for name in expected.shapes:
    assert found.shapes[name].shape == expected.shapes[name].shape
    np.testing.assert_array_equal(found.read(name), expected.read(name), name)


@pytest.mark.parametrize("inline", [0, 2**16], ids=["zarr", "inline"])
@pytest.mark.parametrize("bias", ["shared", "per_layer"])
def test_what_is_written_is_read_with_the_optimizer_state(
  tmp_path, monkeypatch, bias, inline
):
  monkeypatch.setattr(t5x_writer, "_INLINE_BYTES", inline)
  source = Random(*unrolled_shapes(relpos_bias=bias))
  t5x_writer.write(tmp_path, source)
  found = formats.open_source(tmp_path)
  assert (found.format, found.step, found.notes) == ("t5x", 7, [])
  assert_same(found, source)
  assert_same(found.opt_state_source, source.opt_state_source)
  formats.check_config(found, source.config)
  assert found.config.scan_layers == (bias == "per_layer")


def test_scalable_t5_has_layers_at_axis_1_and_heads_apart(tmp_path):
  source = Random(*unrolled_shapes(relpos_bias="per_layer"))
  t5x_writer.write(tmp_path, source)
  content = serialization.msgpack_restore(
    (tmp_path / "checkpoint_7" / "checkpoint").read_bytes()
  )
  assert content["version"] == 3
  decoder = content["optimizer"]["target"]["decoder"]["decoder"]
  query = decoder["self_attention"]["query"]["kernel"]
  assert query.shape == (24, 3, 2, 8)
  np.testing.assert_array_equal(
    query[:, 1].reshape(24, 16),
    source.read("decoder/layers_1/self_attention/query/kernel"),
  )
  states = content["optimizer"]["state"]["param_states"]["decoder"]["decoder"]
  slots = states["self_attention"]["query"]["kernel"]
  # T5X's row is the residual stream, here the larger dimension; ours the
  # smaller.
  assert slots["v_row"].shape == (24, 3)
  assert slots["v_col"].shape == (3, 2, 8)
  assert slots["v"].shape == (1,)
  np.testing.assert_array_equal(
    slots["v_row"][:, 2],
    source.opt_state_source.read(
      "decoder/layers_2/self_attention/query/kernel/v_col"
    ),
  )


def write_by_hand(directory, spec, *, version=3, name="embedding"):
  """Writes one array, which lies at `target.x`, under a TensorStore spec."""
  directory.mkdir()
  array = np.arange(12, dtype=np.float32).reshape(3, 4)
  tensorstore.open(
    {
      "driver": "zarr",
      "kvstore": {"driver": "file", "path": str(directory / "target.x")},
      "metadata": {"shape": [3, 4], "dtype": "<f4", "chunks": [2, 4]},
    },
    create=True,
  ).result().write(array).result()
  spec = {
    "driver": "zarr",
    "metadata": {"shape": [3, 4], "dtype": "<f4"},
    **spec,
  }
  tree = {
    "version": version,
    "optimizer": {
      "state": {"step": np.int32(5)},
      "target": {"token_embedder": {name: spec}},
    },
  }
  (directory / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
  return array


@pytest.mark.parametrize(
  "spec",
  [
    {"kvstore": {"driver": "file", "path": "target.x"}},
    {"kvstore": {"driver": "gfile", "path": "target.x/"}},
    {"kvstore": {"driver": "gcs", "bucket": "a", "path": "target.x"}},
    {"kvstore": {"driver": "gcs", "bucket": "a"}, "path": "target.x"},
    {"kvstore": {"driver": "file", "path": "/elsewhere/target.x"}},
  ],
)
def test_arrays_are_looked_for_beside_the_file(tmp_path, spec):
  array = write_by_hand(tmp_path / "checkpoint_5", spec)
  source = formats.open_source(tmp_path)
  assert source.step == 5
  assert source.opt_state_source is None
  np.testing.assert_array_equal(source.read("token_embedder/embedding"), array)


def test_a_path_that_leads_out_of_the_checkpoint_is_refused(tmp_path):
  spec = {"kvstore": {"driver": "file", "path": "../target.x"}}
  write_by_hand(tmp_path / "checkpoint_5", spec)
  with pytest.raises(ValueError, match="refused"):
    formats.open_source(tmp_path).read("token_embedder/embedding")


def test_old_versions_tensorflow_files_and_garbage_are_refused(tmp_path):
  spec = {"kvstore": {"driver": "file", "path": "target.x"}}
  write_by_hand(tmp_path / "checkpoint_1", spec, version=1)
  with pytest.raises(ValueError, match="version 1"):
    formats.open_source(tmp_path)
  for content, message in (
    (b'model_checkpoint_path: "model.ckpt-1"', "convert_tf_checkpoint"),
    (b"\xc1 no msgpack", "damaged or no msgpack"),
  ):
    (tmp_path / "checkpoint_1" / "checkpoint").write_bytes(content)
    with pytest.raises(ValueError, match=message):
      formats.open_source(tmp_path)


def test_the_state_of_another_optimizer_is_left_out_with_words(tmp_path):
  source = Random(*unrolled_shapes())
  t5x_writer.write(tmp_path, source)
  file = tmp_path / "checkpoint_7" / "checkpoint"
  content = serialization.msgpack_restore(file.read_bytes())
  content["optimizer"]["state"]["param_states"] = {"0": {"mu": np.ones(2)}}
  file.write_bytes(serialization.msgpack_serialize(content))
  found = formats.open_source(tmp_path)
  assert found.opt_state_source is None
  assert "not that of T5X's Adafactor" in found.notes[0]
  assert_same(found, source)


def test_arrays_above_flax_chunk_size_are_read(tmp_path, monkeypatch):
  monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 100)
  source = Random(*unrolled_shapes())
  t5x_writer.write(tmp_path, source)
  assert_same(t5x.T5XSource(tmp_path / "checkpoint_7"), source)
