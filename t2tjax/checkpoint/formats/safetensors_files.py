"""Files in the safetensors format: one or several with an index, by name.

Reading is the `safetensors` package's; writing is ours, as the package wants
all tensors of a file in memory at once. May import: nothing of t2tjax.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import math
import pathlib
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {
  "F64": "float64",
  "F32": "float32",
  "F16": "float16",
  "BF16": "bfloat16",
}
_ALIGNMENT = 8


def find(root: epath.Path) -> list[epath.Path]:
  """Returns the safetensors files of a model in a directory, maybe none.

  Raises:
    ValueError: if the index names a file that is not there.
  """
  if (root / WEIGHTS).exists():
    return [root / WEIGHTS]
  if not (root / INDEX).exists():
    return []
  try:
    index = json.loads((root / INDEX).read_text())
    files = [root / name for name in sorted(set(index["weight_map"].values()))]
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise ValueError(f"{root / INDEX} is damaged: {error!r}.") from error
  missing = [file.name for file in files if not file.exists()]
  if missing:
    raise ValueError(
      f"{root / INDEX} names {', '.join(missing)}, which is not there; download"
      " all of the model's files."
    )
  return files


class SafetensorsFiles:
  """The tensors of some files, read one at a time.

  Attributes:
    shapes: tensor name -> shape and dtype.
  """

  def __init__(self, files: Sequence[epath.Path]):
    """Reads the headers.

    Args:
      files: local files.

    Raises:
      ValueError: if a file is damaged or has integers or 8-bit numbers.
    """
    import safetensors

    self.shapes: dict[str, jax.ShapeDtypeStruct] = {}
    self._handles: dict[str, Any] = {}
    for file in files:
      if "://" in str(file):
        raise ValueError(
          f"{file} is remote; safetensors files are read in place. Copy the"
          " directory to a local disk."
        )
      try:
        # Not mapped: mapped pages would count as memory of this process.
        handle = safetensors.safe_open(str(file), "numpy", backend="pread")
      except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}.") from error
      for name in handle.keys():  # noqa: SIM118  The handle is no mapping.
        piece = handle.get_slice(name)
        dtype = _DTYPES.get(piece.get_dtype())
        if dtype is None:
          raise ValueError(
            f"{file} has {name} as {piece.get_dtype()}; only floating-point"
            f" numbers ({', '.join(_DTYPES)}) are read. Save the model"
            " without quantization."
          )
        shape = tuple(piece.get_shape())
        self.shapes[name] = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
        self._handles[name] = handle

  def read(self, name: str) -> np.ndarray:
    """Returns a tensor; its memory is the caller's."""
    return self._handles[name].get_tensor(name)

  def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
    """Returns some rows of a tensor."""
    stop = min(stop, self.shapes[name].shape[0])
    return self._handles[name].get_slice(name)[start:stop]


def write(
  root: pathlib.Path,
  shapes: Mapping[str, jax.ShapeDtypeStruct],
  read: Callable[[str], np.ndarray],
  *,
  max_shard_bytes: int,
) -> None:
  """Writes tensors, of which at most one is in memory.

  Args:
    root: the directory.
    shapes: tensor name -> shape and dtype, in the order to write them.
    read: returns a tensor by name.
    max_shard_bytes: a file is larger only if one tensor is; with more than one
      file there is an index.
  """
  shards: list[dict[str, jax.ShapeDtypeStruct]] = [{}]
  room = max_shard_bytes
  for name, leaf in shapes.items():
    if shards[-1] and _num_bytes(leaf) > room:
      shards.append({})
      room = max_shard_bytes
    shards[-1][name] = leaf
    room -= _num_bytes(leaf)
  files = [WEIGHTS]
  if len(shards) > 1:
    stem, suffix = WEIGHTS.split(".")
    files = [
      f"{stem}-{i + 1:05}-of-{len(shards):05}.{suffix}"
      for i in range(len(shards))
    ]
  for file, shard in zip(files, shards, strict=True):
    _write_file(root / file, shard, read)
  if len(shards) > 1:
    index = {
      "metadata": {"total_size": sum(map(_num_bytes, shapes.values()))},
      "weight_map": {
        name: file
        for file, shard in zip(files, shards, strict=True)
        for name in shard
      },
    }
    (root / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _num_bytes(leaf: jax.ShapeDtypeStruct) -> int:
  return math.prod(leaf.shape) * leaf.dtype.itemsize


def _write_file(
  path: pathlib.Path,
  shapes: Mapping[str, jax.ShapeDtypeStruct],
  read: Callable[[str], np.ndarray],
) -> None:
  """Writes the length of the header, the header as JSON, and the bytes."""
  codes = {name: code for code, name in _DTYPES.items()}
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  start = 0
  for name, leaf in shapes.items():
    end = start + _num_bytes(leaf)
    header[name] = {
      "dtype": codes[leaf.dtype.name],
      "shape": list(leaf.shape),
      "data_offsets": [start, end],
    }
    start = end
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % _ALIGNMENT)
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name, leaf in shapes.items():
      array = np.ascontiguousarray(read(name), dtype=leaf.dtype)
      file.write(array.view(np.uint8).data)
