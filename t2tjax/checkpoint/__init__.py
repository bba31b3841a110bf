"""Checkpoints: asynchronous, atomic, checksummed, and independent of the mesh.

Layout: `<model_dir>/checkpoint_<step>/` with `state/` (Orbax),
`metadata.json`, `feed_<process>.json` and `manifest.json` (checksums of all
of it). May import: layers 0-3.
"""

from t2tjax.checkpoint.checkpointer import Checkpointer
from t2tjax.checkpoint.config import (
  CheckpointConfig,
  RestoreCheckpointConfig,
  SaveCheckpointConfig,
)
from t2tjax.checkpoint.directory import candidates
from t2tjax.checkpoint.formats import Source, check_config, open_source
from t2tjax.checkpoint.integrity import (
  DamagedCheckpointError,
  find_damage,
  identity,
)
from t2tjax.checkpoint.metadata import check_metadata, read_record
from t2tjax.checkpoint.params import (
  read_metadata,
  read_step,
  restore_params,
  restore_state,
)

__all__ = [
  "CheckpointConfig",
  "Checkpointer",
  "DamagedCheckpointError",
  "RestoreCheckpointConfig",
  "SaveCheckpointConfig",
  "Source",
  "candidates",
  "check_config",
  "check_metadata",
  "find_damage",
  "identity",
  "open_source",
  "read_metadata",
  "read_step",
  "read_record",
  "restore_params",
  "restore_state",
]
