"""Mesh shapes, rules, shardings and the mistakes users make with them."""

import types

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from t2tjax import partitioning
from t2tjax.layers.sharding import constrain
from t2tjax.partitioning import mesh as mesh_lib
from t2tjax.partitioning import partitioner as partitioner_lib


def sizes(mesh):
  return {axis: n for axis, n in mesh.shape.items() if n > 1}


@pytest.mark.parametrize(
  ("preset", "expected"),
  [
    ("data", {"data": 8}),
    ("fsdp", {"fsdp": 8}),
    ("tensor", {"data": 4, "model": 2}),
    ("fsdp+tensor", {"fsdp": 4, "model": 2}),
    ("sequence", {"data": 4, "sequence": 2}),
  ],
)
def test_every_preset_uses_all_devices_by_default(preset, expected):
  mesh = partitioning.Partitioner(preset=preset).mesh
  assert sizes(mesh) == expected
  assert set(mesh.axis_types) == {AxisType.Auto}
  one = partitioning.Partitioner(preset=preset, devices=jax.devices()[:1])
  assert sizes(one.mesh) == {}


def test_minus_one_takes_the_devices_that_are_left():
  partitioner = partitioning.Partitioner(
    mesh_shape={"replica": 2, "fsdp": -1, "model": 2}, preset="fsdp+tensor"
  )
  assert sizes(partitioner.mesh) == {"replica": 2, "fsdp": 2, "model": 2}


@pytest.mark.parametrize(
  ("shape", "advice"),
  [
    ({"model": 2}, "{'model': 2, 'data': -1}"),
    ({"data": 3}, "{'data': -1}"),
    ({"model": 16}, "{'data': -1, 'model': 8}"),
    ({"data": 2, "model": 2}, "{'data': -1, 'model': 2}"),
    ({"data": -1, "model": 6}, "{'data': -1, 'model': 2}"),
    ({"fsdp": 6, "model": 12}, "{'data': -1, 'fsdp': 2, 'model': 4}"),
  ],
)
def test_bad_mesh_shape_names_the_device_count_and_what_to_write(shape, advice):
  partitioner = partitioning.Partitioner(mesh_shape=shape, preset="fsdp+tensor")
  with pytest.raises(ValueError, match="there are 8 devices") as error:
    _ = partitioner.mesh
  assert f"Partitioner.mesh_shape = {advice}" in str(error.value)
  # What it says works.
  mesh_lib.complete_mesh_shape(eval(advice), 8)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"mesh_shape": {"modle": 2}}, "names the mesh axis 'modle'; the axes"),
    ({"mesh_shape": {"data": 0}}, "axis 'data' the size 0"),
    ({"mesh_shape": {"data": -1, "fsdp": -1}}, "at most one axis"),
    ({"preset": "zero"}, "preset is 'zero'; the presets are 'data'"),
    ({"mesh_shape": {"data": -1, "model": 2}}, "preset = 'tensor'"),
    ({"mesh_shape": {"expert": 2}}, "a rule for 'expert'"),
    (
      {"logical_axis_rules": (("embed", "modle"),)},
      "maps 'embed' to 'modle'",
    ),
  ],
)
def test_mistakes_are_found_before_any_device_is_used(arguments, message):
  with pytest.raises(ValueError, match=message):
    partitioning.Partitioner(**arguments)


@pytest.mark.parametrize(
  ("preset", "axes", "expected"),
  [
    ("data", ("embed", "mlp"), P(None, None)),
    ("data", ("batch", "length", "embed"), P("data", None, None)),
    ("fsdp", ("embed", "mlp"), P("fsdp", None)),
    ("fsdp", ("batch", "length", "embed"), P("fsdp", None, None)),
    ("tensor", ("embed", "mlp"), P(None, "model")),
    ("tensor", ("joined_kv", "embed"), P("model", None)),
    ("fsdp+tensor", ("vocab", "embed"), P("model", "fsdp")),
    ("fsdp+tensor", ("layers", "embed", "mlp"), P(None, "fsdp", "model")),
    ("sequence", ("batch", "length", "embed"), P("data", "sequence", None)),
    ("sequence", ("batch", "length", "mlp"), P("data", "sequence", None)),
  ],
)
def test_presets_shard_parameters_and_activations(preset, axes, expected):
  assert partitioning.Partitioner(preset=preset).mesh_axes(axes) == expected


def test_batch_is_cut_over_replica_data_and_fsdp():
  partitioner = partitioning.Partitioner(
    mesh_shape={"replica": 2, "data": 2, "fsdp": 2}, preset="fsdp"
  )
  assert partitioner.batch_sharding.spec == P(("replica", "data", "fsdp"))
  assert partitioner.num_batch_shards == 8


T5X_EMBED = {
  (1, 1): [],
  (2, 1): ["model"],
  (1, 2): ["data"],
  (2, 2): ["model", "data"],
}


@pytest.mark.parametrize("dims", T5X_EMBED)
def test_standard_rules_have_t5xs_meaning(dims):
  rules = partitioning.standard_logical_axis_rules(*dims, [("extra", "model")])
  partitioner = partitioning.Partitioner(
    mesh_shape={"data": 4, "model": 2}, logical_axis_rules=rules
  )
  assert [a for n, a in rules if n == "embed" and a] == T5X_EMBED[dims]
  # The table in T5X's partitioning documentation.
  activation = {1: None, 2: "model"}[dims[0]]
  parameter = {1: None, 2: "data"}[dims[1]]
  expect = partitioner.mesh_axes
  assert expect(("batch", "length", "embed")) == P("data", None, activation)
  assert expect(("embed", "mlp")) == P(parameter, "model")
  assert expect(("batch", "length", "heads", "kv")) == P(
    "data", None, "model", None
  )
  assert expect(("extra",)) == P("model")
  with pytest.raises(ValueError, match="activation_partitioning_dims is 3"):
    partitioning.standard_logical_axis_rules(activation_partitioning_dims=3)


