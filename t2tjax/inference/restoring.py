"""The parameters of a trained model, for whatever is done with it.

Called by `evaluate` and `infer`. May import: layers 0 to 4 and `trainer`.
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

from absl import logging
import jax

from t2tjax import checkpoint
from t2tjax import state as state_lib
from t2tjax.data import layouts
from t2tjax.partitioning import Partitioner
from t2tjax.trainer import start
from t2tjax.typing import Params, PyTree


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A checkpoint on disk, known by what it holds.

  Attributes:
    path: its directory.
    step: optimizer steps behind it.
    identity: differs if any of its files does.
  """

  path: str
  step: int
  identity: str


def checkpoints(
  restore: checkpoint.RestoreCheckpointConfig, model: Any
) -> list[Checkpoint]:
  """Returns what a restore may use, in the order to try it.

  Refuses a checkpoint of another vocabulary before anything costs time.

  Args:
    restore: names a checkpoint, a run directory, or a checkpoint of another
      framework.
    model: has the vocabularies.
  """
  path = os.path.abspath(os.path.expanduser(restore.path))
  path = restore.path if "://" in restore.path else path
  if (source := checkpoint.open_source(path)) is not None:
    start.check_source(source, restore, model)
    return [Checkpoint(str(source.path), source.step, source.identity)]
  found = []
  for directory in checkpoint.candidates(path, restore.mode):
    try:
      record = checkpoint.read_record(directory)
      identity = checkpoint.identity(directory)
    except (OSError, checkpoint.DamagedCheckpointError) as error:
      logging.error("%s is damaged and not used: %s", directory, error)
      continue
    start.check_vocabularies(record["metadata"], model, directory)
    found.append(Checkpoint(str(directory), record["step"], identity))
  if not found:
    raise checkpoint.DamagedCheckpointError(
      f"RestoreCheckpointConfig.path = {restore.path!r} holds no whole "
      "checkpoint; restore its files from a copy."
    )
  return found


def abstract_params(
  model: Any, partitioner: Partitioner
) -> tuple[Params, PyTree]:
  """Returns shapes with shardings, and logical axes; allocates nothing."""
  layout = layouts.make_layout(
    model.feature_layout, {"inputs": 8, "targets": 8}, pack=False
  )
  abstract, axes = state_lib.abstract_params(model, layout.batch_spec(1))
  shardings = partitioner.shardings(axes, abstract)
  placed = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    abstract,
    shardings,
  )
  return placed, axes


def restore_first(
  found: Sequence[Checkpoint],
  restore: checkpoint.RestoreCheckpointConfig,
  abstract: Params,
) -> tuple[Checkpoint, Params]:
  """Restores the first whole checkpoint, on the devices.

  Args:
    found: of `checkpoints`; all but the first stand in for a damaged one.
    restore: dtype, names and strictness.
    abstract: of `abstract_params`.
  """
  damages = []
  for candidate in found:
    try:
      params = checkpoint.restore_params(
        candidate.path,
        abstract,
        dtype=restore.dtype,
        assignment_map=restore.assignment_map,
        strict=restore.strict,
      )
    except checkpoint.DamagedCheckpointError as error:
      damages.append(error)
      continue
    return candidate, params
  raise damages[0]
