"""Writes a model of ours as T5X's own checkpointer reads it.

The layout of `t5x.checkpoints.Checkpointer`, version 3: a msgpack file with
the small arrays, the others in zarr files beside it. Called by `convert`.
May import: networks, and of this package `base` and the modules named t5x.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
import math
import pathlib
from typing import Any

from flax import serialization, traverse_util
import numpy as np
import tensorstore

from t2tjax import networks
from t2tjax.checkpoint import directory as directory_lib
from t2tjax.checkpoint.formats import t5x, t5x_names
from t2tjax.checkpoint.formats.base import Source

_VERSION = 3
_CHUNK_BYTES = 64 * 2**20
# Larger ones get a file of their own; T5X takes them from either place.
_INLINE_BYTES = 2**16
_SLOTS = ("m", "v", *t5x_names.FACTORS)


def write(
  directory: pathlib.Path, source: Source, *, scan: bool = True
) -> None:
  """Writes `checkpoint_<step>/` into a directory.

  A network with one position bias per stack has T5X's tree of `examples/t5`
  or `decoder_only`, which is unrolled; one with a bias per layer that of
  `examples/scalable_t5`.

  Args:
    directory: exists.
    source: parameters, with the dtype to write them in; has a `config`. Its
      `opt_state_source`, if it has one, must be Adafactor's. Without one T5X
      can start from the parameters, but not continue the run.
    scan: whether the layers of `scalable_t5` are stacked, at axis 1.
  """
  config = source.config
  assert config is not None
  scalable = config.relpos_bias == "per_layer"
  target = directory_lib.checkpoint_dir(str(directory), source.step)
  target.mkdir(parents=True)
  writer = _Writer(pathlib.Path(target))
  tree = _Tree(config, source, scan=scan and scalable, split=scalable)
  content: dict[str, Any] = {t5x.STEP: np.int32(source.step)}
  for name, shape, dtype, fill in tree.parameters():
    content[t5x.PARAMS + name] = writer.write(
      t5x.PARAMS + name, shape, dtype, fill
    )
  if source.opt_state_source is not None:
    for name, shape, dtype, fill in tree.slots(source.opt_state_source):
      content[t5x.SLOTS + name] = writer.write(
        t5x.SLOTS + name, shape, dtype, fill
      )
  nested = traverse_util.unflatten_dict(content, sep="/")
  file = {"version": _VERSION, "optimizer": nested}
  # Last, as a checkpoint without this file is none.
  (target / t5x.FILE).write_bytes(serialization.msgpack_serialize(file))


# Name, shape and dtype of an array, and what reads it.
_Entry = tuple[str, t5x_names.Shape, Any, Callable[[], np.ndarray]]


class _Tree:
  """T5X's tree of a network, made of our unrolled arrays."""

  def __init__(
    self,
    config: networks.T5Config | networks.DecoderOnlyConfig,
    source: Source,
    *,
    scan: bool,
    split: bool,
  ):
    self._config, self._source = config, source
    self._scan, self._split = scan, split

  def _groups(self) -> dict[str, list[str]]:
    """Returns T5X's name -> our names, layer by layer if it is stacked."""
    groups: dict[str, list[str]] = {}
    for name in self._source.shapes:
      stack, *rest = name.split("/")
      stored = name
      if self._scan and rest[0].startswith("layers_"):
        stored = "/".join((stack, stack, *rest[1:]))
      groups.setdefault(stored, []).append(name)
    for stored, names in groups.items():
      if self._stacked(stored):
        names.sort(key=lambda name: int(name.split("/")[1][len("layers_") :]))
    return groups

  def _stacked(self, stored: str) -> bool:
    return self._scan and stored.startswith(
      ("encoder/encoder/", "decoder/decoder/")
    )

  def parameters(self) -> Iterator[_Entry]:
    """Yields all parameters."""
    for stored, names in self._groups().items():
      leaf = self._source.shapes[names[0]]
      shape = self._stored_shape(stored, leaf.shape, len(names))

      fill = functools.partial(
        self._assemble, self._source, names, shape, stored
      )
      yield stored, shape, leaf.dtype, fill

  def slots(self, opt_state: Source) -> Iterator[_Entry]:
    """Yields Adafactor's slots; those without use as T5X fills them."""
    for stored, names in self._groups().items():
      ours = self._source.shapes[names[0]].shape
      shape = self._stored_shape(stored, ours, len(names))
      for slot in _SLOTS:
        wanted = f"{names[0]}/{slot}"
        if wanted not in opt_state.shapes:
          unused = functools.partial(np.zeros, (1,), np.float32)
          yield f"{stored}/{slot}", (1,), np.float32, unused
          continue
        dtype = opt_state.shapes[wanted].dtype
        kept = tuple(range(len(shape)))
        layer_axis = 1 if self._stacked(stored) else None
        if slot in t5x_names.FACTORS:
          kept = t5x_names.kept_dims(stored, shape, layer_axis)[slot]
        source_slot = t5x_names.our_slot(stored, shape, ours, kept, slot)
        found = [f"{name}/{source_slot}" for name in names]
        kept_shape = tuple(shape[d] for d in kept)

        axis = 1 if layer_axis is None else kept.index(layer_axis)
        fill = functools.partial(
          self._assemble, opt_state, found, kept_shape, stored, axis
        )
        yield f"{stored}/{slot}", kept_shape, dtype, fill

  def _stored_shape(
    self, stored: str, shape: t5x_names.Shape, num_layers: int
  ) -> t5x_names.Shape:
    if self._split:
      heads = (self._config.num_heads, self._config.head_dim)
      shape = t5x_names.split_heads(stored, shape, heads)
    if self._stacked(stored):
      shape = (*shape[:1], num_layers, *shape[1:])
    return shape

  def _assemble(
    self,
    source: Source,
    names: list[str],
    shape: t5x_names.Shape,
    stored: str,
    axis: int = 1,
  ) -> np.ndarray:
    if not self._stacked(stored):
      return source.read(names[0]).reshape(shape)
    layer_shape = shape[:axis] + shape[axis + 1 :]
    result = np.empty(shape, source.shapes[names[0]].dtype)
    for layer, name in enumerate(names):
      index = (slice(None),) * axis + (layer,)
      result[index] = source.read(name).reshape(layer_shape)
    return result


