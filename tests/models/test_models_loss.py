"""Losses, normalisation, sums and scores against plain references."""

import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import models, networks

VOCABULARY = types.SimpleNamespace(vocab_size=30, eos_id=1)
SIZES = dict(
  vocab_size=32,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=32,
)


def encoder_decoder(dropout_rate=0.0, network=None, **kwargs):
  config = networks.T5Config(
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=dropout_rate,
    **SIZES,
    **(network or {}),
  )
  return models.EncoderDecoderModel(
    module=networks.EncoderDecoder(config),
    input_vocabulary=VOCABULARY,
    output_vocabulary=VOCABULARY,
    optimizer_def=None,
    **kwargs,
  )


def decoder_only(network=None, **kwargs):
  config = networks.DecoderOnlyConfig(num_layers=1, **SIZES, **(network or {}))
  return models.DecoderOnlyModel(
    module=networks.DecoderOnly(config),
    vocabulary=VOCABULARY,
    optimizer_def=None,
    **kwargs,
  )


def example(rng, low, high):
  return rng.integers(2, 30, size=rng.integers(low, high + 1))


def encoder_decoder_batch(examples, input_length, target_length):
  batch = {
    name: np.zeros((len(examples), length), np.int32)
    for name, length in [
      ("encoder_input_tokens", input_length),
      ("decoder_input_tokens", target_length),
      ("decoder_target_tokens", target_length),
    ]
  }
  for row, (inputs, targets) in enumerate(examples):
    batch["encoder_input_tokens"][row, : len(inputs)] = inputs
    batch["decoder_target_tokens"][row, : len(targets)] = targets
    batch["decoder_input_tokens"][row, 1 : len(targets)] = targets[:-1]
  batch["decoder_loss_weights"] = (batch["decoder_target_tokens"] != 0).astype(
    np.float32
  )
  return batch


def pack(examples, input_length, target_length):
  """Packs all examples into one row."""
  names = (
    "encoder_input_tokens",
    "encoder_segment_ids",
    "encoder_positions",
    "decoder_input_tokens",
    "decoder_target_tokens",
    "decoder_segment_ids",
    "decoder_positions",
  )
  batch = {
    n: np.zeros(
      (1, input_length if "encoder" in n else target_length), np.int32
    )
    for n in names
  }
  i = j = 0
  for segment, (inputs, targets) in enumerate(examples, 1):
    a, b = slice(i, i + len(inputs)), slice(j, j + len(targets))
    batch["encoder_input_tokens"][0, a] = inputs
    batch["encoder_segment_ids"][0, a] = segment
    batch["encoder_positions"][0, a] = np.arange(len(inputs))
    batch["decoder_target_tokens"][0, b] = targets
    batch["decoder_input_tokens"][0, b] = [0, *targets[:-1]]
    batch["decoder_segment_ids"][0, b] = segment
    batch["decoder_positions"][0, b] = np.arange(len(targets))
    i, j = a.stop, b.stop
  batch["decoder_loss_weights"] = (batch["decoder_segment_ids"] != 0).astype(
    np.float32
  )
  return batch


def init(model, batch):
  spec = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}
  abstract = nn.unbox(
    jax.eval_shape(lambda key: model.init_params(key, spec), jax.random.key(0))
  )
  rng = np.random.default_rng(3)
  return jax.tree.map(
    lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32),
    abstract,
  )


@functools.partial(jax.jit, static_argnums=0)
def loss_and_sums(model, params, batch):
  return model.loss_fn(params, batch, None, model.loss_normalizer(batch))


