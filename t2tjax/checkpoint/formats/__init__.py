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
  # Only starting from a checkpoint pays for these.
  from t2tjax.checkpoint.formats import huggingface, t5x

  root = directory_lib.absolute(path)
  newest = [
    directory_lib.checkpoint_dir(root, step)
    for step in directory_lib.steps_in(root)[-1:]
  ]
  for directory in (root, *newest):
    if t5x.is_checkpoint(directory):
      return t5x.T5XSource(directory)
  return huggingface.open_directory(root)
