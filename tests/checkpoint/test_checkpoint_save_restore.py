"""What is saved comes back, on any mesh, scanned or not, whole or partly."""

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from t2tjax import checkpoint


@struct.dataclass
class State:
  step: jax.Array
  params: dict
  opt_state: tuple


def make_state(seed=0, step=7):
  rng = np.random.default_rng(seed)
  params = {
    "token_embedder": {"embedding": rng.normal(size=(16, 8))},
    "decoder": {
      "layers_0": {"mlp": {"wo": {"kernel": rng.normal(size=(8, 4))}}},
      "layers_1": {"mlp": {"wo": {"kernel": rng.normal(size=(8, 4))}}},
    },
  }
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
  opt_state = (
    {"count": jnp.asarray(3, jnp.int32)},
    jax.tree.map(lambda x: x * 2, params),
    (),
  )
  return State(
    step=jnp.asarray(step, jnp.int32), params=params, opt_state=opt_state
  )


def abstract(tree, sharding=None):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


def assert_equal(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def saver(path, **kwargs):
  config = checkpoint.SaveCheckpointConfig(**kwargs)
  return checkpoint.Checkpointer(path, config)


def test_everything_saved_comes_back_bit_equal(tmp_path):
  state = make_state()
  feed = {"position": 12, "iterator": b"\x00\xff", "nested": [1, "a", None]}
  metadata = {"vocabulary": {"fingerprint": "abc"}, "seed": np.int64(3)}
  with saver(tmp_path) as checkpointer:
    assert checkpointer.save(7, state, feed_state=feed, metadata=metadata)
  reader = checkpoint.Checkpointer(tmp_path)
  got, got_feed, got_metadata = reader.restore(abstract(state))
  assert_equal(got, state)
  assert got_feed == feed
  assert got_metadata == {"vocabulary": {"fingerprint": "abc"}, "seed": 3}


def test_a_checkpoint_restores_onto_another_mesh(tmp_path):
  state = make_state()
  eight = jax.make_mesh(
    (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  four = jax.make_mesh(
    (2, 2),
    ("data", "model"),
    devices=jax.devices()[:4],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
  sharded = jax.device_put(state.params, NamedSharding(eight, P("data")))
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state.replace(params=sharded))
  target = abstract(state, NamedSharding(four, P()))
  wanted = NamedSharding(four, P("model", "data"))
  target = target.replace(params=abstract(state.params, wanted))
  got, _, _ = checkpoint.Checkpointer(tmp_path).restore(target)
  assert_equal(got, state)
  for leaf in jax.tree.leaves(got.params):
    assert leaf.sharding == wanted


def stack_layers(tree):
  decoder = tree["decoder"]
  layers = [decoder["layers_0"], decoder["layers_1"]]
  stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *layers)
  return tree | {"decoder": {"layers": stacked}}


@pytest.mark.parametrize("scanned_is_stored", [False, True])
def test_turning_scan_on_or_off_keeps_the_checkpoint(
  tmp_path, scanned_is_stored
):
  unrolled = make_state()
  scanned = unrolled.replace(
    params=stack_layers(unrolled.params),
    opt_state=(unrolled.opt_state[0], stack_layers(unrolled.opt_state[1]), ()),
  )
  stored, wanted = unrolled, scanned
  if scanned_is_stored:
    stored, wanted = wanted, stored
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, stored)
  mesh = jax.make_mesh(
    (4,),
    ("data",),
    devices=jax.devices()[:4],
    axis_types=(jax.sharding.AxisType.Auto,),
  )
  axis = -1 if not scanned_is_stored else 0
  spec = [None, None, None] if axis == -1 else [None, None]
  spec[axis] = "data"
  target = abstract(wanted, NamedSharding(mesh, P()))
  kernels = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, P(*spec))
    ),
    wanted.params["decoder"],
  )
  target.params["decoder"] = kernels
  got, _, _ = checkpoint.Checkpointer(tmp_path).restore(target)
  assert_equal(got, wanted)
  for leaf in jax.tree.leaves(got.params["decoder"]):
    assert leaf.sharding.spec == P(*spec)


