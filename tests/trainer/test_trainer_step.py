"""The train step: the same numbers on every mesh and in any number of parts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import BATCH_SPEC, random_batch, tiny_model

from t2tjax import optim, trees
from t2tjax.partitioning import Partitioner
from t2tjax.state import abstract_state, init_state, state_shardings
from t2tjax.trainer import step as step_lib

MESHES = {
  "data": {"data": 8},
  "fsdp": {"fsdp": 8},
  "tensor": {"data": 2, "model": 4},
  "fsdp+tensor": {"replica": 2, "fsdp": 2, "model": 2},
  "sequence": {"data": 2, "fsdp": 2, "sequence": 2},
}


def one_device():
  return Partitioner(devices=jax.devices()[:1])


def schedule(step):
  return jnp.float32(0.05) / jnp.sqrt(step + 1.0)


class Run:
  """A model, an optimizer and a mesh, ready to train."""

  def __init__(self, partitioner, model=None, optimizer=None, **step_options):
    self.model = model or tiny_model()
    self.optimizer = optimizer or optim.Adafactor(min_dim_size_to_factor=8)
    self.partitioner = partitioner
    self.abstract, self.axes = abstract_state(
      self.model, self.optimizer, BATCH_SPEC
    )
    self.shardings = state_shardings(partitioner, self.abstract, self.axes)
    self.step = step_lib.jit_train_step(
      step_lib.make_train_step(
        self.model, self.optimizer, self.axes, schedule, **step_options
      ),
      partitioner,
      self.shardings,
    )

  @functools.cached_property
  def state(self):
    return init_state(
      self.model, self.optimizer, BATCH_SPEC, self.partitioner, seed=3
    )

  def restart(self, state):
    self.state = jax.device_put(state, self.shardings)

  def batch(self, seed):
    return jax.device_put(random_batch(seed), self.partitioner.batch_sharding)

  def train(self, num_steps, seed=0):
    history = []
    with self.partitioner.activate():
      for i in range(num_steps):
        self.state, metrics = self.step(self.state, self.batch(seed + i))
        history.append({k: float(v) for k, v in metrics.items()})
    return history

  def lowered_text(self):
    with self.partitioner.activate():
      return self.step.lower(self.abstract, BATCH_SPEC).as_text()


def assert_same_history(got, expected, rtol):
  for i, (a, b) in enumerate(zip(got, expected, strict=True)):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_allclose(
        a[name], b[name], rtol=rtol, err_msg=f"{name} at step {i}"
      )


@pytest.fixture(scope="module")
def unsharded_history():
  return Run(one_device()).train(20)


@pytest.mark.parametrize("preset", MESHES)
def test_every_preset_gives_the_unsharded_loss_curve(preset, unsharded_history):
  partitioner = Partitioner(mesh_shape=MESHES[preset], preset=preset)
  history = Run(partitioner).train(20)
  losses = [m["loss_sum"] / m["weight_sum"] for m in history]
  expected = [m["loss_sum"] / m["weight_sum"] for m in unsharded_history]
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert_same_history(history, unsharded_history, rtol=1e-4)
  assert expected[-1] < 0.98 * expected[0]


def test_scanned_layers_shard_and_accumulate_too():
  model = tiny_model(
    scan_layers=True, num_encoder_layers=2, num_decoder_layers=2
  )
  unsharded = Run(one_device(), model).train(3)
  partitioner = Partitioner(
    mesh_shape=MESHES["fsdp+tensor"], preset="fsdp+tensor"
  )
  history = Run(partitioner, model, num_microbatches=2).train(3)
  assert_same_history(history, unsharded, rtol=1e-4)


def test_lowered_step_contains_the_sharding_constraints():
  partitioner = Partitioner(
    mesh_shape=MESHES["fsdp+tensor"], preset="fsdp+tensor"
  )
  text = Run(partitioner).lowered_text()
  constraints = [x for x in text.splitlines() if "sharding_constraint" in x]
  for axis in ("replica", "fsdp", "model"):
    assert any(f'"{axis}"' in line for line in constraints), axis
  text = Run(
    Partitioner(mesh_shape=MESHES["sequence"], preset="sequence")
  ).lowered_text()
  assert any(
    '"sequence"' in line
    for line in text.splitlines()
    if "sharding_constraint" in line
  )


@pytest.mark.parametrize(
  "optimizer",
  [
    optim.Adafactor(min_dim_size_to_factor=8, beta1=0.9),
    optim.AdamW(),
    optim.RMSScaledAdamW(),
    optim.Lion(),
  ],
  ids=lambda o: type(o).__name__,
)
def test_optimizer_state_is_sharded_like_the_parameters(optimizer):
  run = Run(Partitioner(preset="fsdp"), optimizer=optimizer)
  shardings = trees.named_leaves(run.shardings.opt_state)
  for (name, sharding), (_, leaf) in zip(
    shardings, trees.named_leaves(run.abstract.opt_state), strict=True
  ):
    embed_free = "rel_embedding" in name or name.endswith("v_col")
    vector_of_rows = name.endswith("v_row")
    if leaf.ndim and not embed_free and not vector_of_rows:
      assert sharding.shard_shape(leaf.shape) != leaf.shape, name


@pytest.mark.parametrize(
  "optimizer",
  [optim.Adafactor(min_dim_size_to_factor=8, beta1=0.9), optim.AdamW()],
  ids=lambda o: type(o).__name__,
)
def test_shapes_dtypes_and_shardings_never_change_across_a_step(optimizer):
  run = Run(Partitioner(preset="fsdp"), optimizer=optimizer)
  old = run.state
  before = jax.tree.map(lambda x: (x.shape, x.dtype), old)
  run.train(2)
  after = jax.tree.map(lambda x: (x.shape, x.dtype), run.state)
  assert after == before
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old)), "not donated"
  same = jax.tree.map(
    lambda leaf, sharding: leaf.sharding.is_equivalent_to(sharding, leaf.ndim),
    run.state,
    run.shardings,
  )
  assert all(jax.tree.leaves(same))
  assert run.step._cache_size() == 1, "the second step compiled again"


@pytest.mark.parametrize("num_microbatches", [2, 4])
def test_microbatches_of_unequal_lengths_equal_one_batch(
  num_microbatches, unsharded_history
):
  run = Run(one_device(), num_microbatches=num_microbatches)
  assert_same_history(run.train(3), unsharded_history[:3], rtol=1e-5)


def test_microbatches_on_a_mesh_move_no_rows(unsharded_history):
  partitioner = Partitioner(mesh_shape={"data": 4, "model": 2}, preset="tensor")
  run = Run(partitioner, num_microbatches=4)
  with partitioner.activate():
    compiled = run.step.lower(run.abstract, BATCH_SPEC).compile()
  moved = [
    line
    for line in compiled.as_text().splitlines()
    if "s32" in line and ("all-to-all(" in line or "permute(" in line)
  ]
  assert not moved, moved
  assert_same_history(run.train(2), unsharded_history[:2], rtol=1e-4)


def test_rows_are_dealt_round_robin():
  model = tiny_model()
  seen = []

  class Spy:
    def loss_normalizer(self, batch):
      return model.loss_normalizer(batch)

    def loss_fn(self, params, batch, key, normalizer):
      jax.debug.callback(
        lambda x: seen.append(np.asarray(x)),
        batch["encoder_input_tokens"],
        ordered=True,
      )
      return model.loss_fn(params, batch, key, normalizer)

    def init_params(self, key, batch_spec):
      return model.init_params(key, batch_spec)

  run = Run(one_device(), Spy(), num_microbatches=4)
  run.train(1)
  jax.effects_barrier()
  tokens = random_batch(0)["encoder_input_tokens"]
  for index, microbatch in enumerate(seen):
    np.testing.assert_array_equal(microbatch, tokens[index::4])


def test_dropout_depends_on_seed_and_step_only():
  model = tiny_model(dropout_rate=0.3)
  run = Run(one_device(), model)
  start = jax.device_get(run.state)
  run.train(2)
  middle = jax.device_get(run.state)
  expected = run.train(2, seed=2)
  # As after a restart from a checkpoint: the same masks.
  run.restart(middle)
  assert run.train(2, seed=2) == expected
  # The same batch and parameters at another step, or seed: other masks.
  losses = []
  for step in (0, 7):
    run.restart(start.replace(step=np.int32(step)))
    losses.append(run.train(1)[0]["loss_sum"])
  other = Run(one_device(), model, dropout_seed=1)
  losses.append(other.train(1)[0]["loss_sum"])
  assert len(set(losses)) == 3


def test_dropout_masks_do_not_depend_on_the_mesh():
  model = tiny_model(dropout_rate=0.3)
  expected = Run(one_device(), model).train(3)
  mesh = Partitioner(mesh_shape=MESHES["fsdp+tensor"], preset="fsdp+tensor")
  assert_same_history(Run(mesh, model).train(3), expected, rtol=1e-4)


def test_gradient_and_parameter_norms_are_those_of_the_whole_tree():
  run = Run(one_device())
  params = jax.device_get(run.state.params)
  batch = random_batch(0)
  grads = jax.grad(
    lambda p: run.model.loss_fn(
      p, batch, None, jnp.sum(batch["decoder_loss_weights"])
    )[0]
  )(params)
  metrics = run.train(1)[0]

  def norm(tree):
    return np.sqrt(
      sum((np.float64(x) ** 2).sum() for x in jax.tree.leaves(tree))
    )

  np.testing.assert_allclose(metrics["grad_norm"], norm(grads), rtol=1e-5)
  np.testing.assert_allclose(metrics["param_norm"], norm(params), rtol=1e-5)
  np.testing.assert_allclose(metrics["learning_rate"], 0.05, rtol=1e-6)


def test_weight_metrics_have_t5xs_names_and_meaning():
  run = Run(one_device(), weight_metrics=True)
  batch = random_batch(0)
  before = jax.device_get(run.state.params)
  grads = jax.grad(
    lambda p: run.model.loss_fn(
      p, batch, None, jnp.sum(batch["decoder_loss_weights"])
    )[0]
  )(before)
  metrics = run.train(1)[0]
  after = jax.device_get(run.state.params)

  def rms(x):
    return np.sqrt(np.square(x, dtype=np.float64).mean())

  names = [name for name, _ in trees.named_leaves(before)]
  for name in names:
    old, new, grad = (
      functools.reduce(lambda tree, key: tree[key], name.split("/"), tree)
      for tree in (before, after, grads)
    )
    for prefix, expected in {
      "weight_rms": rms(new),
      "weight_max": np.abs(new).max(),
      "weight_gradient_rms": rms(grad),
      "weight_update_rms": rms(new - old),
      "weight_update_divided_by_weight_rms": rms((new - old) / old),
    }.items():
      np.testing.assert_allclose(
        metrics[f"{prefix}/{name}"], expected, rtol=1e-3, err_msg=name
      )
  assert metrics["weight_gradient_norm"] == metrics["grad_norm"]
  assert sum(name.startswith("weight_") for name in metrics) == (
    5 * len(names) + 1 + 1  # and weight_sum
  )


def test_weights_at_zero_keep_the_relative_update_finite():
  """As of LoRA's second factor, which starts at zero."""
  old, new = {"w": jnp.asarray([0.0, 2.0])}, {"w": jnp.asarray([1.0, 3.0])}
  metrics = step_lib._weight_metrics(old, old, new)
  relative = metrics["weight_update_divided_by_weight_rms/w"]
  np.testing.assert_allclose(relative, np.sqrt((0.0 + 0.5**2) / 2))


