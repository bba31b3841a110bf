"""What every foreign checkpoint looks like to the rest of t2tjax.

A `Source` gives one array at a time under our unrolled names; `restore_named`
puts them where a model wants them. Used by `checkpoint.params` and `convert`.
May import: `networks`, and of this package `directory`, `stacking`.
"""

import abc
from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any, ClassVar
import zlib

from absl import logging
from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from t2tjax import networks
from t2tjax.checkpoint import stacking

# Embeddings are padded to round numbers of rows, here or there. More rows
# than that are another vocabulary.
_MAX_PADDING_ROWS = 1024
# The axis of the vocabulary.
VOCABULARY_AXIS = {
  "token_embedder/embedding": 0,
  "decoder/logits_dense/kernel": 1,
}
# What gives a network its numbers; the rest is how it is computed.
_COMPARED = (
  "emb_dim",
  "num_heads",
  "head_dim",
  "mlp_dim",
  "num_encoder_layers",
  "num_decoder_layers",
  "num_layers",
  "mlp_activations",
  "logits_via_embedding",
  "relpos_num_buckets",
  "relpos_max_distance",
  "relpos_bias",
)


class Source(abc.ABC):
  """A checkpoint that another framework wrote, opened for reading.

  Attributes:
    format: name of the format.
    path: the checkpoint.
    description: a few words on what it is, for logs and errors.
    step: optimizer steps behind it, 0 if unknown.
    shapes: our unrolled parameter name -> shape and dtype, as stored. Those
      that `read` takes from one place follow each other.
    config: sizes of the network, None if the checkpoint does not say.
    vocabulary: `kind`, `file` and `extra_ids` of the vocabulary that comes
      with it, as `data.vocabularies.from_spec` takes them, if one does.
    opt_state_source: the optimizer state likewise, by the names of
      `TrainState.opt_state`, if there is one that we can read.
    files: their change makes it another checkpoint.
    notes: what the user should know about how it is read; logged.
  """

  format: ClassVar[str]
  path: epath.Path
  description: str
  step: int = 0
  shapes: Mapping[str, jax.ShapeDtypeStruct]
  config: networks.T5Config | networks.DecoderOnlyConfig | None = None
  vocabulary: Mapping[str, Any] | None = None
  opt_state_source: "Source | None" = None
  files: Sequence[epath.Path] = ()
  notes: Sequence[str] = ()

  @abc.abstractmethod
  def read(self, name: str) -> np.ndarray:
    """Returns one parameter, of the shape and dtype in `shapes`."""

  @property
  def identity(self) -> str:
    """Differs if a file does, by its size and time; reads none of them."""
    facts: list[Any] = [str(self.path), self.step]
    for file in self.files:
      stat = file.stat()
      facts += [file.name, stat.length, stat.mtime]
    return f"{zlib.crc32(repr(facts).encode()):08x}"


def check_config(source: Source, config: Any) -> None:
  """Raises ValueError if a network is not the one that a checkpoint is of.

  Args:
    source: the checkpoint.
    config: of the network, as configured.
  """
  if source.config is None:
    return
  name = type(config).__name__
  if type(config) is not type(source.config):
    raise ValueError(
      f"{source.path} ({source.description}) holds a"
      f" {type(source.config).__name__}, but the model is a {name}. Choose a"
      " model file of its family."
    )
  lines = []
  for field in _COMPARED:
    found = getattr(source.config, field, None)
    given = getattr(config, field, None)
    if found != given:
      lines.append(
        f"networks.{name}.{field} = {given!r}; the checkpoint has {found!r}"
      )
  rows, stored = config.vocab_size, source.config.vocab_size
  if abs(rows - stored) > _MAX_PADDING_ROWS:
    lines.append(
      f"networks.{name}.vocab_size = {rows}; the checkpoint has {stored}"
    )
  if lines:
    raise ValueError(
      f"{source.path} ({source.description}) is not of this network:\n  "
      + "\n  ".join(lines)
      + "\nSet these bindings to what the checkpoint has, or choose the model"
      " file of its family and size."
    )


@dataclasses.dataclass(frozen=True)
class _Plan:
  """How one leaf of the model is made.

  Attributes:
    leaf: wanted shape, dtype and sharding.
    parts: what is stored of it, layer by layer.
  """

  leaf: jax.ShapeDtypeStruct
  parts: stacking.Stored


