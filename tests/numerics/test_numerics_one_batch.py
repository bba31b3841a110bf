"""One batch is n microbatches is k devices, also where lengths are unequal."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_models import BATCH_SPEC, random_batch, tiny_model

from t2tjax import models, networks, optim
from t2tjax.partitioning import Partitioner
from t2tjax.state import TrainState, abstract_state, init_state, state_shardings
from t2tjax.trainer import step as step_lib


def model_with(factor, **config):
  tiny = tiny_model(**config)
  return models.EncoderDecoderModel(
    module=tiny.module,
    input_vocabulary=tiny.input_vocabulary,
    output_vocabulary=tiny.output_vocabulary,
    optimizer_def=None,
    z_loss=1e-2,
    label_smoothing=0.1,
    loss_normalizing_factor=factor,
  )


def state_after(model, partitioner, optimizer, **options):
  """Returns the parameters after a step, and its metrics."""
  abstract, axes = abstract_state(model, optimizer, BATCH_SPEC)
  step = step_lib.jit_train_step(
    step_lib.make_train_step(
      model, optimizer, axes, lambda step: 0.1 + 0.0 * step, **options
    ),
    partitioner,
    state_shardings(partitioner, abstract, axes),
  )
  state = init_state(model, optimizer, BATCH_SPEC, partitioner, seed=3)
  with partitioner.activate():
    batch = jax.device_put(random_batch(0), partitioner.batch_sharding)
    state, metrics = step(state, batch)
  return jax.device_get(state.params), jax.device_get(metrics)


def assert_close(got, expected, rtol, atol):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
    got,
    expected,
  )


def one_device():
  return Partitioner(devices=jax.devices()[:1])


@pytest.mark.parametrize("factor", [None, "AVERAGE_PER_SEQUENCE"])
def test_one_batch_is_two_microbatches_on_each_of_four_devices(factor):
  """The gradient itself is compared: the update is plain SGD."""
  model = model_with(factor)
  optimizer = optim.OptaxOptimizer(optax.sgd(1.0))
  whole, metrics = state_after(model, one_device(), optimizer)
  assert metrics["weight_sum"] > 0
  parts, _ = state_after(
    model, Partitioner(devices=jax.devices()[:4]), optimizer, num_microbatches=2
  )
  assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_the_factor_of_t5s_checkpoints_divides_the_summed_loss_by_233472():
  """Independent: a numpy log softmax of the network's logits."""
  batch = random_batch(0)
  model = model_with(233472)
  params = jax.jit(
    lambda: model.module.init(
      jax.random.key(0),
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    )
  )()["params"]
  params = nn.unbox(params)
  logits = np.asarray(
    model.module.apply(
      {"params": params},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    ),
    np.float64,
  )
  log_z = np.log(np.exp(logits).sum(-1))
  log_q = logits - log_z[..., None]
  hot = np.eye(64)[batch["decoder_target_tokens"]]
  p = 0.9 * hot + 0.1 / 63 * (1 - hot)
  token = (p * (np.log(p) - log_q)).sum(-1) + 1e-2 * log_z**2
  expected = (token * batch["decoder_loss_weights"]).sum() / 233472
  normalizer = model.loss_normalizer(batch)
  assert normalizer == 233472
  loss, sums = model.loss_fn(params, batch, None, normalizer)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  # What is reported is per target token in any case.
  nll = -(log_q * hot).sum(-1) * batch["decoder_loss_weights"]
  np.testing.assert_allclose(sums["nll_sum"], nll.sum(), rtol=1e-5)


def test_three_adafactor_steps_of_scanned_layers_are_those_of_unrolled_ones():
  """With stacks of matrices that are factored, and relative steps."""
  optimizer = optim.Adafactor(min_dim_size_to_factor=8)
  sizes = dict(num_encoder_layers=3, num_decoder_layers=3)
  scanned = model_with(None, scan_layers=True, **sizes)
  unrolled = model_with(None, **sizes)
  stacks = jax.device_get(
    init_state(scanned, optimizer, BATCH_SPEC, one_device(), seed=3).params
  )
  start = _unstacked(stacks)
  batches = [random_batch(seed) for seed in range(3)]
  expected = _train(unrolled, optimizer, start, batches)
  found = _unstacked(_train(scanned, optimizer, stacks, batches))
  assert_close(found, expected, rtol=2e-5, atol=2e-6)
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, start)
  assert min(jax.tree.leaves(moved)) > 1e-4


def _train(model, optimizer, params, batches):
  _, axes = abstract_state(model, optimizer, BATCH_SPEC)
  step = jax.jit(
    step_lib.make_train_step(
      model, optimizer, axes, lambda step: 0.05 + 0.0 * step
    )
  )
  opt_state = optimizer.init(params, axes.params)
  state = TrainState(jnp.int32(0), params, opt_state)
  for batch in batches:
    state, _ = step(state, batch)
  return jax.device_get(state.params)


def _unstacked(params):
  params = jax.tree.map(lambda x: x, params)
  for side in ("encoder", "decoder"):
    stack = params[side].pop("layers")
    for i in range(3):
      params[side][f"layers_{i}"] = jax.tree.map(lambda x, i=i: x[i], stack)
  return params


def test_every_row_has_dropout_masks_of_its_own():
  """As rows of repeated tokens show."""
  config = networks.T5Config(
    vocab_size=64,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=2,
    num_decoder_layers=2,
    dropout_rate=0.5,
    scan_layers=True,
  )
  network = networks.EncoderDecoder(config)
  tokens = np.tile(np.arange(1, 6, dtype=np.int32), (8, 1))
  params = network.init(jax.random.key(0), tokens, tokens)
  hidden = network.apply(
    params,
    tokens,
    tokens,
    enable_dropout=True,
    rngs={"dropout": jax.random.key(1)},
    method="hidden",
  )
  dropped = np.asarray(hidden == 0).all(axis=1)  # [rows, embed]
  assert len({row.tobytes() for row in dropped}) == 8
