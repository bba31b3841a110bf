"""A run that is stopped and restored ends where the uninterrupted one ends."""

import types

import jax
import jax.numpy as jnp
import numpy as np

from t2tjax import checkpoint, models, networks, optim, partitioning
from t2tjax import state as state_lib
from t2tjax.trainer import step as step_lib

VOCABULARY = types.SimpleNamespace(vocab_size=32, eos_id=1)


def make_model(scan_layers=False):
  config = networks.T5Config(
    vocab_size=32,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=2,
    dropout_rate=0.1,
    scan_layers=scan_layers,
  )
  return models.EncoderDecoderModel(
    module=networks.EncoderDecoder(config),
    input_vocabulary=VOCABULARY,
    output_vocabulary=VOCABULARY,
    optimizer_def=optim.Adafactor(min_dim_size_to_factor=8),
  )


def batch_of(step):
  rng = np.random.default_rng(step)
  tokens = lambda length: rng.integers(2, 32, size=(8, length), dtype=np.int32)  # noqa: E731
  targets = tokens(6)
  return {
    "encoder_input_tokens": tokens(8),
    "decoder_target_tokens": targets,
    "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
    "decoder_loss_weights": np.ones((8, 6), np.float32),
  }


class Run:
  """Model, mesh and compiled step."""

  def __init__(self, preset, mesh_shape, scan_layers=False):
    model = make_model(scan_layers)
    self.partitioner = partitioning.Partitioner(
      preset=preset, mesh_shape=mesh_shape
    )
    spec = {
      name: jax.ShapeDtypeStruct(value.shape, value.dtype)
      for name, value in batch_of(0).items()
    }
    optimizer = model.optimizer_def
    abstract, axes = state_lib.abstract_state(model, optimizer, spec)
    self.shardings = state_lib.state_shardings(self.partitioner, abstract, axes)
    self.abstract = jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding
      ),
      abstract,
      self.shardings,
    )
    self.init = lambda: state_lib.init_state(
      model, optimizer, spec, self.partitioner, seed=0
    )
    train_step = step_lib.make_train_step(
      model, optimizer, axes, lambda step: jnp.float32(0.01)
    )
    self._step = step_lib.jit_train_step(
      train_step, self.partitioner, self.shardings
    )

  def train(self, state, steps, after_step=lambda state: None):
    with self.partitioner.activate():
      for _ in range(steps):
        batch = jax.device_put(
          batch_of(int(state.step)), self.partitioner.batch_sharding
        )
        state, _ = self._step(state, batch)
        after_step(state)
    return state


def assert_equal(got, want):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_resumed_run_ends_bit_identical_to_the_uninterrupted_one(tmp_path):
  run = Run("fsdp", {"fsdp": 4, "data": 2})
  with checkpoint.Checkpointer(
    tmp_path, checkpoint.SaveCheckpointConfig(keep=None)
  ) as checkpointer:
    # The state given to the step is donated while it is being saved.
    whole = run.train(
      run.init(), 5, lambda state: checkpointer.save(int(state.step), state)
    )
  reader = checkpoint.Checkpointer(tmp_path)
  assert reader.all_steps() == [1, 2, 3, 4, 5]
  for stop in (2, 4):
    state, _, _ = reader.restore(run.abstract, stop)
    assert jax.tree.structure(state) == jax.tree.structure(whole)
    assert_equal(run.train(state, 5 - stop), whole)
  other = Run("tensor", {"model": 2, "data": 4})
  moved, _, _ = reader.restore(other.abstract)
  assert_equal(moved, whole)
  for leaf, sharding in zip(
    jax.tree.leaves(moved), jax.tree.leaves(other.shardings), strict=True
  ):
    assert leaf.sharding == sharding


def test_a_run_of_unrolled_layers_goes_on_with_scanned_ones(tmp_path):
  unrolled = Run("data", {"data": 8})
  scanned = Run("data", {"data": 8}, scan_layers=True)
  with checkpoint.Checkpointer(
    tmp_path, checkpoint.SaveCheckpointConfig()
  ) as checkpointer:
    rng = np.random.default_rng(0)
    state = jax.tree.map(
      lambda leaf: jax.device_put(
        rng.normal(size=leaf.shape).astype(leaf.dtype), leaf.sharding
      ),
      unrolled.abstract,
    )
    checkpointer.save(2, state)
  restored, _, _ = checkpoint.Checkpointer(tmp_path).restore(scanned.abstract)
  np.testing.assert_array_equal(
    restored.params["decoder"]["layers"]["mlp"]["wo"]["kernel"][1],
    state.params["decoder"]["layers_1"]["mlp"]["wo"]["kernel"],
  )
  with checkpoint.Checkpointer(
    tmp_path, checkpoint.SaveCheckpointConfig()
  ) as checkpointer:
    checkpointer.save(3, restored)
  back, _, _ = checkpoint.Checkpointer(tmp_path).restore(unrolled.abstract)
  assert_equal(back, state)