class _Writer:
  """Writes arrays as T5X does."""

  def __init__(self, directory: pathlib.Path):
    self._directory = directory

  def write(
    self,
    name: str,
    shape: t5x_names.Shape,
    dtype: Any,
    fill: Callable[[], np.ndarray],
  ) -> Any:
    """Returns what stands for the array in the msgpack file."""
    dtype = np.dtype(dtype)
    array = fill().astype(dtype, copy=False)
    if math.prod(shape) * dtype.itemsize <= _INLINE_BYTES:
      return np.ascontiguousarray(array)
    spec = _spec(name, array)
    absolute = tensorstore.Spec(spec).to_json()
    path = f"{self._directory}/{spec['kvstore']['path']}"
    absolute["kvstore"] = {"driver": "file", "path": path}
    store = tensorstore.open(absolute, create=True).result()
    store.write(array).result()
    return spec


def _spec(name: str, array: np.ndarray) -> Mapping[str, Any]:
  """Returns the TensorStore spec of an array, relative to its checkpoint."""
  spec = {
    "driver": "zarr",
    "dtype": array.dtype.name,
    "kvstore": {"driver": "file", "path": name.replace("/", ".") + "/"},
    "metadata": {
      "compressor": {"id": "gzip", "level": 1},
      "shape": list(array.shape),
      "chunks": _chunks(array),
    },
  }
  return tensorstore.Spec(spec).to_json()


def _chunks(array: np.ndarray) -> list[int]:
  """Halves the largest dimension until a chunk is small enough."""
  chunks = list(array.shape)
  while math.prod(chunks) * array.itemsize > _CHUNK_BYTES:
    largest = int(np.argmax(chunks))
    chunks[largest] = -(-chunks[largest] // 2)
  return chunks
