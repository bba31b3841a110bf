"""The state is made in its shards, and does not depend on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import BATCH_SPEC, tiny_model

from t2tjax import optim, trees
from t2tjax.partitioning import Partitioner
from t2tjax.state import abstract_state, init_state, state_shardings


def initial(partitioner, *, seed=0, **overrides):
  return init_state(
    tiny_model(**overrides),
    optim.Adafactor(min_dim_size_to_factor=8),
    BATCH_SPEC,
    partitioner,
    seed=seed,
  )


@pytest.mark.parametrize("scan_layers", [False, True])
def test_random_numbers_do_not_depend_on_the_mesh(scan_layers):
  expected = initial(
    Partitioner(devices=jax.devices()[:1]), scan_layers=scan_layers
  )
  meshes = [
    Partitioner(mesh_shape={"fsdp": 8}, preset="fsdp"),
    Partitioner(mesh_shape={"fsdp": 2, "model": 4}, preset="fsdp+tensor"),
  ]
  for partitioner in meshes:
    got = initial(partitioner, scan_layers=scan_layers)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_parameters_depend_on_the_seed():
  partitioner = Partitioner()
  one, other = (initial(partitioner, seed=seed).params for seed in (0, 1))
  kernels = [
    p["encoder"]["layers_0"]["mlp"]["wo"]["kernel"] for p in (one, other)
  ]
  assert not np.allclose(*kernels)


def test_arrays_are_born_in_their_shards():
  partitioner = Partitioner(
    mesh_shape={"fsdp": 4, "model": 2}, preset="fsdp+tensor"
  )
  state = initial(partitioner)
  kernel = state.params["decoder"]["layers_0"]["mlp"]["wi_0"]["kernel"]
  assert {s.data.shape for s in kernel.addressable_shards} == {(4, 16)}
  row = state.opt_state["decoder"]["layers_0"]["mlp"]["wi_0"]["kernel"]["v_row"]
  assert {s.data.shape for s in row.addressable_shards} == {(4,)}


def test_abstract_state_is_the_real_one_without_arrays():
  optimizer = optim.AdamW()
  abstract, axes = abstract_state(tiny_model(), optimizer, BATCH_SPEC)
  assert all(
    isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(abstract)
  )
  state = init_state(tiny_model(), optimizer, BATCH_SPEC, Partitioner())

  def shape(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

  assert shape(state) == shape(abstract)
  assert state.step.dtype == jnp.int32 and state.step == 0
  assert axes.params["token_embedder"]["embedding"] == ("vocab", "embed")
  assert axes.opt_state["nu"] == axes.params


def test_scanned_parameters_have_a_layers_axis_in_front():
  _, axes = abstract_state(
    tiny_model(scan_layers=True), optim.Adafactor(), BATCH_SPEC
  )
  assert axes.params["encoder"]["layers"]["mlp"]["wo"]["kernel"] == (
    "layers",
    "mlp",
    "embed",
  )


def test_indivisible_state_is_found_before_compilation():
  abstract, axes = abstract_state(tiny_model(), optim.AdamW(), BATCH_SPEC)
  partitioner = Partitioner(
    mesh_shape={"model": 3}, preset="tensor", devices=jax.devices()[:3]
  )
  with pytest.raises(ValueError, match=r"params/decoder/.* 3 equal parts"):
    state_shardings(partitioner, abstract, axes)


def test_no_parameter_leaves_its_box_or_name_behind():
  abstract, axes = abstract_state(tiny_model(), optim.Adafactor(), BATCH_SPEC)
  names = [name for name, _ in trees.named_leaves(abstract.params)]
  assert "encoder/layers_0/attention/query/kernel" in names
  for name, leaf in trees.named_leaves(
    trees.map_named(
      lambda _, x, a: np.int32(len(a) - len(x.shape)),
      abstract.params,
      axes.params,
    )
  ):
    assert leaf == 0, name
