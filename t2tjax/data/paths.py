"""Where data, vocabularies and prepared records are found.

Called by everything in `data` that opens a file. May import: nothing of t2tjax.
"""

import glob
import hashlib
import os
import pathlib
import shutil

import fsspec

PREPARED_DIR_VARIABLE = "T2TJAX_PREPARED_DIR"
# T5's public vocabularies (and checkpoints) lie in this bucket; the variable
# names a local folder with the files of it that are used.
T5_DATA = "gs://t5-data/"
T5_DATA_VARIABLE = "T2TJAX_T5_DATA"


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
  shipped with the tasks, so that `bundle/x.model` works from everywhere;
  `gs://t5-data/x` is looked up below the folder that T2TJAX_T5_DATA names.
  """
  text = os.fspath(path)
  if text.startswith(T5_DATA) and (local := os.environ.get(T5_DATA_VARIABLE)):
    return os.path.join(local, text.removeprefix(T5_DATA))
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
  """Returns a local file for `path`; a missing one is an error for `setting`.

  A remote file (`gs://`, `s3://`, `https://`) is copied into the user's cache
  once; the schemes are fsspec's, with the packages it asks for.
  """
  found = resolve(path)
  if "://" in found:
    return _local_copy(found, setting)
  if not os.path.exists(found):
    raise ValueError(
      f"{os.fspath(path)!r} does not exist (looked in {os.getcwd()!r} and "
      f"among the shipped task files {str(_shipped_tasks_dir())!r}); "
      f"change {setting}{_local_t5_data_hint(path)}"
    )
  return found


def _local_copy(url: str, setting: str) -> str:
  """Returns the cached copy of a remote file, made whole or not at all."""
  digest = hashlib.sha256(url.encode()).hexdigest()[:16]
  target = os.path.join(_cache_dir(), "files", digest, url.rsplit("/", 1)[-1])
  if os.path.exists(target):
    return target
  os.makedirs(os.path.dirname(target), exist_ok=True)
  partial = f"{target}.{os.getpid()}.partial"
  try:
    with fsspec.open(url, "rb") as remote, open(partial, "wb") as local:
      shutil.copyfileobj(remote, local)
  except Exception as error:  # Each filesystem raises its own.
    if os.path.exists(partial):
      os.remove(partial)
    raise ValueError(
      f"{url!r} could not be read ({type(error).__name__}: {error}); change "
      f"{setting}, for example to a local copy{_local_t5_data_hint(url)}"
    ) from error
  os.replace(partial, target)
  return target


def _local_t5_data_hint(path: str | os.PathLike) -> str:
  if not os.fspath(path).startswith(T5_DATA):
    return ""
  return (
    f", or the variable {T5_DATA_VARIABLE} to a folder that holds "
    f"{os.fspath(path).removeprefix(T5_DATA)}"
  )


def _cache_dir() -> str:
  cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
  return os.path.join(cache, "t2tjax")


def default_prepared_dir() -> str:
  """Returns the folder of prepared records when none was configured."""
  return os.environ.get(
    PREPARED_DIR_VARIABLE, os.path.join(_cache_dir(), "prepared")
  )
