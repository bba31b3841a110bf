"""The device mesh: six named axes, any of which may have size one.

Called by `Partitioner`. May import: nothing of t2tjax.
"""

from collections.abc import Mapping, Sequence
import math

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

# From the slowest network to the fastest: `replica` spans slices (DCN), `model`
# gets neighbouring devices.
MESH_AXES = ("replica", "data", "fsdp", "expert", "sequence", "model")


def check_axis_names(mesh_shape: Mapping[str, int]) -> None:
  """Raises ValueError if `mesh_shape` can fit no number of devices."""
  for axis, size in mesh_shape.items():
    if axis not in MESH_AXES:
      raise ValueError(
        f"Partitioner.mesh_shape names the mesh axis {axis!r}; the axes are "
        f"{', '.join(MESH_AXES)}."
      )
    if not isinstance(size, int) or (size < 1 and size != -1):
      raise ValueError(
        f"Partitioner.mesh_shape gives axis {axis!r} the size {size!r}; a "
        "size is a positive integer, or -1 for the devices that are left."
      )
  if sum(size == -1 for size in mesh_shape.values()) > 1:
    raise ValueError(
      f"Partitioner.mesh_shape is {dict(mesh_shape)}; at most one axis can "
      "be -1 (the devices that are left)."
    )


def complete_mesh_shape(
  mesh_shape: Mapping[str, int], num_devices: int
) -> dict[str, int]:
  """Returns the size of every mesh axis for a number of devices.

  Args:
    mesh_shape: sizes by axis; absent axes have size 1, one may be -1.
    num_devices: what the sizes must multiply to.
  """
  check_axis_names(mesh_shape)
  fixed = math.prod(size for size in mesh_shape.values() if size != -1)
  sizes = {axis: mesh_shape.get(axis, 1) for axis in MESH_AXES}
  open_axes = [axis for axis, size in sizes.items() if size == -1]
  fits = num_devices % fixed == 0 and (open_axes or num_devices == fixed)
  if not fits:
    named = {axis: mesh_shape[axis] for axis in mesh_shape}
    if num_devices % fixed == 0:
      grown = next((a for a in ("data", "fsdp") if a in named), "data")
      advice = {**named, grown: -1}
    else:
      kept = {
        axis: math.gcd(size, num_devices)
        for axis, size in named.items()
        if size != -1 and axis != "data"
      }
      while num_devices % math.prod(kept.values()):
        kept.popitem()
      advice = {"data": -1, **kept}
    raise ValueError(
      f"Partitioner.mesh_shape is {named}: its fixed sizes multiply to "
      f"{fixed}, but there are {num_devices} devices. The sizes must multiply "
      "to the number of devices, and one may be -1 for what is left. Write "
      f"for example Partitioner.mesh_shape = {advice}."
    )
  for axis in open_axes:
    sizes[axis] = num_devices // fixed
  return sizes


def split_over_slices(
  sizes: Mapping[str, int], num_slices: int
) -> tuple[dict[str, int], dict[str, int]]:
  """Splits mesh sizes into the part inside a slice and that across slices.

  The outermost axis that can hold all slices crosses the slow network.

  Args:
    sizes: complete mesh sizes.
    num_slices: number of TPU slices (or GPU islands).

  Returns:
    Sizes within a slice, sizes across slices.
  """
  across = {axis: 1 for axis in sizes}
  within = dict(sizes)
  for axis in ("replica", "data", "fsdp"):
    if sizes[axis] % num_slices == 0:
      within[axis] //= num_slices
      across[axis] = num_slices
      return within, across
  raise ValueError(
    f"The devices form {num_slices} slices, but none of the mesh axes "
    f"replica, data and fsdp of {dict(sizes)} is a multiple of that. Write "
    f"Partitioner.mesh_shape with 'replica': {num_slices}."
  )


def make_mesh(
  mesh_shape: Mapping[str, int],
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Returns a mesh with all of `MESH_AXES`, laid out for the network.

  Args:
    mesh_shape: sizes by axis; absent axes have size 1, one may be -1.
    devices: all devices of all processes by default.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = complete_mesh_shape(mesh_shape, len(devices))
  num_slices = len({getattr(d, "slice_index", 0) for d in devices})
  if num_slices > 1:
    within, across = split_over_slices(sizes, num_slices)
    grid = mesh_utils.create_hybrid_device_mesh(
      tuple(within.values()), tuple(across.values()), devices
    )
  else:
    grid = mesh_utils.create_device_mesh(tuple(sizes.values()), devices)
  return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))
