"""The directory of a run, checked before anything costs time.

Called by run functions. May import: layers 0 to 4.
"""

import os
import pathlib
import tempfile


def prepare_run_directory(
  model_dir: str | os.PathLike, setting: str = "MODEL_DIR"
) -> pathlib.Path:
  """Creates the run directory and proves that it can be written.

  Args:
    model_dir: absolute or relative path; `~` is the home directory.
    setting: the macro to change if it cannot.

  Returns:
    The absolute path.

  Raises:
    ValueError: if the directory cannot be created or written.
  """
  path = pathlib.Path(model_dir).expanduser().absolute()
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path, prefix=".probe-") as probe:
      probe.write(b"t2tjax")
      probe.flush()
      os.fsync(probe.fileno())
  except OSError as error:
    raise ValueError(
      f"{setting} is {str(path)!r}, which cannot be written "
      f"({error.strerror}). Set --gin.{setting} to a directory that can."
    ) from error
  return path