def restore_named(
  source: Source,
  wanted: Mapping[str, Any],
  names: Mapping[str, str],
  *,
  strict: bool = True,
) -> dict[str, jax.Array]:
  """Reads a model's leaves, one after the other, and places each.

  The largest comes first, so that at no time much more than the result is in
  memory; of one size, the order is that of `Source.shapes`. Vocabulary rows
  are padded or cut, which is logged.

  Args:
    source: the checkpoint.
    wanted: the model's name -> shape, dtype, sharding.
    names: the model's name -> stored name, for the leaves to restore.
    strict: whether a leaf that is not stored is an error; otherwise it is
      missing in the result.

  Returns:
    The model's name -> array.

  Raises:
    ValueError: lists all names that are missing or of another shape.
  """
  plans: dict[str, _Plan] = {}
  missing, wrong = [], []
  for name, stored_name in names.items():
    leaf = wanted[name]
    parts = stacking.find(stored_name, leaf.shape, source.shapes)
    if parts is None:
      missing.append(stored_name)
      continue
    if not _fits(stored_name, parts.shape, leaf.shape):
      wrong.append(
        f"{name}: stored {list(parts.shape)}, the model has {list(leaf.shape)}"
      )
      continue
    plans[name] = _Plan(leaf, parts)
    said = describe_rows(parts.shape, leaf.shape)
    if said:
      logging.warning("%s of %s: %s.", stored_name, source.path, said)
  if (missing and strict) or wrong:
    lines = [f"not stored: {name}" for name in missing] + wrong
    raise ValueError(
      f"{source.path} ({source.description}) does not fit the model:\n  "
      + "\n  ".join(lines[:20])
      + (f"\n  ... and {len(lines) - 20} more" if len(lines) > 20 else "")
      + "\nChoose the model file of its family and size, or set"
      " RestoreCheckpointConfig.assignment_map and strict = False."
    )
  for note in source.notes:
    logging.warning("%s: %s", source.path, note)
  positions = {name: i for i, name in enumerate(source.shapes)}

  def order(name: str) -> tuple[int, int]:
    plan = plans[name]
    return -math.prod(plan.leaf.shape), positions[plan.parts.names[0]]

  return {
    name: _place(source, plans[name]) for name in sorted(plans, key=order)
  }


def describe_rows(stored: Sequence[int], wanted: Sequence[int]) -> str:
  """Returns how vocabulary rows are padded or cut, '' if they are neither."""
  for have, want in zip(stored, wanted, strict=True):
    if have < want:
      return f"{have} vocabulary rows padded to {want} with copies of row 0"
    if have > want:
      return f"{have} vocabulary rows cut to {want}"
  return ""


def copy_rows(target: np.ndarray, array: np.ndarray, name: str) -> None:
  """Copies a parameter into one with more or fewer vocabulary rows.

  Rows that are not stored become copies of row 0, the padding. As that is no
  target of a loss its logit is low, and so is theirs; rows of zeros would have
  the logit 0, which in a model trained with z-loss is that of the best.

  Args:
    target: is overwritten.
    array: as stored.
    name: of the parameter.
  """
  common = tuple(map(slice, map(min, target.shape, array.shape)))
  target[common] = array[common]
  if target.shape != array.shape:
    axis = VOCABULARY_AXIS[name]
    rows = np.moveaxis(target, axis, 0)
    rows[array.shape[axis] :] = rows[0]


def _fits(name: str, stored: Sequence[int], wanted: Sequence[int]) -> bool:
  """Returns whether shapes are the same but for padding rows."""
  if len(stored) != len(wanted):
    return False
  axis = VOCABULARY_AXIS.get(name)
  return all(
    have == want or (i == axis and abs(have - want) <= _MAX_PADDING_ROWS)
    for i, (have, want) in enumerate(zip(stored, wanted, strict=True))
  )


def _place(source: Source, plan: _Plan) -> jax.Array:
  """Reads a leaf and puts it on the devices that its sharding names."""
  leaf, parts = plan.leaf, plan.parts
  buffer = _aligned(leaf.shape, leaf.dtype)
  if parts.stacked:
    for index, name in enumerate(parts.names):
      buffer[index] = source.read(name)
  else:
    name = parts.names[0]
    copy_rows(buffer, source.read(name), name)
  sharding = getattr(leaf, "sharding", None)
  if sharding is None or len(sharding.device_set) == 1:
    # A CPU device takes an aligned buffer as it is.
    return jax.device_put(buffer, sharding)
  return jax.make_array_from_callback(
    leaf.shape, sharding, lambda index: buffer[index]
  )


def _aligned(shape: Sequence[int], dtype: Any) -> np.ndarray:
  """Returns a buffer as a device of this machine could use it itself."""
  dtype, alignment = jnp.dtype(dtype), 64
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + alignment, np.uint8)
  start = -memory.ctypes.data % alignment
  return memory[start : start + size].view(dtype).reshape(shape)
