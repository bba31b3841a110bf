"""Our own checkpoint as a `Source`, to write it in another format.

Called by `convert`. May import: networks, and of this package `arrays`,
`checkpointer`, `metadata`, `stacking`.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath
import jax
import numpy as np

from t2tjax import networks
from t2tjax.checkpoint import arrays, checkpointer, stacking
from t2tjax.checkpoint import directory as directory_lib
from t2tjax.checkpoint import metadata as metadata_lib
from t2tjax.checkpoint.formats.base import Source

_PARAMS = "params/"


class OwnSource(Source):
  """A checkpoint of ours; scanned layers are read once and handed out."""

  format = "t2tjax"

  def __init__(
    self,
    path: epath.PathLike,
    *,
    config: networks.T5Config | networks.DecoderOnlyConfig,
    vocabulary: Mapping[str, Any] | None = None,
  ):
    """Finds what is stored and checks that it is whole.

    Args:
      path: a checkpoint, or a run, of which the newest whole one is taken.
      config: of the network, which the checkpoint does not know.
      vocabulary: see `Source`.
    """
    candidates = directory_lib.candidates(
      directory_lib.absolute(path), "latest"
    )
    self.path = checkpointer.first_whole(candidates)
    self.description = "t2tjax checkpoint"
    self.step = metadata_lib.read_record(self.path)["step"]
    self.files = [self.path / directory_lib.MANIFEST]
    self.config = config
    self.vocabulary = vocabulary
    self._stored = {
      name.removeprefix(_PARAMS): leaf
      for name, leaf in arrays.stored_arrays(self.path).items()
      if name.startswith(_PARAMS)
    }
    # Unrolled name -> stored name, and the layer in it if it is a stack.
    self._places: dict[str, tuple[str, int | None]] = {}
    shapes = {}
    for stored, leaf in self._stored.items():
      shape, dtype = tuple(leaf.shape), leaf.dtype
      unrolled = stacking.unrolled_names(stored, shape)
      for index, name in enumerate(unrolled):
        is_stack = name != stored
        self._places[name] = (stored, index if is_stack else None)
        shapes[name] = jax.ShapeDtypeStruct(shape[is_stack:], dtype)
    self.shapes = shapes
    self._last: tuple[str, np.ndarray] | None = None

  def read(self, name: str) -> np.ndarray:
    """Returns one parameter, or one layer of the stack last read."""
    stored, index = self._places[name]
    if index is None:
      return self._read_stored(stored)
    if self._last is None or self._last[0] != stored:
      self._last = None  # Frees it before the next is read.
      self._last = stored, self._read_stored(stored)
    layer = self._last[1][index]
    if index == len(self._last[1]) - 1:
      self._last = None
    return layer

  def _read_stored(self, name: str) -> np.ndarray:
    leaf = self._stored[name]
    struct = jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
    found = arrays.restore_arrays(self.path, {_PARAMS + name: struct})
    return np.asarray(found[_PARAMS + name])