def test_a_scanned_model_with_fewer_layers_is_refused(tmp_path):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state)
  one = {
    "decoder": {"layers": {"mlp": {"wo": {"kernel": jnp.zeros((1, 8, 4))}}}}
  }
  with pytest.raises(ValueError, match=r"stored \[2, 8, 4\].* \[1, 8, 4\]"):
    checkpoint.restore_params(tmp_path / "checkpoint_1", abstract(one))


@pytest.mark.parametrize("sharded", [False, True])
def test_donating_the_state_while_it_is_being_saved_changes_nothing(
  tmp_path, sharded
):
  mesh = jax.make_mesh(
    (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharding = NamedSharding(mesh, P("data")) if sharded else None
  state = {
    "params": {
      f"w{i}": jax.device_put(jnp.full((512, 512), float(i)), sharding)
      for i in range(8)
    }
  }
  train = jax.jit(
    lambda s: jax.tree.map(lambda x: x * 1.5 + 1.0, s), donate_argnums=0
  )
  saved = {}
  with saver(tmp_path, keep=None) as checkpointer:
    for step in range(1, 6):
      state = train(state)
      saved[step] = jax.tree.map(lambda x: np.array(x, copy=True), state)
      checkpointer.save(step, state)
      for _ in range(3):
        state = train(state)
      jax.block_until_ready(state)
  reader = checkpoint.Checkpointer(tmp_path)
  for step, want in saved.items():
    got, _, _ = reader.restore(abstract(state), step)
    assert_equal(got, want)


def test_a_state_of_another_shape_or_name_is_refused_with_all_names(tmp_path):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state)
  other = make_state()
  other.params["token_embedder"]["embedding"] = jnp.zeros((16, 9))
  other.params["decoder"]["extra"] = jnp.zeros((2,))
  with pytest.raises(ValueError) as error:
    checkpoint.Checkpointer(tmp_path).restore(abstract(other))
  message = str(error.value)
  assert "params/token_embedder/embedding: stored [16, 8], the model has" in (
    message
  )
  assert "not stored: params/decoder/extra" in message


def test_params_alone_are_restored_with_another_dtype(tmp_path):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state)
  got = checkpoint.restore_params(
    tmp_path, abstract(state.params), mode="latest", dtype="bfloat16"
  )
  assert_equal(
    got, jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params)
  )


def test_params_stored_as_bfloat16_leave_the_optimizer_state_exact(tmp_path):
  state = make_state()
  with saver(tmp_path, dtype="bfloat16") as checkpointer:
    checkpointer.save(1, state)
  got, _, _ = checkpoint.Checkpointer(tmp_path).restore(abstract(state))
  rounded = jax.tree.map(
    lambda x: x.astype(jnp.bfloat16).astype(x.dtype), state.params
  )
  assert_equal(got, state.replace(params=rounded))


def test_an_assignment_map_renames_and_leaves_out(tmp_path):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state)
  model = {
    "token_embedder": {"embedding": jnp.full((5, 8), 9.0)},
    "tower": {"layers_1": {"mlp": {"wo": {"kernel": jnp.zeros((8, 4))}}}},
  }
  got = checkpoint.restore_params(
    tmp_path / "checkpoint_1",
    abstract(model),
    assignment_map=[
      (r"tower/(.*)", r"decoder/\1"),
      (r"token_embedder/.*", None),
    ],
    initial_params=lambda: model,
  )
  assert_equal(
    got,
    {
      "token_embedder": model["token_embedder"],
      "tower": {"layers_1": state.params["decoder"]["layers_1"]},
    },
  )


def test_a_parameter_that_is_not_stored_needs_strict_false(tmp_path):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state)
  model = state.params | {"lora": jnp.ones((2,))}
  path = tmp_path / "checkpoint_1"
  with pytest.raises(ValueError, match="not stored: params/lora"):
    checkpoint.restore_params(path, abstract(model))
  got = checkpoint.restore_params(
    path, abstract(model), strict=False, initial_params=lambda: model
  )
  assert_equal(got, model)


