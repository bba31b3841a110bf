"""The partitioner: a mesh, the rules, and every sharding of a run.

Called by run functions, trainer and checkpointing. May import: layer 0 and 1.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import math
from typing import Any

from flax import linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from t2tjax import trees
from t2tjax.partitioning import mesh as mesh_lib
from t2tjax.partitioning import rules as rules_lib
from t2tjax.typing import LogicalAxes, PyTree


@dataclasses.dataclass(frozen=True)
class DataLayout:
  """Which rows of the global batch this process feeds.

  Attributes:
    batch_size: rows of the global batch.
    row_ranges: sorted, disjoint `(start, stop)` ranges of this process's rows.
    is_primary: whether this is the lowest of the processes that hold these
      rows; where `model` spans processes, several hold the same.
  """

  batch_size: int
  row_ranges: tuple[tuple[int, int], ...]
  is_primary: bool = True

  @property
  def rows(self) -> np.ndarray:
    """Global row numbers of this process, ascending."""
    return np.concatenate([np.arange(*r) for r in self.row_ranges])

  @property
  def num_rows(self) -> int:
    """Number of rows that this process feeds."""
    return sum(stop - start for start, stop in self.row_ranges)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Partitioner:
  """Decides how a run is spread over devices.

  Devices are looked up at the first use of `mesh`, so that a partitioner can
  be made before `distributed.initialize()`.

  Attributes:
    mesh_shape: size of each mesh axis; absent axes are 1, one may be -1 (the
      devices that are left). By default the preset decides.
    preset: `data`, `fsdp`, `tensor`, `fsdp+tensor` or `sequence`.
    logical_axis_rules: used instead of the preset's rules.
    devices: all devices by default; a compile-only topology's for planning.
  """

  mesh_shape: Mapping[str, int] | None = None
  preset: str = "data"
  logical_axis_rules: Sequence[tuple[str, rules_lib.MeshAxes]] | None = None
  devices: Sequence[jax.Device] | None = None

  def __post_init__(self):
    if self.preset not in rules_lib.PRESETS:
      raise ValueError(
        f"Partitioner.preset is {self.preset!r}; the presets are "
        f"{', '.join(map(repr, rules_lib.PRESETS))}."
      )
    if self.mesh_shape is not None:
      mesh_lib.check_axis_names(self.mesh_shape)
    for name, axes in self.rules:
      for axis in _as_tuple(axes):
        if axis not in mesh_lib.MESH_AXES:
          raise ValueError(
            f"Partitioner.logical_axis_rules maps {name!r} to {axis!r}; the "
            f"mesh axes are {', '.join(mesh_lib.MESH_AXES)}."
          )
    self._check_axes_are_used()

  def _check_axes_are_used(self):
    used = {axis for _, axes in self.rules for axis in _as_tuple(axes)}
    for axis, size in (self.mesh_shape or {}).items():
      if size != 1 and axis not in used:
        presets = [
          name
          for name, rules in rules_lib.PRESETS.items()
          if any(axis in _as_tuple(axes) for _, axes in rules)
        ]
        advice = (
          f"Partitioner.preset = {presets[0]!r}"
          if presets
          else f"a rule for {axis!r} in Partitioner.logical_axis_rules"
        )
        raise ValueError(
          f"Partitioner.mesh_shape gives the axis {axis!r} size {size}, but "
          f"no rule of preset {self.preset!r} shards anything over it: its "
          f"devices would all compute the same. Remove it or write {advice}."
        )

  @functools.cached_property
  def mesh(self) -> Mesh:
    """The device mesh."""
    devices = list(jax.devices() if self.devices is None else self.devices)
    shape = self.mesh_shape
    if shape is None:
      # Twos of a default shape vanish on an odd number of devices.
      shape = {
        axis: size if size == -1 else math.gcd(size, len(devices))
        for axis, size in rules_lib.DEFAULT_MESH_SHAPES[self.preset].items()
      }
    return mesh_lib.make_mesh(shape, devices)

  @property
  def rules(self) -> rules_lib.LogicalAxisRules:
    """`(logical axis, mesh axes)` pairs, first match first."""
    if self.logical_axis_rules is None:
      return rules_lib.PRESETS[self.preset]
    return tuple(
      (name, axes if isinstance(axes, str | None) else tuple(axes))
      for name, axes in self.logical_axis_rules
    )

  @contextlib.contextmanager
  def activate(self) -> Iterator[Mesh]:
    """Makes mesh and rules current; entered once, in the run function."""
    with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.rules):
      yield self.mesh

  def mesh_axes(self, logical_axes: LogicalAxes) -> PartitionSpec:
    """Returns the mesh axes of an array, without those of size one."""
    spec = nn.logical_to_mesh_axes(logical_axes, self.rules)
    entries: list[rules_lib.MeshAxes] = []
    for axes in spec or ():
      kept = tuple(a for a in _as_tuple(axes) if self.mesh.shape[a] > 1)
      entries.append(kept if len(kept) > 1 else kept[0] if kept else None)
    return PartitionSpec(*entries)

  def sharding(self, logical_axes: LogicalAxes) -> NamedSharding:
    """Returns the sharding of an array with these logical axes."""
    return NamedSharding(self.mesh, self.mesh_axes(logical_axes))

  def shardings(self, axes_tree: PyTree, abstract_tree: PyTree) -> PyTree:
    """Returns the sharding of every leaf, after a check that it divides.

    Args:
      axes_tree: a tree of `LogicalAxes`.
      abstract_tree: the same tree of arrays or `ShapeDtypeStruct`s.

    Raises:
      ValueError: naming parameter, dimension and mesh axis.
    """

    def leaf_sharding(name, array, logical_axes):
      if len(logical_axes) != len(array.shape):
        raise ValueError(
          f"Parameter {name} has shape {tuple(array.shape)} but the logical "
          f"axes {logical_axes}: give one name per dimension."
        )
      spec = self.mesh_axes(logical_axes)
      for dim, (size, axes) in enumerate(zip(array.shape, spec, strict=True)):
        num_shards = math.prod(self.mesh.shape[a] for a in _as_tuple(axes))
        if size % num_shards:
          raise ValueError(
            f"Parameter {name} has shape {tuple(array.shape)}; its dimension "
            f"{dim} ({logical_axes[dim]}, size {size}) cannot be cut into "
            f"{num_shards} equal parts over the mesh axis {axes!r}. Make "
            f"{logical_axes[dim]} divisible by {num_shards}, choose another "
            "Partitioner.mesh_shape, or map "
            f"({logical_axes[dim]!r}, None) in "
            "Partitioner.logical_axis_rules."
          )
      return NamedSharding(self.mesh, spec)

    return trees.map_named(leaf_sharding, abstract_tree, axes_tree)

  @property
  def batch_sharding(self) -> NamedSharding:
    """The sharding of a feature [batch, length] as the feed hands it over."""
    return self.sharding(("batch",))

  @property
  def replicated(self) -> NamedSharding:
    """The sharding of what every device holds in full."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def num_batch_shards(self) -> int:
    """Into how many parts the batch is cut."""
    axes = _as_tuple(self.batch_sharding.spec[0])
    return math.prod(self.mesh.shape[axis] for axis in axes)

  def data_layout(self, batch_size: int) -> DataLayout:
    """Returns which rows of a global batch this process feeds.

    Raises:
      ValueError: if the rows do not divide evenly over the mesh.
    """
    if batch_size <= 0 or batch_size % self.num_batch_shards:
      lower = batch_size // self.num_batch_shards * self.num_batch_shards
      raise ValueError(
        f"The batch size {batch_size} cannot be cut into "
        f"{self.num_batch_shards} equal parts, one per device along "
        f"{self.batch_sharding.spec[0]!r}. Write for example "
        "DatasetConfig.batch_size = "
        f"{max(lower, self.num_batch_shards)}, or change "
        "Partitioner.mesh_shape."
      )
    indices: Mapping[Any, Any] = self.batch_sharding.devices_indices_map(
      (batch_size,)
    )
    ranges: dict[int, set[tuple[int, int]]] = {}
    for device, (rows,) in indices.items():
      start, stop, _ = rows.indices(batch_size)
      ranges.setdefault(device.process_index, set()).add((start, stop))
    mine = ranges[jax.process_index()]
    return DataLayout(
      batch_size,
      tuple(sorted(mine)),
      is_primary=jax.process_index()
      == min(process for process, rows in ranges.items() if rows == mine),
    )


def _as_tuple(axes: rules_lib.MeshAxes) -> tuple[str, ...]:
  if axes is None:
    return ()
  return (axes,) if isinstance(axes, str) else tuple(axes)
