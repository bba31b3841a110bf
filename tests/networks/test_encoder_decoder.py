"""What must hold for the encoder-decoder, as properties."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import networks, trees

CONFIG = networks.T5Config(
  vocab_size=40,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=24,
  num_encoder_layers=2,
  num_decoder_layers=3,
)
BATCH, INPUTS, TARGETS = 3, 7, 5
AXES = {
  "vocab",
  "embed",
  "heads",
  "joined_kv",
  "mlp",
  "layers",
  "relpos_buckets",
  "lora_rank",
}


def _network(**overrides):
  return networks.EncoderDecoder(dataclasses.replace(CONFIG, **overrides))


def _tokens(batch=BATCH, inputs=INPUTS, targets=TARGETS):
  rng = np.random.default_rng(0)
  encoder = rng.integers(1, CONFIG.vocab_size, (batch, inputs))
  decoder = rng.integers(1, CONFIG.vocab_size, (batch, targets))
  decoder[:, 0] = 0
  return encoder.astype("int32"), decoder.astype("int32")


@functools.cache
def _boxed(network):
  return jax.jit(network.init)(jax.random.key(0), *_tokens())["params"]


def _params(network):
  return nn.unbox(_boxed(network))


def _stacked(params):
  """Stacks `layers_i` at axis 0, as a scanned network keeps them."""
  params = jax.tree.map(lambda x: x, params)
  for side in ("encoder", "decoder"):
    names = sorted(n for n in params[side] if n.startswith("layers_"))
    layers = [params[side].pop(name) for name in names]
    params[side]["layers"] = jax.tree.map(lambda *x: jnp.stack(x), *layers)
  return params


def _apply(network, params, *args, **kwargs):
  # Compiled as a whole: much quicker than one operation at a time.
  apply = jax.jit(lambda p: network.apply({"params": p}, *args, **kwargs))
  return apply(params)


def test_t5_1_1_base_has_its_published_number_of_parameters():
  network = networks.EncoderDecoder(
    networks.T5Config(
      vocab_size=32128,
      emb_dim=768,
      num_heads=12,
      head_dim=64,
      mlp_dim=2048,
      num_encoder_layers=12,
      num_decoder_layers=12,
    )
  )
  tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  abstract = jax.eval_shape(network.init, jax.random.key(0), tokens, tokens)
  assert trees.num_elements(abstract) == 247_577_856


def test_parameters_have_the_names_of_t5x():
  names = {name for name, _ in trees.named_leaves(_params(_network()))}
  encoder_layer = {
    *(f"attention/{n}/kernel" for n in ("query", "key", "value", "out")),
    *(f"mlp/{n}/kernel" for n in ("wi_0", "wi_1", "wo")),
    "pre_attention_layer_norm/scale",
    "pre_mlp_layer_norm/scale",
  }
  decoder_layer = {
    *(f"self_attention/{n}/kernel" for n in ("query", "key", "value", "out")),
    *(
      f"encoder_decoder_attention/{n}/kernel"
      for n in ("query", "key", "value", "out")
    ),
    *(f"mlp/{n}/kernel" for n in ("wi_0", "wi_1", "wo")),
    "pre_self_attention_layer_norm/scale",
    "pre_cross_attention_layer_norm/scale",
    "pre_mlp_layer_norm/scale",
  }
  assert names == {
    "token_embedder/embedding",
    "encoder/relpos_bias/rel_embedding",
    "encoder/encoder_norm/scale",
    *(f"encoder/layers_{i}/{n}" for i in range(2) for n in encoder_layer),
    "decoder/relpos_bias/rel_embedding",
    "decoder/decoder_norm/scale",
    *(f"decoder/layers_{i}/{n}" for i in range(3) for n in decoder_layer),
    "decoder/logits_dense/kernel",
  }


@pytest.mark.parametrize("scan_layers", [False, True])
def test_every_dimension_of_every_parameter_has_a_logical_axis(scan_layers):
  network = _network(
    scan_layers=scan_layers, lora_rank=2, relpos_bias="per_layer"
  )
  boxes = jax.tree.leaves(
    _boxed(network), is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
  )
  for box in boxes:
    assert isinstance(box, nn.LogicallyPartitioned)
    assert len(box.names) == box.value.ndim
    assert set(box.names) <= AXES
  assert any(box.names[0] == "layers" for box in boxes) == scan_layers


def test_no_target_position_depends_on_a_later_one():
  network = _network()
  params = _params(network)
  encoder, decoder = _tokens(batch=1)

  def hidden(vectors):
    def embed(next_fn, args, kwargs, context):
      is_embedder = context.module.name == "token_embedder"
      if is_embedder and context.method_name == "__call__":
        if args[0].shape[1] == TARGETS:
          return vectors
      return next_fn(*args, **kwargs)

    with nn.intercept_methods(embed):
      return _apply(network, params, encoder, decoder, method="hidden")

  vectors = jax.random.normal(jax.random.key(1), (1, TARGETS, CONFIG.emb_dim))
  jacobian = jax.jit(jax.jacrev(lambda v: hidden(v).sum((0, 2))))(vectors)
  influence = np.abs(jacobian).sum((1, 3))  # [output, input]
  assert (influence[np.triu_indices(TARGETS, 1)] == 0).all()
  assert (influence[np.tril_indices(TARGETS)] > 0).all()


def test_packed_examples_give_the_logits_of_separate_rows():
  network = _network()
  params = _params(network)
  encoder, decoder = _tokens(batch=2)
  separate = _apply(network, params, encoder, decoder)

  def pack(rows, value=None):
    values = rows if value is None else np.full_like(rows, value)
    return np.concatenate([*values, np.zeros(2, "int32")])[None]

  def packed(encoder, decoder):
    def segments(rows):
      ids = np.arange(1, len(rows) + 1)[:, None].astype("int32")
      return pack(np.broadcast_to(ids, rows.shape))

    logits = _apply(
      network,
      params,
      pack(encoder),
      pack(decoder),
      encoder_segment_ids=segments(encoder),
      decoder_segment_ids=segments(decoder),
    )
    return logits[0, : 2 * TARGETS].reshape(2, TARGETS, -1)

  together = packed(encoder, decoder)
  np.testing.assert_allclose(together, separate, rtol=1e-4, atol=1e-5)
  # Change the first example, its inputs and its targets: the second must not
  # move by a bit.
  changed = packed(
    np.stack([encoder[0, ::-1], encoder[1]]),
    np.stack([decoder[0, ::-1], decoder[1]]),
  )
  np.testing.assert_array_equal(changed[1], together[1])
  assert (np.abs(changed[0] - together[0]) > 1e-3).any()


def test_segment_ids_come_in_pairs():
  network = _network()
  encoder, decoder = _tokens()
  with pytest.raises(ValueError, match="no encoder_segment_ids"):
    _apply(
      network, _params(network), encoder, decoder, decoder_segment_ids=decoder
    )


def test_padding_changes_no_logits():
  network = _network()
  params = _params(network)
  encoder, decoder = _tokens()
  logits = _apply(network, params, encoder, decoder)
  padded = _apply(
    network,
    params,
    np.pad(encoder, ((0, 0), (0, 6))),
    np.pad(decoder, ((0, 0), (0, 4))),
  )
  np.testing.assert_allclose(padded[:, :TARGETS], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("relpos_bias", ["shared", "per_layer"])
def test_scanned_layers_equal_unrolled_ones_bit_for_bit(relpos_bias):
  unrolled = _network(relpos_bias=relpos_bias)
  scanned = _network(relpos_bias=relpos_bias, scan_layers=True)
  params = _params(unrolled)
  stacked = _stacked(params)
  expected = jax.tree.map(jnp.shape, _params(scanned))
  assert jax.tree.map(jnp.shape, stacked) == expected
  tokens = _tokens()
  np.testing.assert_array_equal(
    jax.jit(lambda p: _apply(unrolled, p, *tokens))(params),
    jax.jit(lambda p: _apply(scanned, p, *tokens))(stacked),
  )


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("remat_policy", ["minimal", "dots", "full"])
def test_rematerialisation_changes_no_gradient(remat_policy, scan_layers):
  plain = _network(scan_layers=scan_layers, dropout_rate=0.2)
  remat = _network(
    scan_layers=scan_layers, dropout_rate=0.2, remat_policy=remat_policy
  )
  params = _params(plain)

  def gradient(network):
    def loss(params):
      hidden = _apply(
        network,
        params,
        *_tokens(),
        enable_dropout=True,
        rngs={"dropout": jax.random.key(2)},
        method="hidden",
      )
      return jnp.sum(jnp.sin(hidden))

    return jax.jit(jax.grad(loss))(params)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    gradient(plain),
    gradient(remat),
  )


def test_dropout_needs_to_be_enabled_and_follows_its_key():
  network = _network(dropout_rate=0.5)
  params = _params(network)

  def logits(seed, enable=True):
    rngs = {"dropout": jax.random.key(seed)}
    return _apply(network, params, *_tokens(), enable_dropout=enable, rngs=rngs)

  np.testing.assert_array_equal(logits(0), logits(0))
  assert (logits(0) != logits(1)).any()
  np.testing.assert_array_equal(logits(0, False), logits(1, False))


@pytest.mark.parametrize("tied", [False, True])
def test_bf16_activations_keep_fp32_parameters_and_logits(tied):
  network = _network(dtype="bfloat16", logits_via_embedding=tied)
  params = _params(network)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  tokens = _tokens()
  hidden = _apply(network, params, *tokens, method="hidden")
  logits = _apply(network, params, *tokens)
  assert hidden.dtype == jnp.bfloat16
  assert logits.dtype == jnp.float32
  # The readout itself is fp32: it equals the fp32 product to fp32 precision.
  kernel, scale = network.readout(params)
  expected = np.asarray(hidden, "float32") @ np.asarray(kernel) * scale
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
  full = _apply(_network(logits_via_embedding=tied), params, *tokens)
  np.testing.assert_allclose(logits, full, atol=0.1)


def test_tied_logits_are_scaled_by_the_root_of_the_width():
  network = _network(logits_via_embedding=True)
  params = _params(network)
  assert "logits_dense" not in params["decoder"]
  hidden = _apply(network, params, *_tokens(), method="hidden")
  table = params["token_embedder"]["embedding"]
  np.testing.assert_allclose(
    _apply(network, params, *_tokens()),
    np.asarray(hidden) @ np.asarray(table).T / 4.0,
    rtol=1e-4,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  "overrides",
  [
    {},
    {"scan_layers": True},
    {"relpos_bias": "per_layer"},
    {"logits_via_embedding": True, "mlp_activations": ("relu",)},
  ],
)
def test_cached_decoding_gives_the_logits_of_teacher_forcing(overrides):
  network = _network(**overrides)
  params = _params(network)
  encoder, decoder = _tokens()
  encoder[0, 4:] = 0
  expected = _apply(network, params, encoder, decoder)
  encoded = _apply(network, params, encoder, method="encode")
  cache = _apply(
    network, params, encoded, encoder, TARGETS + 2, method="init_cache"
  )
  shapes = jax.tree.map(jnp.shape, cache)

  @jax.jit
  def step(cache, tokens, position):
    return _apply(
      network, params, cache, tokens, position, method="decode_step"
    )

  for t in range(TARGETS):
    position = jnp.full((BATCH,), t) if t == 2 else jnp.int32(t)
    logits, cache = step(cache, decoder[:, t], position)
    np.testing.assert_allclose(logits, expected[:, t], rtol=1e-4, atol=1e-5)
  assert jax.tree.map(jnp.shape, cache) == shapes


@pytest.mark.parametrize("scan_layers", [False, True])
def test_beams_share_their_inputs_keys_and_are_gathered_at_axis_0(scan_layers):
  network = _network(scan_layers=scan_layers)
  params = _params(network)
  encoder, _ = _tokens(batch=2)
  encoded = _apply(network, params, encoder, method="encode")
  cache = _apply(
    network,
    params,
    encoded,
    encoder,
    4,
    num_rows_per_input=3,
    method="init_cache",
  )
  assert {x.shape[0] for x in jax.tree.leaves(cache["self"])} == {6}
  assert {x.shape[0] for x in jax.tree.leaves(cache["cross"])} == {2}
  # Rows of different history swap places between the steps, within an input.
  rows = np.array([2, 0, 1, 3, 3, 5])
  first, second = np.array([4, 5, 6, 7, 8, 9]), np.array([1, 2, 3, 4, 5, 6])
  _, cache = _apply(
    network, params, cache, first, jnp.int32(0), method="decode_step"
  )
  cache["self"] = jax.tree.map(lambda x: x[rows], cache["self"])
  logits, _ = _apply(
    network, params, cache, second, jnp.int32(1), method="decode_step"
  )
  expected = _apply(
    network,
    params,
    np.repeat(encoder, 3, axis=0),
    np.stack([first[rows], second], axis=1),
  )[:, 1]
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_sharded_network_gives_the_logits_of_one_device():
  network = _network(vocab_size=40)
  params = _params(network)
  encoder, decoder = _tokens(batch=4)
  expected = _apply(network, params, encoder, decoder)
  mesh = jax.make_mesh(
    (4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  rules = (
    ("batch", "data"),
    ("embed", "data"),
    ("vocab", "model"),
    ("mlp", "model"),
    ("heads", "model"),
    ("joined_kv", "model"),
  )
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    lowered = jax.jit(lambda p, *t: _apply(network, p, *t)).lower(
      params, encoder, decoder
    )
    assert "sharding_constraint" in lowered.as_text()
    actual = lowered.compile()(params, encoder, decoder)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