def test_indivisible_parameter_names_dimension_and_mesh_axis():
  partitioner = partitioning.Partitioner(
    mesh_shape={"data": -1, "model": 4}, preset="tensor"
  )
  params = {"mlp": {"kernel": jax.ShapeDtypeStruct((16, 6), jnp.float32)}}
  axes = {"mlp": {"kernel": ("embed", "mlp")}}
  with pytest.raises(ValueError) as error:
    partitioner.shardings(axes, params)
  for part in ("mlp/kernel", "dimension 1", "size 6", "4 equal", "'model'"):
    assert part in str(error.value)
  with pytest.raises(ValueError, match="one name per dimension"):
    partitioner.shardings({"mlp": {"kernel": ("mlp",)}}, params)


def test_activate_makes_constraints_reach_the_compiler():
  partitioner = partitioning.Partitioner(preset="fsdp")
  with partitioner.activate():
    text = (
      jax.jit(lambda x: constrain(x * 2, ("batch", "embed")))
      .lower(jnp.ones((8, 8)))
      .as_text()
    )
  assert "sharding_constraint" in text and "fsdp" in text
  assert not nn.get_logical_axis_rules()


@pytest.mark.parametrize(
  "shape", [{"data": 8}, {"data": 4, "model": 2}, {"replica": 2, "fsdp": 4}]
)
def test_layout_of_one_process_is_the_whole_batch(shape):
  partitioner = partitioning.Partitioner(mesh_shape=shape, preset="fsdp+tensor")
  layout = partitioner.data_layout(16)
  np.testing.assert_array_equal(layout.rows, np.arange(16))
  assert layout.num_rows == 16 and layout.is_primary


def test_layouts_of_all_processes_cover_the_batch_once(monkeypatch):
  devices = np.array(
    [types.SimpleNamespace(process_index=i // 2, id=i) for i in range(8)]
  )

  def layouts(sharding_rows):
    fake = types.SimpleNamespace(
      spec=P("data"),
      devices_indices_map=lambda shape: dict(
        zip(devices_keys, sharding_rows, strict=True)
      ),
    )
    monkeypatch.setattr(
      partitioner_lib.Partitioner, "batch_sharding", property(lambda _: fake)
    )
    for process in range(4):
      monkeypatch.setattr(jax, "process_index", lambda p=process: p)
      yield partitioning.Partitioner().data_layout(16)

  class Key:
    def __init__(self, device):
      self.process_index = device.process_index

  devices_keys = [Key(device) for device in devices]
  two_rows = [(slice(2 * i, 2 * i + 2),) for i in range(8)]
  by_data = list(layouts(two_rows))
  assert [row for layout in by_data for row in layout.rows] == list(range(16))
  assert by_data[1].row_ranges == ((4, 6), (6, 8))
  # `model` spans two processes: they feed the same rows, one is primary.
  shared = [(slice(8 * (i // 4), 8 * (i // 4) + 8),) for i in range(8)]
  by_model = list(layouts(shared))
  assert [layout.row_ranges for layout in by_model] == [((0, 8),)] * 2 + [
    ((8, 16),)
  ] * 2
  assert [layout.is_primary for layout in by_model] == [True, False] * 2


def test_bad_batch_size_says_what_to_write():
  with pytest.raises(ValueError, match=r"DatasetConfig.batch_size = 8"):
    partitioning.Partitioner().data_layout(12)
  with pytest.raises(ValueError, match=r"8 equal parts"):
    partitioning.Partitioner().data_layout(0)


def test_slices_are_spanned_by_the_outermost_axis_that_fits():
  complete = mesh_lib.complete_mesh_shape({"data": 6, "fsdp": 4}, 24)
  within, across = mesh_lib.split_over_slices(complete, 2)
  assert (within["data"], across["data"], across["fsdp"]) == (3, 2, 1)
  within, across = mesh_lib.split_over_slices(complete, 4)
  assert (within["fsdp"], across["fsdp"], across["data"]) == (1, 4, 1)
  with pytest.raises(ValueError, match="'replica': 5"):
    mesh_lib.split_over_slices(complete, 5)


def test_sharding_table_shows_what_each_device_holds():
  from rich.console import Console

  partitioner = partitioning.Partitioner(
    mesh_shape={"fsdp": 4, "model": 2}, preset="fsdp+tensor"
  )
  params = {
    "mlp": {"wi": {"kernel": jax.ShapeDtypeStruct((16, 32), jnp.float32)}},
    "norm": {"scale": jax.ShapeDtypeStruct((16,), jnp.bfloat16)},
  }
  axes = {
    "mlp": {"wi": {"kernel": ("embed", "mlp")}},
    "norm": {"scale": ("embed",)},
  }
  console = Console(width=120, record=True, file=open("/dev/null", "w"))
  console.print(partitioning.sharding_table(partitioner, params, axes))
  text = console.export_text()
  row = next(line for line in text.splitlines() if "mlp/wi/kernel" in line)
  for cell in ("16 x 32", "embed, mlp", "fsdp, model", "256"):
    assert cell in row
  # 16 * 32 * 4 bytes / 8 devices + 16 * 2 bytes / 4 devices; 528 elements.
  assert "264" in text and "528" in text and "'fsdp': 4" in text
