"""Chunked cross entropy against a plain reference written from the formula."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import losses

BATCH, LENGTH, EMBED, VOCAB, REAL_VOCAB = 3, 7, 8, 20, 17


def _problem(dtype=jnp.float32):
  rng = np.random.default_rng(0)
  hidden = jnp.asarray(rng.normal(size=(BATCH, LENGTH, EMBED)), dtype)
  kernel = jnp.asarray(rng.normal(size=(EMBED, VOCAB)), jnp.float32)
  targets = jnp.asarray(rng.integers(0, REAL_VOCAB, (BATCH, LENGTH)), jnp.int32)
  weights = rng.uniform(size=(BATCH, LENGTH)).astype("float32")
  weights[0, -2:] = 0.0  # padding
  return hidden, kernel, targets, jnp.asarray(weights)


def _textbook_loss(
  hidden, kernel, targets, weights, *, z_loss, smoothing, scale, num_real
):
  """-sum_v p_v log q_v + p_v log p_v + z log(Z)^2, with all of p and q."""
  logits = scale * jnp.einsum("bld,dv->blv", hidden, kernel)
  log_q = jax.nn.log_softmax(logits)
  hot = jax.nn.one_hot(targets, VOCAB)
  real = (jnp.arange(VOCAB) < num_real).astype(jnp.float32)[None, None]
  p = (1 - smoothing) * hot + smoothing / (num_real - 1) * real * (1 - hot)
  divergence = jnp.sum(jax.scipy.special.xlogy(p, p) - p * log_q, axis=-1)
  log_z = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
  return jnp.sum(weights * (divergence + z_loss * log_z**2))


SETTINGS = [
  dict(z_loss=0.0, smoothing=0.0, scale=1.0, num_real=VOCAB),
  dict(z_loss=1e-2, smoothing=0.0, scale=1.0, num_real=VOCAB),
  dict(z_loss=1e-2, smoothing=0.1, scale=0.35, num_real=VOCAB),
  dict(z_loss=1e-2, smoothing=0.2, scale=0.35, num_real=REAL_VOCAB),
]


def _chunked(hidden, kernel, targets, weights, settings, chunk_tokens):
  return losses.chunked_cross_entropy(
    hidden,
    kernel,
    targets,
    weights,
    z_loss=settings["z_loss"],
    label_smoothing=settings["smoothing"],
    scale=settings["scale"],
    chunk_tokens=chunk_tokens,
    num_real_vocab=settings["num_real"],
  )


@pytest.mark.parametrize("chunk_tokens", [1, 6, 12, 1000])
@pytest.mark.parametrize("settings", SETTINGS)
def test_value_and_gradients_equal_autodiff_of_the_textbook_formula(
  settings, chunk_tokens
):
  hidden, kernel, targets, weights = _problem()

  def ours(hidden, kernel, weights):
    sums = _chunked(hidden, kernel, targets, weights, settings, chunk_tokens)
    return 0.7 * sums.loss

  def textbook(hidden, kernel, weights):
    return 0.7 * _textbook_loss(hidden, kernel, targets, weights, **settings)

  ours = jax.jit(jax.value_and_grad(ours, argnums=(0, 1, 2)))
  textbook = jax.value_and_grad(textbook, argnums=(0, 1, 2))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5),
    ours(hidden, kernel, weights),
    textbook(hidden, kernel, weights),
  )


@pytest.mark.parametrize("settings", SETTINGS)
def test_sums_without_gradient_equal_those_of_whole_logits(settings):
  hidden, kernel, targets, weights = _problem()
  chunked = _chunked(hidden, kernel, targets, weights, settings, 6)
  whole = losses.cross_entropy_with_logits(
    settings["scale"] * hidden @ kernel,
    targets,
    weights,
    z_loss=settings["z_loss"],
    label_smoothing=settings["smoothing"],
    num_real_vocab=settings["num_real"],
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), chunked, whole
  )
  textbook = _textbook_loss(hidden, kernel, targets, weights, **settings)
  np.testing.assert_allclose(whole.loss, textbook, rtol=1e-5)


def test_nll_is_reported_unsmoothed_and_without_z_loss():
  hidden, kernel, targets, weights = _problem()
  sums = _chunked(hidden, kernel, targets, weights, SETTINGS[3], 6)
  logits = 0.35 * np.asarray(hidden) @ np.asarray(kernel)
  log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  nll = -np.take_along_axis(log_q, np.asarray(targets)[..., None], -1)[..., 0]
  np.testing.assert_allclose(sums.nll, (nll * weights).sum(), rtol=1e-5)
  hits = (logits.argmax(-1) == targets) & (np.asarray(weights) > 0)
  assert sums.correct == hits.sum()


def test_a_perfect_smoothed_model_has_zero_loss():
  targets = jnp.asarray([[3, 5]], jnp.int32)
  hot = jax.nn.one_hot(targets, VOCAB)
  p = 0.9 * hot + 0.1 / (VOCAB - 1) * (1 - hot)
  sums = losses.cross_entropy_with_logits(
    jnp.log(p), targets, jnp.ones((1, 2)), label_smoothing=0.1
  )
  np.testing.assert_allclose(sums.loss, 0.0, atol=1e-5)


def test_gradient_dtypes_are_those_of_the_arguments():
  hidden, kernel, targets, weights = _problem(jnp.bfloat16)

  def loss(hidden, kernel):
    return _chunked(hidden, kernel, targets, weights, SETTINGS[1], 6).loss

  value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(hidden, kernel)
  assert value.dtype == jnp.float32
  assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32]


def test_the_gradient_of_bf16_states_is_not_scaled_by_a_rounded_normalizer():
  hidden, kernel, targets, weights = _problem(jnp.bfloat16)
  factor = 1.0039  # Rounded to bf16: 1.

  def gradient(hidden):
    def loss(hidden):
      sums = _chunked(hidden, kernel, targets, weights, SETTINGS[0], 6)
      return factor * sums.loss

    return np.asarray(jax.grad(loss)(hidden), np.float64)

  exact = gradient(hidden.astype(jnp.float32))
  rounded = gradient(hidden)
  ratio = (rounded * exact).sum() / (exact * exact).sum()
  assert abs(ratio - 1.0) < 1e-3


def test_whole_logits_never_exist():
  hidden, kernel, targets, weights = _problem()

  def loss(hidden, kernel):
    return _chunked(hidden, kernel, targets, weights, SETTINGS[3], 6).loss

  program = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, kernel).as_text()
  assert f"tensor<{BATCH}x2x{VOCAB}xf32>" in program
  assert f"{LENGTH}x{VOCAB}xf32" not in program


def test_chunks_grow_with_the_devices_that_share_the_batch():
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  assert losses._chunk_length(8, 64, 16) == 2
  with jax.set_mesh(mesh), nn.logical_axis_rules((("batch", "data"),)):
    assert losses._chunk_length(8, 64, 16) == 8


def test_wrong_settings_name_the_binding():
  problem = _problem()
  with pytest.raises(ValueError, match="label_smoothing = 1.5"):
    losses.chunked_cross_entropy(*problem, label_smoothing=1.5)
  with pytest.raises(ValueError, match="T5Config.vocab_size"):
    losses.chunked_cross_entropy(*problem, num_real_vocab=VOCAB + 1)
