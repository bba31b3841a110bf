"""T5X's `partitioning`. May import: `partitioning`."""

from collections.abc import Sequence
import math
from typing import Any

from t2tjax import partitioning
from t2tjax.compat.t5x import notices


def standard_logical_axis_rules(
  activation_partitioning_dims: int = 1,
  parameter_partitioning_dims: int = 1,
  additional_rules: Sequence[tuple[str, Any]] | None = None,
) -> Any:
  """Returns `partitioning.standard_logical_axis_rules`."""
  return partitioning.standard_logical_axis_rules(
    activation_partitioning_dims,
    parameter_partitioning_dims,
    additional_rules or (),
  )


def PjitPartitioner(  # noqa: N802
  num_partitions: int | None = None,
  model_parallel_submesh: Sequence[int] | None = None,
  params_on_devices: bool = True,
  backend: str | None = None,
  ici_mesh_shape: Sequence[int] | None = None,
  dcn_mesh_shape: Sequence[int] | None = None,
  logical_axis_rules: Sequence[tuple[str, Any]] | None = None,
) -> partitioning.Partitioner:
  """Returns a partitioner with T5X's mesh of `data` and `model`.

  Args:
    num_partitions: devices that share a model.
    model_parallel_submesh: (x, y, z, cores) of them; only their number counts
      here, devices are placed by what the network between them is.
    params_on_devices: parameters always are.
    backend: devices are those of JAX_PLATFORMS.
    ici_mesh_shape: (replica, data, model) within a slice.
    dcn_mesh_shape: (replica, data, model) across slices.
    logical_axis_rules: T5X's standard rules by default.
  """
  if not params_on_devices:
    notices.without_effect(
      "partitioning.PjitPartitioner.params_on_devices = False",
      "parameters are on the devices",
    )
  if backend is not None:
    notices.without_effect(
      "partitioning.PjitPartitioner.backend",
      "devices are those of JAX_PLATFORMS",
    )
  rules = logical_axis_rules or standard_logical_axis_rules()
  if ici_mesh_shape is not None and dcn_mesh_shape is not None:
    names = ("replica", "data", "model")
    shape = {
      name: ici * dcn
      for name, ici, dcn in zip(
        names, ici_mesh_shape, dcn_mesh_shape, strict=True
      )
    }
    return partitioning.Partitioner(mesh_shape=shape, logical_axis_rules=rules)
  if num_partitions and model_parallel_submesh:
    raise ValueError(
      f"PjitPartitioner.num_partitions = {num_partitions} and "
      f"model_parallel_submesh = {tuple(model_parallel_submesh)}: at most one "
      "can be set."
    )
  size = num_partitions or 1
  if model_parallel_submesh:
    size = math.prod(model_parallel_submesh)
  return partitioning.Partitioner(
    mesh_shape={"data": -1, "model": size}, logical_axis_rules=rules
  )