def test_an_assignment_that_matches_nothing_is_an_error(tmp_path):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state)
  with pytest.raises(ValueError, match="no parameter matches 'encodr"):
    checkpoint.restore_params(
      tmp_path / "checkpoint_1",
      abstract(state.params),
      assignment_map=[("encodr/.*", None)],
    )


def test_a_run_directory_needs_mode_latest_and_the_error_lists_it(tmp_path):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(10, state)
    checkpointer.save(20, state.replace(step=state.step + 1))
  target = abstract(state.params)
  with pytest.raises(ValueError, match="holds checkpoint_10, checkpoint_20"):
    checkpoint.restore_params(tmp_path, target)
  with pytest.raises(ValueError, match="holds checkpoint_10, checkpoint_20"):
    checkpoint.restore_params(tmp_path / "checkpoint_15", target)
  with pytest.raises(ValueError, match="There is no checkpoint_11: .*_10"):
    checkpoint.Checkpointer(tmp_path).restore(abstract(state), 11)
  with pytest.raises(ValueError, match="There is no checkpoint to restore"):
    checkpoint.Checkpointer(tmp_path / "none").restore(abstract(state))


def test_other_vocabularies_are_refused_naming_both():
  stored = {"vocabularies": {"inputs": "aaa", "targets": "aaa"}, "x": 1}
  checkpoint.check_metadata(
    stored, {"vocabularies": {"inputs": "aaa"}}, path="p", change="c"
  )
  checkpoint.check_metadata(stored, {"new": 1}, path="p", change="c")
  with pytest.raises(ValueError) as error:
    checkpoint.check_metadata(
      stored,
      {"vocabularies": {"inputs": "bbb", "targets": "aaa"}},
      path="runs/1/checkpoint_5",
      change="Set VOCABULARY to the stored one",
    )
  message = str(error.value)
  assert "runs/1/checkpoint_5" in message
  assert (
    "vocabularies.inputs: the checkpoint has 'aaa', this run has 'bbb'"
    in (message)
  )
  assert "Set VOCABULARY" in message
  assert "targets" not in message


@pytest.mark.parametrize(
  "make",
  [
    lambda: checkpoint.SaveCheckpointConfig(keep=0),
    lambda: checkpoint.SaveCheckpointConfig(best_mode="highest"),
    lambda: checkpoint.SaveCheckpointConfig(dtype="int8"),
    lambda: checkpoint.RestoreCheckpointConfig(path="x", mode="newest"),
    lambda: checkpoint.RestoreCheckpointConfig(path="x", dtype="fp32"),
  ],
)
def test_a_wrong_setting_is_refused_with_its_name(make):
  with pytest.raises(ValueError, match="CheckpointConfig.* = "):
    make()


def test_a_checkpoint_of_another_run_is_read_whole_or_its_metadata_alone(
  tmp_path,
):
  state = make_state()
  with saver(tmp_path) as checkpointer:
    checkpointer.save(1, state, metadata={"seed": 1})
    checkpointer.save(
      2, state, feed_state={"position": 5}, metadata={"seed": 2}
    )
  assert checkpoint.read_metadata(tmp_path / "checkpoint_1") == {"seed": 1}
  assert checkpoint.read_metadata(tmp_path, mode="latest") == {"seed": 2}
  got, feed, metadata = checkpoint.restore_state(
    tmp_path, abstract(state), mode="latest"
  )
  assert_equal(got, state)
  assert (feed, metadata) == ({"position": 5}, {"seed": 2})


def test_a_relative_run_directory_works(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  state = make_state()
  with saver("runs/1") as checkpointer:
    checkpointer.save(1, state)
  got = checkpoint.restore_params("runs/1/checkpoint_1", abstract(state.params))
  assert_equal(got, state.params)


def test_the_mode_all_is_left_to_evaluation(tmp_path):
  with pytest.raises(ValueError, match="'all' is for evaluate"):
    checkpoint.restore_params(tmp_path, {}, mode="all")
