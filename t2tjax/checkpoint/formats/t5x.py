"""Reads the checkpoints of T5X: parameters, step and Adafactor's state.

Both layouts: the `checkpoint` file with arrays in TensorStore beside it, and
Orbax's `state/`. Called by `open_source`. May import: this package's `arrays`,
`metadata`, `base`, and the modules named t5x.
"""

from collections.abc import Mapping
import math
import re
from typing import Any, Protocol

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import tensorstore

from t2tjax.checkpoint import arrays
from t2tjax.checkpoint import directory as directory_lib
from t2tjax.checkpoint.formats import t5x_names
from t2tjax.checkpoint.formats.base import Source
from t2tjax.checkpoint.formats.t5x_msgpack import MsgpackFile

FILE = "checkpoint"
PARAMS = "target/"
STEP = "state/step"
SLOTS = "state/param_states/"
_OPTIMIZER = "optimizer/"
_ADAFACTOR_SLOTS = {"m", "v", *t5x_names.FACTORS}
_TENSORFLOW = b"model_checkpoint_path"


class _Arrays(Protocol):
  """Named arrays of one checkpoint, as stored.

  Attributes:
    leaves: T5X's name -> shape and dtype.
    file: whose change makes it another checkpoint.
  """

  leaves: dict[str, jax.ShapeDtypeStruct]
  file: epath.Path

  def read(self, name: str) -> np.ndarray:
    """Returns one array."""


def is_checkpoint(directory: epath.Path) -> bool:
  """Whether a directory is one checkpoint of T5X, in either layout."""
  if (directory / FILE).is_file():
    return True
  ours = (directory_lib.METADATA, directory_lib.MANIFEST)
  return (directory / directory_lib.STATE).is_dir() and not any(
    (directory / name).exists() for name in ours
  )


class T5XSource(Source):
  """A T5X checkpoint; scanned layers are read once and handed out."""

  format = "t5x"

  def __init__(self, path: epath.PathLike):
    """Finds what is stored; reads no parameter.

    Args:
      path: a `checkpoint_<step>` directory.

    Raises:
      ValueError: if it cannot be read; says why.
    """
    self.path = epath.Path(path)
    is_legacy = (self.path / FILE).is_file()
    stored: _Arrays = _Legacy(self.path) if is_legacy else _Orbax(self.path)
    self._reader = _Reader(stored)
    shapes = _below(stored.leaves, PARAMS)
    if not shapes:
      raise ValueError(f"{path} holds no parameters: nothing is named target.")
    self._places = t5x_names.parameters(shapes)
    self.shapes = _abstract(self._places, stored.leaves, PARAMS)
    scanned = any(place.axis is not None for place in self._places.values())
    self.config = t5x_names.config(
      {name: leaf.shape for name, leaf in self.shapes.items()},
      scanned=scanned,
    )
    self.description = (
      f"T5X checkpoint, {'scanned' if scanned else 'unrolled'} layers"
    )
    self.step = _step(self.path, stored)
    self.files = [stored.file]
    notes = []
    try:
      self.opt_state_source = _opt_state(self, shapes, stored)
    except ValueError as error:
      notes.append(f"The optimizer state is left out: {error}.")
    self.notes = notes

  def read(self, name: str) -> np.ndarray:
    """Returns one parameter, or one layer of the array last read."""
    place = self._places[name]
    return self._reader.read(PARAMS + place.stored, place)


class _OptState(Source):
  """Adafactor's state of a T5X checkpoint."""

  format = "t5x"

  def __init__(
    self,
    of: T5XSource,
    places: Mapping[str, t5x_names.Place],
    stored: _Arrays,
  ):
    self.path, self.step, self.files = of.path, of.step, of.files
    self.description = of.description + ", Adafactor's state"
    self._places, self._reader = places, _Reader(stored)
    self.shapes = _abstract(places, stored.leaves, SLOTS)

  def read(self, name: str) -> np.ndarray:
    place = self._places[name]
    return self._reader.read(SLOTS + place.stored, place)


class _Reader:
  """Reads places; keeps a scanned array until its last layer is read."""

  def __init__(self, stored: _Arrays):
    self._stored = stored
    self._last: tuple[str, np.ndarray] | None = None

  def read(self, stored_name: str, place: t5x_names.Place) -> np.ndarray:
    """Returns the array of a place."""
    if place.axis is None:
      return place.take(self._stored.read(stored_name))
    if self._last is None or self._last[0] != stored_name:
      self._last = None  # Frees it before the next is read.
      self._last = stored_name, self._stored.read(stored_name)
    array = self._last[1]
    if place.layer == array.shape[place.axis] - 1:
      self._last = None
    return place.take(array)


