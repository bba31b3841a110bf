"""Sharding constraints on activations, by logical axis name.

Called by layers and networks, which never see a mesh: the partitioner makes
the mesh and the rules current. May import: flax and jax only.
"""

import math

from flax import linen as nn
import jax

from t2tjax.typing import Array, LogicalAxes


def constrain(x: Array, logical_axes: LogicalAxes) -> Array:
  """Constrains `x` to the mesh axes that the current rules give its axes.

  Args:
    x: any array.
    logical_axes: one name (or None) per dimension of `x`.

  Returns:
    `x`, constrained; `x` itself if no mesh or no rules are current.
  """
  rules = nn.get_logical_axis_rules()
  if not rules or jax.sharding.get_abstract_mesh().empty:
    return x
  if len(logical_axes) != x.ndim:
    raise ValueError(
      f"constrain() got axes {logical_axes} for an array of shape {x.shape}; "
      "it needs one name per dimension."
    )
  spec = nn.logical_to_mesh_axes(logical_axes, rules)
  return jax.lax.with_sharding_constraint(x, spec)


def num_shards(logical_axis: str) -> int:
  """Returns into how many parts the current rules and mesh cut an axis."""
  rules = nn.get_logical_axis_rules()
  mesh = jax.sharding.get_abstract_mesh()
  if not rules or mesh.empty:
    return 1
  mesh_axes = tuple(nn.logical_to_mesh_axes((logical_axis,), rules) or ())[0]
  if mesh_axes is None:
    return 1
  if isinstance(mesh_axes, str):
    mesh_axes = (mesh_axes,)
  return math.prod(mesh.shape[axis] for axis in mesh_axes)
