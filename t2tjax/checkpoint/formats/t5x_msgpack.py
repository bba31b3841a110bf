"""The `checkpoint` file of T5X: msgpack as flax writes it, read leaf by leaf.

Where the leaves lie is found once; each is decoded when it is asked for, so
that a file with large arrays inside never is in memory twice. Used by `t5x`.
May import: nothing of t2tjax.
"""

from collections.abc import Iterator
import dataclasses
import io
import mmap
from typing import Any

from etils import epath
from flax import serialization
import jax
import jax.numpy as jnp
import msgpack
import numpy as np

# Flax' extension types of arrays and of NumPy scalars.
_ARRAY_TYPES = (1, 3)
# Bytes of an extension's header by its first byte.
_EXT_HEADERS = {0xC7: 3, 0xC8: 4, 0xC9: 6} | dict.fromkeys(range(0xD4, 0xD9), 2)
# A map with these keys is no subtree but says where an array lies.
_SPEC_KEYS = {"driver", "kvstore", "metadata"}
_CHUNKED = "__msgpack_chunked_array__"
# Shape and dtype stand before an array's bytes.
_HEAD_BYTES = 1024


@dataclasses.dataclass(frozen=True)
class Leaf:
  """Where one leaf of the tree lies in the file.

  Attributes:
    start: its first byte.
    end: the byte after its last.
  """

  start: int
  end: int


class MsgpackFile:
  """A msgpack file of nested maps, opened for reading."""

  def __init__(self, path: epath.PathLike):
    """Finds all leaves.

    Args:
      path: a local file, which is mapped, or a remote one, which is read.

    Raises:
      ValueError: if it is no msgpack file of maps.
    """
    self._path = epath.Path(path)
    remote = "://" in str(path)
    if remote:
      self._data: Any = self._path.read_bytes()
    else:
      with open(path, "rb") as file:
        if not self._path.stat().length:
          raise ValueError(f"{path} is empty.")
        self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
      content: Any = io.BytesIO(self._data) if remote else self._data
      tree = _walk(self._data, msgpack.Unpacker(content, max_buffer_size=0))
    except (msgpack.UnpackException, ValueError, UnicodeDecodeError) as error:
      raise ValueError(
        f"{path} is damaged or no msgpack file of T5X: {error!r}."
      ) from error
    self.leaves = dict(_named(tree)) if isinstance(tree, dict) else {}

  def abstract(self, name: str) -> jax.ShapeDtypeStruct | dict | None:
    """Returns an array's shape and dtype, or where it lies.

    Returns:
      For an array inside the file its `ShapeDtypeStruct`, for one outside the
      TensorStore spec that was stored, and None for anything else.
    """
    leaf = self.leaves[name]
    first = self._data[leaf.start]
    if _is_map(first):
      value = msgpack.unpackb(self._data[leaf.start : leaf.end])
      if _CHUNKED not in value:
        return value
      restored = self.read(name)
      return jax.ShapeDtypeStruct(restored.shape, restored.dtype)
    if first not in _EXT_HEADERS:
      return None
    start = leaf.start + _EXT_HEADERS[first]
    if self._data[start - 1] not in _ARRAY_TYPES:
      return None
    unpacker = msgpack.Unpacker()
    unpacker.feed(self._data[start : min(start + _HEAD_BYTES, leaf.end)])
    unpacker.read_array_header()
    shape, dtype = unpacker.unpack(), unpacker.unpack()
    return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))

  def read(self, name: str) -> Any:
    """Returns the value of a leaf; of an array its NumPy array."""
    leaf = self.leaves[name]
    value = serialization.msgpack_restore(self._data[leaf.start : leaf.end])
    return np.asarray(value) if isinstance(value, np.generic) else value


def _is_map(first: int) -> bool:
  return first >> 4 == 0x8 or first in (0xDE, 0xDF)


def _walk(data: Any, unpacker: msgpack.Unpacker) -> Any:
  """Returns what comes next: a `Leaf`, or a dict of what this returns."""
  start = unpacker.tell()
  if not _is_map(data[start]):
    unpacker.skip()
    return Leaf(start, unpacker.tell())
  children = {}
  for _ in range(unpacker.read_map_header()):
    key = str(unpacker.unpack())
    children[key] = _walk(data, unpacker)
  if children.keys() >= _SPEC_KEYS or _CHUNKED in children:
    return Leaf(start, unpacker.tell())
  return children


def _named(tree: dict, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from _named(value, f"{prefix}{key}/")
    else:
      yield prefix + key, value