class _Legacy:
  """T5X's own layout: a msgpack file, and large arrays in TensorStore."""

  def __init__(self, directory: epath.Path):
    self._directory = directory
    self.file = directory / FILE
    with self.file.open("rb") as file:
      if file.read(len(_TENSORFLOW)) == _TENSORFLOW:
        raise ValueError(
          f"{directory} is a TensorFlow checkpoint of Mesh TensorFlow's T5."
          " Convert it with T5X's scripts/convert_tf_checkpoint.py first."
        )
    self._content = MsgpackFile(self.file)
    version = 0
    if "version" in self._content.leaves:
      version = int(self._content.read("version"))
    if version < 2:
      raise ValueError(
        f"{self.file} has version {version}, written before May 2021, which"
        " T5X cannot read either. Restore and save it with a T5X of its time."
      )
    self._specs: dict[str, dict[str, Any]] = {}
    self.leaves: dict[str, jax.ShapeDtypeStruct] = {}
    for full_name in self._content.leaves:
      leaf = self._content.abstract(full_name)
      name = full_name.removeprefix(_OPTIMIZER)
      if isinstance(leaf, dict):
        self._specs[name] = leaf
        leaf = _abstract_of_spec(leaf)
      elif leaf is None and full_name == _OPTIMIZER + STEP:
        leaf = jax.ShapeDtypeStruct((), jnp.int32)
      if leaf is not None:
        self.leaves[name] = leaf

  def read(self, name: str) -> np.ndarray:
    """Returns one array."""
    if name not in self._specs:
      return np.asarray(self._content.read(_OPTIMIZER + name))
    spec: dict[str, Any] = {
      "driver": "zarr",
      "kvstore": self._kvstore(name, self._specs[name]),
    }
    try:
      array = tensorstore.open(spec, open=True).result().read().result()
    except ValueError as error:
      raise ValueError(
        f"{self.file} says that {name} lies in {spec['kvstore']['path']},"
        f" which cannot be read: {error}. Copy the whole directory."
      ) from error
    leaf = self.leaves[name]
    if array.shape != leaf.shape:
      raise ValueError(
        f"{name} of {self._directory} has the shape {list(array.shape)}; its"
        f" {FILE} file says {list(leaf.shape)}. The files are not of one save."
      )
    # Before version 3, bfloat16 was written as the integers of its bits.
    return array.view(leaf.dtype) if array.dtype == np.uint16 else array

  def _kvstore(self, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns where an array lies: always in this directory."""
    stored = spec["kvstore"].get("path", spec.get("path"))
    if spec["driver"] != "zarr" or not isinstance(stored, str):
      raise ValueError(
        f"{self.file} has the TensorStore spec {dict(spec)} for {name}, which"
        " is not T5X's; it uses zarr and a path."
      )
    parts = [part for part in stored.split("/") if part not in ("", ".")]
    if stored.startswith("/"):
      parts = parts[-1:]
    if ".." in parts or not parts:
      raise ValueError(f"{self.file} leads {name} to {stored!r}; refused.")
    remote = re.fullmatch(r"gs://([^/]+)/(.*)", str(self._directory))
    base = remote[2] if remote else str(self._directory)
    place = {"path": "/".join((base.rstrip("/"), *parts, ""))}
    if remote:
      return {"driver": "gcs", "bucket": remote[1], **place}
    return {"driver": "file", **place}


class _Orbax:
  """T5X's layout since it uses Orbax: `checkpoint_<step>/state/`."""

  def __init__(self, directory: epath.Path):
    self._directory = directory
    self.file = directory / directory_lib.STATE
    self.leaves = {
      name: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
      for name, leaf in arrays.stored_arrays(directory).items()
      if hasattr(leaf, "shape") and leaf.shape is not None
    }

  def read(self, name: str) -> np.ndarray:
    """Returns one array."""
    found = arrays.restore_arrays(self._directory, {name: self.leaves[name]})
    return np.asarray(found[name])


def _abstract_of_spec(spec: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
  metadata = spec["metadata"]
  dtype = jnp.dtype(spec.get("dtype") or metadata["dtype"])
  shape = metadata["shape"]
  if isinstance(shape, Mapping):
    shape = [shape[str(i)] for i in range(len(shape))]
  if dtype == np.uint16:
    dtype = jnp.dtype(jnp.bfloat16)
  return jax.ShapeDtypeStruct(tuple(shape), dtype)


def _step(directory: epath.Path, stored: _Arrays) -> int:
  if STEP in stored.leaves:
    return int(np.asarray(stored.read(STEP)).reshape(()))
  return directory_lib.step_of(directory) or 0


def _below(
  leaves: Mapping[str, jax.ShapeDtypeStruct], prefix: str
) -> dict[str, t5x_names.Shape]:
  return {
    name.removeprefix(prefix): tuple(leaf.shape)
    for name, leaf in leaves.items()
    if name.startswith(prefix)
  }


def _abstract(
  places: Mapping[str, t5x_names.Place],
  leaves: Mapping[str, jax.ShapeDtypeStruct],
  prefix: str,
) -> dict[str, jax.ShapeDtypeStruct]:
  return {
    name: jax.ShapeDtypeStruct(place.shape, leaves[prefix + place.stored].dtype)
    for name, place in places.items()
  }


def _opt_state(
  source: T5XSource,
  param_shapes: Mapping[str, t5x_names.Shape],
  stored: _Arrays,
) -> _OptState | None:
  """Returns Adafactor's state, None if there is no optimizer state.

  Raises:
    ValueError: if it is of another optimizer, or does not fit.
  """
  shapes = _below(stored.leaves, SLOTS)
  if not shapes:
    return None
  known = {f"{n}/{slot}" for n in param_shapes for slot in _ADAFACTOR_SLOTS}
  others = sorted(set(shapes) - known)
  if others:
    raise ValueError(
      f"it is not that of T5X's Adafactor, as {SLOTS}{others[0]} shows;"
      " states of other optimizers (optax, MultiOptimizer) cannot be taken over"
    )
  places = t5x_names.slots(shapes, param_shapes)
  covered = {name.rsplit("/", 1)[0] for name in places}
  bare = [name for name in source.shapes if name not in covered]
  if bare:
    raise ValueError(f"{len(bare)} parameters have none, {bare[0]} among them")
  if any(math.prod(place.shape) == 0 for place in places.values()):
    raise ValueError("it has empty arrays")
  return _OptState(source, places, stored)