def test_frozen_parameters_get_no_gradient(unsharded_history):
  optimizer = optim.freeze(optim.AdamW(), ["^encoder/", "token_embedder"])
  run = Run(one_device(), optimizer=optimizer, num_microbatches=2)
  before = jax.device_get(run.state.params)
  assert run.train(2)[0]["grad_norm"] < unsharded_history[0]["grad_norm"]
  after = jax.device_get(run.state.params)
  jax.tree.map(
    np.testing.assert_array_equal, after["encoder"], before["encoder"]
  )

  def kernel(p):
    return p["decoder"]["layers_0"]["mlp"]["wo"]["kernel"]

  assert not np.allclose(kernel(after), kernel(before))


def test_metrics_are_float32_scalars_and_the_step_counts():
  run = Run(one_device())
  new, metrics = jax.eval_shape(run.step, run.abstract, BATCH_SPEC)
  assert {(m.shape, m.dtype) for m in metrics.values()} == {
    ((), jnp.dtype("float32"))
  }
  assert new.step.dtype == jnp.int32


def test_eval_step_is_the_loss_without_dropout(unsharded_history):
  model = tiny_model(dropout_rate=0.5)
  run = Run(one_device(), model)
  eval_step = jax.jit(step_lib.make_eval_step(model))
  sums = eval_step(run.state.params, random_batch(0))
  for name, value in sums.items():
    expected = unsharded_history[0][name]
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_microbatch_numbers_that_do_not_fit_are_mistakes():
  with pytest.raises(ValueError, match="num_microbatches is 0"):
    Run(one_device(), num_microbatches=0)
  with pytest.raises(ValueError, match="num_microbatches = 3 does not divide"):
    Run(one_device(), num_microbatches=3).lowered_text()
  # 16 rows are 4 parts of 4 on one device, but 2 rows on each of 8.
  with pytest.raises(ValueError, match="the 2 rows .* multiple of 32"):
    Run(Partitioner(), num_microbatches=4).lowered_text()
