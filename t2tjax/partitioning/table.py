"""The sharding table: what every parameter costs on each device.

Called by `--dry_run`. May import: layer 0.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
from jax.sharding import PartitionSpec

from t2tjax import trees
from t2tjax.partitioning.partitioner import Partitioner
from t2tjax.typing import LogicalAxes, PyTree

if TYPE_CHECKING:
  from rich.table import Table


@dataclasses.dataclass(frozen=True)
class ParameterRow:
  """One parameter as it lies on the mesh.

  Attributes:
    name: `decoder/layers_0/mlp/wo/kernel`.
    shape: global shape.
    logical_axes: one name per dimension.
    mesh_axes: one entry per dimension.
    device_bytes: bytes that one device holds.
  """

  name: str
  shape: tuple[int, ...]
  logical_axes: LogicalAxes
  mesh_axes: PartitionSpec
  device_bytes: int


def sharding_rows(
  partitioner: Partitioner, abstract_params: PyTree, axes: PyTree
) -> list[ParameterRow]:
  """Returns one row per parameter, in the tree's order."""
  shardings = partitioner.shardings(axes, abstract_params)
  rows = trees.map_named(
    lambda name, array, logical_axes, sharding: ParameterRow(
      name,
      tuple(array.shape),
      logical_axes,
      sharding.spec,
      math.prod(sharding.shard_shape(array.shape)) * array.dtype.itemsize,
    ),
    abstract_params,
    axes,
    shardings,
  )
  return jax.tree.leaves(rows)


def sharding_table(
  partitioner: Partitioner, abstract_params: PyTree, axes: PyTree
) -> "Table":
  """Returns a rich table of all parameters, with totals in the footer.

  Args:
    partitioner: gives mesh and rules.
    abstract_params: arrays or `ShapeDtypeStruct`s.
    axes: the `LogicalAxes` of each.
  """
  from rich.table import Table  # Only a dry run pays for its import.

  rows = sharding_rows(partitioner, abstract_params, axes)
  mesh = {a: n for a, n in partitioner.mesh.shape.items() if n > 1}
  table = Table(
    title=f"Parameters on the mesh {mesh or 'of one device'}",
    show_footer=True,
  )
  count = sum(math.prod(row.shape) for row in rows)
  table.add_column("parameter", footer=f"{len(rows)} arrays", overflow="fold")
  table.add_column("shape", footer=f"{count:,}")
  table.add_column("logical axes")
  table.add_column("mesh axes")
  table.add_column(
    "bytes/device",
    footer=f"{sum(row.device_bytes for row in rows):,}",
    justify="right",
  )
  for row in rows:
    table.add_row(
      row.name,
      " x ".join(map(str, row.shape)) or "scalar",
      ", ".join(str(axis) for axis in row.logical_axes),
      ", ".join("-" if a is None else str(a) for a in row.mesh_axes),
      f"{row.device_bytes:,}",
    )
  return table
