"""Scanned and unrolled layers are the same checkpoint.

A scanned model keeps `decoder/layers/...` with a leading layer axis, an
unrolled one `decoder/layers_0/...`, `decoder/layers_1/...`; whichever is
stored, the other can be restored from it. Used by `arrays`.
May import: nothing of t2tjax.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp

_SCANNED = re.compile(r"(^|.*/)layers(/.*)")
_UNROLLED = re.compile(r"(^|.*/)layers_(\d+)(/.*)")


def _part_sharding(sharding: Any, *, drop: bool) -> Any:
  """Returns the sharding without (or with) a leading layer axis."""
  if not isinstance(sharding, jax.sharding.NamedSharding):
    return sharding
  spec = tuple(sharding.spec)
  spec = spec[1:] if drop else (None, *spec)
  return jax.sharding.NamedSharding(
    sharding.mesh, jax.sharding.PartitionSpec(*spec)
  )


@dataclasses.dataclass(frozen=True)
class Stored:
  """Where one leaf of the model comes from.

  Attributes:
    names: stored names, in the order of the layers.
    shape: shape of the assembled leaf.
    index: layer to take out of a stacked array, or None.
    num_layers: number of layers in that stacked array.
    stacked: whether the stored arrays are to be stacked.
  """

  names: tuple[str, ...]
  shape: tuple[int, ...]
  index: int | None = None
  num_layers: int = 0
  stacked: bool = False

  def requests(
    self, wanted: jax.ShapeDtypeStruct
  ) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns stored name -> what has to be restored for this leaf."""
    sharding = getattr(wanted, "sharding", None)
    shape = tuple(wanted.shape)
    if self.index is not None:
      # All layers, as every other leaf of this stack asks for the same.
      sharding = _part_sharding(sharding, drop=False)
      shape = (self.num_layers, *shape)
    elif self.stacked:
      sharding, shape = _part_sharding(sharding, drop=True), shape[1:]
    struct = jax.ShapeDtypeStruct(shape, wanted.dtype, sharding=sharding)
    return dict.fromkeys(self.names, struct)

  def assemble(
    self, arrays: Mapping[str, jax.Array], wanted: jax.ShapeDtypeStruct
  ) -> jax.Array:
    """Returns the leaf from the restored arrays."""
    if self.index is None and not self.stacked:
      return arrays[self.names[0]]
    sharding = getattr(wanted, "sharding", None)
    if self.index is not None:
      return _take(sharding)(arrays[self.names[0]], self.index)
    return _stack(sharding)(*(arrays[name] for name in self.names))


# One function per sharding, so that equal leaves of all layers compile once.
@functools.cache
def _take(sharding: Any) -> Callable[..., jax.Array]:
  return jax.jit(lambda x, index: x[index], out_shardings=sharding)


@functools.cache
def _stack(sharding: Any) -> Callable[..., jax.Array]:
  return jax.jit(lambda *layers: jnp.stack(layers), out_shardings=sharding)


def unrolled_names(name: str, shape: tuple[int, ...]) -> list[str]:
  """Returns the name of each layer of a stacked array, or just `name`."""
  match = _SCANNED.fullmatch(name)
  if match is None:
    return [name]
  return [f"{match[1]}layers_{i}{match[2]}" for i in range(shape[0])]


def stack_shapes(
  shapes: Mapping[str, jax.ShapeDtypeStruct],
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns names and shapes of unrolled leaves as a scanned model has them."""
  stacked: dict[str, jax.ShapeDtypeStruct] = {}
  for name, leaf in shapes.items():
    shape = leaf.shape
    if match := _UNROLLED.fullmatch(name):
      name = f"{match[1]}layers{match[3]}"
      layers = stacked[name].shape[0] + 1 if name in stacked else 1
      shape = (layers, *shape)
    stacked[name] = jax.ShapeDtypeStruct(shape, leaf.dtype)
  return stacked


def find(
  name: str, shape: tuple[int, ...], stored: Mapping[str, Any]
) -> Stored | None:
  """Finds the stored arrays for a leaf, or None.

  Args:
    name: the leaf's name.
    shape: the leaf's shape.
    stored: name -> metadata with `shape`.
  """
  if name in stored:
    return Stored((name,), tuple(stored[name].shape))
  if match := _SCANNED.fullmatch(name):
    num_layers = shape[0] if shape else 0
    names = tuple(f"{match[1]}layers_{i}{match[2]}" for i in range(num_layers))
    # One layer more would be silently dropped.
    extra = f"{match[1]}layers_{num_layers}{match[2]}"
    if names and all(n in stored for n in names):
      shapes = {tuple(stored[n].shape) for n in names}
      count = num_layers + (extra in stored)
      if len(shapes) != 1:
        return None
      return Stored(names, (count, *shapes.pop()), stacked=True)
  if match := _UNROLLED.fullmatch(name):
    stacked = f"{match[1]}layers{match[3]}"
    index = int(match[2])
    if stacked in stored and index < stored[stacked].shape[0]:
      num_layers, *rest = stored[stacked].shape
      return Stored((stacked,), tuple(rest), index, num_layers)
  return None
