"""Checkpoints of other frameworks, read in place.

`open_source` says whether a path holds one; `convert` also writes them.
May import: layers 0-3, and of this package `directory`, `stacking`.
"""

from etils import epath

from t2tjax.checkpoint import directory as directory_lib
from t2tjax.checkpoint.formats.base import (
  VOCABULARY_AXIS,
  Source,
  check_config,
  copy_rows,
  describe_rows,
  restore_named,
)

__all__ = [
  "VOCABULARY_AXIS",
  "Source",
  "check_config",
  "copy_rows",
  "describe_rows",
  "open_source",
  "restore_named",
]


def open_source(path: epath.PathLike) -> Source | None:
  """Opens a checkpoint that another framework wrote.

  Args:
    path: a directory of Hugging Face transformers (`config.json` and
      `*.safetensors`), a T5X checkpoint, or a T5X run, of which the newest
      checkpoint is taken.

  Returns:
    The checkpoint, or None if `path` is none of these.

  Raises:
    ValueError: if it is one that cannot be read; says why and what to do.
  """
  root = directory_lib.absolute(path)
  if (t5x_directory := _t5x_directory(root)) is not None:
    from t2tjax.checkpoint.formats import t5x

    return t5x.T5XSource(t5x_directory)
  from t2tjax.checkpoint.formats import huggingface

  return huggingface.open_directory(root)


def _t5x_directory(root: epath.Path) -> epath.Path | None:
  from t2tjax.checkpoint.formats import t5x

  if t5x.is_checkpoint(root):
    return root
  for step in reversed(directory_lib.steps_in(root)):
    directory = directory_lib.checkpoint_dir(root, step)
    if t5x.is_checkpoint(directory):
      return directory
  return None