@functools.partial(jax.jit, static_argnums=0)
def sums_of(model, params, batch):
  return model.eval_fn(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def scores(model, params, batch):
  return model.score_batch(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
  args = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
  return model.module.apply({"params": params}, *args)


@pytest.fixture(scope="module")
def examples():
  rng = np.random.default_rng(0)
  return [(example(rng, 2, 7), example(rng, 1, 6)) for _ in range(4)]


def numpy_nll(model, params, batch):
  """Per-token negative log likelihood from whole logits, in numpy."""
  logits = np.asarray(logits_of(model, params, batch), np.float64)
  logits -= logits.max(-1, keepdims=True)
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  targets = batch["decoder_target_tokens"][..., None]
  return -np.take_along_axis(log_probs, targets, -1)[..., 0]


@pytest.mark.parametrize(
  "network", [{}, {"logits_via_embedding": True}, {"scan_layers": True}]
)
def test_loss_scores_and_sums_equal_a_numpy_reference(examples, network):
  model = encoder_decoder(network=network)
  batch = encoder_decoder_batch(examples, 8, 7)
  params = init(model, batch)
  nll = numpy_nll(model, params, batch) * batch["decoder_loss_weights"]
  num_targets = sum(len(t) for _, t in examples)
  normalizer = model.loss_normalizer(batch)
  assert normalizer == num_targets
  loss, sums = loss_and_sums(model, params, batch)
  np.testing.assert_allclose(loss, nll.sum() / num_targets, rtol=1e-5)
  np.testing.assert_allclose(sums["nll_sum"], nll.sum(), rtol=1e-5)
  np.testing.assert_allclose(
    scores(model, params, batch), -nll.sum(-1), rtol=1e-5
  )
  assert sums["target_tokens"] == sums["weight_sum"] == num_targets
  assert sums["input_tokens"] == sum(len(i) for i, _ in examples)
  assert (sums["target_slots"], sums["input_slots"]) == (28, 32)
  assert sums["sequences"] == 4
  assert set(sums) == set(models.SUM_NAMES)
  assert all(v.dtype == jnp.float32 and v.shape == () for v in sums.values())
  summary = models.summarize({k: float(v) for k, v in sums.items()})
  np.testing.assert_allclose(summary["nll"], nll.sum() / num_targets, rtol=1e-5)
  np.testing.assert_allclose(
    summary["packing_efficiency"],
    (num_targets + sum(len(i) for i, _ in examples)) / 60,
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  "factor",
  [
    None,
    "num_real_target_tokens",
    "NUM_TOTAL_TARGET_TOKENS",
    "AVERAGE_PER_SEQUENCE",
    233472,
    2.5,
  ],
)
def test_each_normalizing_factor_means_what_t5x_means(examples, factor):
  model = encoder_decoder(loss_normalizing_factor=factor)
  batch = encoder_decoder_batch(examples, 8, 7)
  params = init(model, batch)
  nll = numpy_nll(model, params, batch)
  lengths = np.array([len(t) for _, t in examples])
  rows = (nll * batch["decoder_loss_weights"]).sum(-1)
  want = {
    None: rows.sum() / lengths.sum(),
    "num_real_target_tokens": rows.sum() / lengths.sum(),
    "NUM_TOTAL_TARGET_TOKENS": rows.sum() / 28,
    "AVERAGE_PER_SEQUENCE": (rows / lengths).mean(),
    233472: rows.sum() / 233472,
    2.5: rows.sum() / 2.5,
  }[factor]
  loss, _ = loss_and_sums(model, params, batch)
  np.testing.assert_allclose(loss, want, rtol=1e-5)


@pytest.mark.parametrize("factor", [None, "AVERAGE_PER_SEQUENCE"])
def test_packed_examples_give_the_loss_of_the_unpacked(examples, factor):
  model = encoder_decoder(loss_normalizing_factor=factor)
  unpacked = encoder_decoder_batch(examples, 8, 7)
  packed = pack(examples, 32, 30)
  params = init(model, unpacked)
  want, sums = loss_and_sums(model, params, unpacked)
  got, packed_sums = loss_and_sums(model, params, packed)
  np.testing.assert_allclose(got, want, rtol=1e-5)
  for name in sums:
    if "slots" not in name:
      np.testing.assert_allclose(packed_sums[name], sums[name], rtol=1e-5)


@pytest.mark.parametrize("factor", [None, "AVERAGE_PER_SEQUENCE"])
def test_microbatches_of_unequal_length_give_the_whole_gradient(
  examples, factor
):
  model = encoder_decoder(
    loss_normalizing_factor=factor, z_loss=1e-2, label_smoothing=0.1
  )
  batch = encoder_decoder_batch(examples, 8, 7)
  params = init(model, batch)
  normalizer = model.loss_normalizer(batch)
  grad = jax.jit(
    jax.grad(lambda p, b: model.loss_fn(p, b, None, normalizer)[0])
  )
  whole = grad(params, batch)
  parts = [
    grad(params, {k: v[i : i + 1] for k, v in batch.items()}) for i in range(4)
  ]
  summed = jax.tree.map(lambda *xs: sum(xs), *parts)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-4),
    summed,
    whole,
  )


def test_the_reported_nll_is_never_smoothed_and_accuracy_counts_hits(examples):
  batch = encoder_decoder_batch(examples, 8, 7)
  plain = encoder_decoder()
  smoothed = encoder_decoder(label_smoothing=0.2, z_loss=1e-3)
  params = init(plain, batch)
  want = sums_of(plain, params, batch)
  got = sums_of(smoothed, params, batch)
  np.testing.assert_allclose(got["nll_sum"], want["nll_sum"], rtol=1e-6)
  assert got["loss_sum"] != want["loss_sum"] and got["z_loss_sum"] > 0
  logits = logits_of(plain, params, batch)
  hits = np.argmax(logits, -1) == batch["decoder_target_tokens"]
  assert got["correct_sum"] == (hits * batch["decoder_loss_weights"]).sum()


