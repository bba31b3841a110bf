"""Where data, vocabularies and prepared records are found.

Called by everything in `data` that opens a file. May import: nothing of t2tjax.
"""

import glob
import os
import pathlib

PREPARED_DIR_VARIABLE = "T2TJAX_PREPARED_DIR"


def _shipped_tasks_dir() -> pathlib.Path | None:
  """Returns the installed `t2tjax.tasks` folder without importing a task."""
  import t2tjax

  beside = pathlib.Path(t2tjax.__file__).parent / "tasks"
  if beside.is_dir():
    return beside
  # An editable install maps the repository's `tasks/` into the package.
  checkout = pathlib.Path(t2tjax.__file__).parent.parent / "tasks"
  return checkout if checkout.is_dir() else None


def resolve(path: str | os.PathLike) -> str:
  """Returns an existing file for `path`, or `path` itself.

  Relative paths are looked up in the working directory, then among the files
  shipped with the tasks, so that `bundle/x.model` works from everywhere.
  """
  text = os.fspath(path)
  if "://" in text or os.path.isabs(text) or os.path.exists(text):
    return text
  shipped = _shipped_tasks_dir()
  if shipped is not None and (shipped / text).exists():
    return str(shipped / text)
  return text


def resolve_files(pattern: str | os.PathLike) -> list[str]:
  """Returns the sorted existing files for a path or glob pattern."""
  text = os.fspath(pattern)
  found = sorted(glob.glob(text))
  shipped = _shipped_tasks_dir()
  if not found and shipped is not None and not os.path.isabs(text):
    found = sorted(glob.glob(str(shipped / text)))
  return [path for path in found if os.path.isfile(path)]


def require(path: str | os.PathLike, setting: str) -> str:
  """Returns `resolve(path)`; a missing file is an error naming `setting`."""
  found = resolve(path)
  if "://" not in found and not os.path.exists(found):
    raise ValueError(
      f"{os.fspath(path)!r} does not exist (looked in {os.getcwd()!r} and "
      f"among the shipped task files {str(_shipped_tasks_dir())!r}); "
      f"change {setting}"
    )
  return found


def default_prepared_dir() -> str:
  """Returns the folder of prepared records when none was configured."""
  cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
  return os.environ.get(
    PREPARED_DIR_VARIABLE, os.path.join(cache, "t2tjax", "prepared")
  )
