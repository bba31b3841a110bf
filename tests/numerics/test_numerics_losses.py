"""The gradient of a model's loss at its readout, against numpy in fp64."""

from flax import linen as nn
import jax
import numpy as np
import pytest
from tiny_models import BATCH_SPEC, VOCAB, random_batch, tiny_model

PADDED_VOCAB = VOCAB + 8
Z_LOSS, SMOOTHING = 1e-3, 0.1  # Those of `tiny_model`.


@pytest.fixture(scope="module")
def problem():
  """Returns a gradient, states, targets, weights; rows of the readout pad."""
  model = tiny_model(vocab_size=PADDED_VOCAB, logits_via_embedding=False)
  params = nn.unbox(model.init_params(jax.random.key(0), BATCH_SPEC))
  batch = random_batch(0)
  # Targets that count for nothing, beside those that are padding.
  weights = batch["decoder_loss_weights"] * (np.arange(8) % 3 != 1)
  batch["decoder_loss_weights"] = weights.astype(np.float32)
  grads = jax.jit(jax.grad(lambda p: model.loss_fn(p, batch, None, 1.0)[0]))
  hidden = model.module.apply(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
    method="hidden",
  )
  kernel = np.asarray(params["decoder"]["logits_dense"]["kernel"], np.float64)
  gradient = grads(params)["decoder"]["logits_dense"]["kernel"]
  return (
    np.asarray(gradient),
    np.asarray(hidden, np.float64),
    kernel,
    batch["decoder_target_tokens"],
    weights,
  )


def expected_gradient(hidden, kernel, targets, weights, num_smoothed):
  """Of sum w (KL(p, q) + z log(Z)^2), p spread over `num_smoothed` rows."""
  logits = hidden @ kernel
  log_z = np.log(np.exp(logits).sum(-1, keepdims=True))
  q = np.exp(logits - log_z)
  p = np.zeros_like(q)
  p[..., :num_smoothed] = SMOOTHING / (num_smoothed - 1)
  np.put_along_axis(p, targets[..., None], 1 - SMOOTHING, axis=-1)
  of_logits = weights[..., None] * (q * (1 + 2 * Z_LOSS * log_z) - p)
  return np.einsum("bld,blv->dv", hidden, of_logits)


def test_smoothing_mass_never_goes_to_padded_vocabulary_rows(problem):
  gradient, *rest = problem
  tolerance = dict(rtol=1e-4, atol=1e-5 * np.abs(gradient).max())
  expected = expected_gradient(*rest, num_smoothed=VOCAB)
  np.testing.assert_allclose(gradient, expected, **tolerance)
  wrong = expected_gradient(*rest, num_smoothed=PADDED_VOCAB)
  padded = np.s_[:, VOCAB:]
  assert not np.allclose(gradient[padded], wrong[padded], **tolerance)