def test_a_batch_without_targets_has_the_loss_zero(examples):
  model = encoder_decoder()
  batch = encoder_decoder_batch(examples, 8, 7)
  params = init(model, batch)
  batch["decoder_loss_weights"] *= 0
  loss, sums = loss_and_sums(model, params, batch)
  assert loss == 0 and sums["sequences"] == 0


def test_dropout_is_on_only_with_a_key(examples):
  model = encoder_decoder(dropout_rate=0.5)
  batch = encoder_decoder_batch(examples, 8, 7)
  params = init(model, batch)

  jitted = jax.jit(model.loss_fn)

  def loss(key):
    return float(jitted(params, batch, key, jnp.float32(1))[0])

  assert loss(None) == float(sums_of(model, params, batch)["loss_sum"])
  assert loss(jax.random.key(1)) == loss(jax.random.key(1))
  assert (
    len({loss(None), loss(jax.random.key(1)), loss(jax.random.key(2))}) == 3
  )


def test_decoder_only_counts_its_prompt_as_input_tokens():
  model = decoder_only()
  targets = np.array([[9, 4, 1, 3, 1, 0]], np.int32)
  batch = {
    "decoder_target_tokens": targets,
    "decoder_input_tokens": np.array([[0, 9, 4, 1, 3, 1]], np.int32),
    "decoder_loss_weights": np.array([[0, 0, 0, 1, 1, 0]], np.float32),
    "decoder_causal_attention": np.array([[1, 1, 1, 1, 0, 0]], np.int32),
  }
  sums = sums_of(model, init(model, batch), batch)
  assert (sums["target_tokens"], sums["input_tokens"]) == (2, 3)
  assert (sums["target_slots"], sums["input_slots"]) == (6, 0)


def test_only_a_prefix_model_lets_inputs_see_later_inputs():
  batch = {
    "decoder_input_tokens": np.array([[0, 9, 4, 7, 3, 0]], np.int32),
    "decoder_target_tokens": np.array([[9, 4, 7, 3, 1, 0]], np.int32),
    "decoder_loss_weights": np.array([[1, 0, 0, 0, 0, 0]], np.float32),
    "decoder_causal_attention": np.array([[1, 1, 1, 1, 0, 0]], np.int32),
  }
  changed = {k: v.copy() for k, v in batch.items()}
  changed["decoder_input_tokens"][0, 3] = 8
  for bidirectional in (False, True):
    model = decoder_only(inputs_bidirectional_attention=bidirectional)
    params = init(model, batch)
    before = scores(model, params, batch)
    after = scores(model, params, changed)
    assert bool(jnp.any(before != after)) == bidirectional


def test_mistakes_are_refused_with_the_setting_to_change(examples):
  with pytest.raises(ValueError, match="LOSS_NORMALIZING_FACTOR"):
    encoder_decoder(loss_normalizing_factor="MEAN")
  with pytest.raises(ValueError, match="= 0 must be None, a positive number"):
    encoder_decoder(loss_normalizing_factor=0)
  model = encoder_decoder()
  model.output_vocabulary = types.SimpleNamespace(vocab_size=33, eos_id=1)
  batch = encoder_decoder_batch(examples, 8, 7)
  with pytest.raises(ValueError, match="33 entries, but the network only 32"):
    model.check_vocabulary()
  packed = pack(examples, 32, 30)
  model = encoder_decoder()
  params = init(model, batch)
  with pytest.raises(ValueError, match="DatasetConfig.pack = False"):
    model.score_batch(params, packed)
  with pytest.raises(ValueError, match="DatasetConfig.pack = False"):
    model.predict_batch(params, packed)


def test_flops_grow_with_every_dimension():
  model = encoder_decoder()

  def flops(b, i, t):
    spec = {
      "encoder_input_tokens": jax.ShapeDtypeStruct((b, i), jnp.int32),
      "decoder_input_tokens": jax.ShapeDtypeStruct((b, t), jnp.int32),
    }
    return model.flops(spec)

  assert flops(4, 8, 4) == 2 * flops(2, 8, 4)
  assert flops(2, 16, 4) > flops(2, 8, 4) < flops(2, 8, 8)
  spec = {"decoder_input_tokens": jax.ShapeDtypeStruct((2, 8), jnp.int32)}
  assert decoder_only().flops(spec) > 0
