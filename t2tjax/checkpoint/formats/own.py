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
_OPT_STATE = "opt_state/"
# Slots of Adafactor, the one optimizer whose state other formats have.
_SLOTS = {"m", "v", "v_row", "v_col"}


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
    stored = arrays.stored_arrays(self.path)
    self._reader = _Reader(self.path, stored, _PARAMS)
    self.shapes = self._reader.shapes
    slots = _Reader(self.path, stored, _OPT_STATE)
    if slots.shapes and _is_adafactor(slots.shapes, self.shapes):
      self.opt_state_source = _OptState(self, slots)
    elif slots.shapes:
      self.notes = [
        "The optimizer state is left out: it is not Adafactor's, the one that"
        " other formats have."
      ]

  def read(self, name: str) -> np.ndarray:
    """Returns one parameter, or one layer of the stack last read."""
    return self._reader.read(name)


class _OptState(Source):
  """Adafactor's state, as `<parameter>/<slot>`."""

  format = "t2tjax"

  def __init__(self, of: OwnSource, reader: "_Reader"):
    self.path, self.step, self.files = of.path, of.step, of.files
    self.description = of.description + ", Adafactor's state"
    self._reader = reader
    self.shapes = reader.shapes

  def read(self, name: str) -> np.ndarray:
    return self._reader.read(name)


def _is_adafactor(slots: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
  return all(
    name.rpartition("/")[0] in params and name.rpartition("/")[2] in _SLOTS
    for name in slots
  )


class _Reader:
  """One part of a checkpoint by unrolled names.

  Attributes:
    shapes: unrolled name -> shape and dtype, stack by stack.
  """

  def __init__(self, path: epath.Path, stored: Mapping[str, Any], prefix: str):
    self._path = path
    self._stored = {
      name: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
      for name, leaf in stored.items()
      if name.startswith(prefix)
    }
    # Unrolled name -> stored name, and the layer in it if it is a stack.
    self._places: dict[str, tuple[str, int | None]] = {}
    self.shapes: dict[str, jax.ShapeDtypeStruct] = {}
    for stored_name, leaf in self._stored.items():
      plain = stored_name.removeprefix(prefix)
      for index, name in enumerate(stacking.unrolled_names(plain, leaf.shape)):
        is_stack = name != plain
        self._places[name] = (stored_name, index if is_stack else None)
        self.shapes[name] = jax.ShapeDtypeStruct(
          leaf.shape[is_stack:], leaf.dtype
        )
    self._last: tuple[str, np.ndarray] | None = None

  def read(self, name: str) -> np.ndarray:
    """Returns one array, or one layer of the stack last read."""
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
    found = arrays.restore_arrays(self._path, {name: self._stored[name]})
    return np.asarray(found[name])
