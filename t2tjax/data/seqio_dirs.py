"""Where seqio finds TFDS datasets and offline caches, and what they hold.

Set by the command line, read when seqio is first needed. The choice is kept in
the environment, so that child processes share it. May import: nothing of
t2tjax.
"""

from collections.abc import Iterable, Sequence
import os
import re
import sys
from typing import Any

# Wins over the directory that a task names; TFDS's own TFDS_DATA_DIR does not.
TFDS_DATA_DIR_VARIABLE = "T2TJAX_TFDS_DATA_DIR"
CACHE_DIRS_VARIABLE = "T2TJAX_SEQIO_CACHE_DIRS"
# A larger source is streamed unless preparing it was asked for.
PREPARED_BYTES = 50 * 2**30


def set_dirs(
  tfds_data_dir: str | None = None, cache_dirs: Sequence[str] = ()
) -> None:
  """Sets where datasets of all tasks lie, and adds folders of cached tasks.

  Args:
    tfds_data_dir: holds `<dataset>/<config>/<version>`; None leaves it to the
      tasks, the variable TFDS_DATA_DIR and TFDS's default.
    cache_dirs: hold `<task>`, written by seqio's cache_tasks_main, for
      `DatasetConfig.use_cached`.
  """
  if tfds_data_dir:
    os.environ[TFDS_DATA_DIR_VARIABLE] = tfds_data_dir
  if cache_dirs:
    os.environ[CACHE_DIRS_VARIABLE] = ",".join(cache_dirs)
  if "seqio" in sys.modules:
    apply_dirs()


def apply_dirs() -> None:
  """Tells seqio what was set."""
  import seqio

  if directory := os.environ.get(TFDS_DATA_DIR_VARIABLE):
    seqio.set_tfds_data_dir_override(directory)
  if directories := os.environ.get(CACHE_DIRS_VARIABLE):
    seqio.add_global_cache_dirs(directories.split(","))


def require_cached(tasks: Iterable[Any]) -> None:
  """Raises unless every task is in a folder of cached tasks."""
  absent = [task.name for task in tasks if not task.cache_dir]
  if absent:
    raise ValueError(
      f"use_cached=True, but no folder of cached tasks holds "
      f"{', '.join(absent)}; set DatasetConfig.use_cached = False "
      "(USE_CACHED_TASKS), which prepares tasks at first use, or name the "
      f"folders in --seqio_additional_cache_dirs or {CACHE_DIRS_VARIABLE}"
    )


def require_data(tasks: Iterable[Any]) -> None:
  """Raises unless the TFDS dataset of every task is on disk.

  A run does not download datasets by itself: some are hundreds of gigabytes.
  """
  for task in tasks:
    dataset = getattr(task.source, "tfds_dataset", None)
    if dataset is None:
      continue
    reason = "it was not generated"
    try:
      if dataset.builder.is_prepared():
        continue
    except Exception as error:  # TFDS raises several kinds for unknown names.
      reason = f"{error}".split("\n")[0]
    place = dataset.data_dir or os.environ.get("TFDS_DATA_DIR")
    raise ValueError(
      f"task {task.name!r} needs the TFDS dataset {dataset.name!r}, which is "
      f"not in {place or 'the default folder of TFDS'} ({reason}); generate it "
      'once with python -c "import tensorflow_datasets as tfds; '
      f"tfds.builder('{dataset.name}').download_and_prepare()\", or name "
      f"another folder by --tfds_data_dir, {TFDS_DATA_DIR_VARIABLE} or "
      "TFDS_DATA_DIR"
    )


def too_large(task: Any, split: str) -> str | None:
  """Returns why a task should be streamed unless asked otherwise, or None."""
  dataset = getattr(task.source, "tfds_dataset", None)
  if dataset is None:
    return None
  name = dataset._map_split(split)
  whole = dataset.info.splits[re.split(r"[\[+]", name)[0]]
  # Of a part, TFDS knows the examples only.
  num_examples = dataset.info.splits[name].num_examples
  size = whole.num_bytes * num_examples / max(1, whole.num_examples)
  if size <= PREPARED_BYTES:
    return None
  return (
    f"its source holds {size / 2**30:,.0f} GiB; set "
    "DatasetConfig.mode = 'prepared' to store its tokens all the same"
  )
