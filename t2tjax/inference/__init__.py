"""Using a trained model: its parameters, and texts through it in bulk.

Called by the run functions; may import layers 0 to 4, `evaluation` and
`trainer`.
"""

from t2tjax.inference.chunks import Work
from t2tjax.inference.inputs import FileInputs, TaskInputs
from t2tjax.inference.job import Job
from t2tjax.inference.progress import Progress
from t2tjax.inference.restoring import (
  Checkpoint,
  abstract_params,
  checkpoints,
  restore_first,
)
from t2tjax.inference.texts import TextModel, check_settings

__all__ = [
  "Checkpoint",
  "FileInputs",
  "Job",
  "Progress",
  "TaskInputs",
  "TextModel",
  "Work",
  "abstract_params",
  "check_settings",
  "checkpoints",
  "restore_first",
]
