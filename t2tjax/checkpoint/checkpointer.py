"""Saves a run in the background and restores its newest whole checkpoint.

The training and evaluation commands use it; everything about files is below
it. May import: layers 0-3 and this package.
"""

from collections.abc import Mapping
import time
from typing import Any

from absl import logging
from etils import epath
import jax
from jax.experimental import multihost_utils
import numpy as np

from t2tjax import trees
from t2tjax.checkpoint import arrays, integrity, retention
from t2tjax.checkpoint import directory as directory_lib
from t2tjax.checkpoint import metadata as metadata_lib
from t2tjax.checkpoint.config import SaveCheckpointConfig, check_dtype
from t2tjax.typing import PyTree


def _feed_file(process: int) -> str:
  return f"feed_{process}.json"


def damage(directory: epath.Path) -> list[str]:
  """Returns what is wrong with a checkpoint; processes share the reading."""
  count = jax.process_count()
  lines = integrity.find_damage(
    directory, part=jax.process_index(), num_parts=count
  )
  if count == 1:
    return lines
  total = multihost_utils.process_allgather(np.int32(len(lines))).sum()
  if total and not lines:
    lines = [f"{directory}: another process found {total} damaged files"]
  return lines


def first_whole(candidates: list[epath.Path]) -> epath.Path:
  """Returns the first undamaged checkpoint and reports the damaged ones.

  Raises:
    DamagedCheckpointError: if all of them are damaged; lists every file.
  """
  reports = []
  for directory in candidates:
    lines = damage(directory)
    if not lines:
      return directory
    reports += lines
    logging.error(
      "The checkpoint %s is damaged and not used:\n  %s",
      directory,
      "\n  ".join(lines),
    )
  raise integrity.DamagedCheckpointError(
    "No whole checkpoint is left:\n  "
    + "\n  ".join(reports)
    + "\nRestore these files from a copy, or move the damaged directories"
    " away."
  )


def read_checkpoint(
  directory: epath.Path, abstract_state: PyTree
) -> tuple[PyTree, Any, dict[str, Any]]:
  """Reads a checkpoint that is known to be whole.

  Args:
    directory: the checkpoint.
    abstract_state: `jax.ShapeDtypeStruct`s with the wanted shardings.

  Returns:
    The state, the feed state of this process and the metadata.
  """
  started = time.monotonic()
  wanted = dict(trees.named_leaves(abstract_state))
  restored = arrays.restore_named(directory, wanted, {n: n for n in wanted})
  state = trees.map_named(lambda name, _: restored[name], abstract_state)
  content = metadata_lib.read_record(directory)
  logging.info(
    "Restored %s with its optimizer state in %.1f s.",
    directory,
    time.monotonic() - started,
  )
  return state, _feed_state(directory, content), content["metadata"]


def _feed_state(directory: epath.Path, content: Mapping) -> Any:
  """Returns the feed position of this process.

  A position that is the same on every process serves any number of them.
  """
  count = content["num_processes"]
  own = jax.process_index()
  if count == jax.process_count():
    text = (directory / _feed_file(own)).read_text()
    return metadata_lib.from_json(text)
  texts = {(directory / _feed_file(i)).read_text() for i in range(count)}
  if len(texts) > 1:
    raise ValueError(
      f"{directory} was saved by {count} processes whose feed positions"
      f" differ, and cannot continue on {jax.process_count()}. Run it on"
      f" {count} processes, or use DatasetConfig.mode = 'prepared'."
    )
  return metadata_lib.from_json(texts.pop())


class Checkpointer:
  """The checkpoints of one run directory.

  Every process calls every method. With a `save_config` the directory is
  probed for writing and leftovers of killed saves are removed at once;
  without one it is only read.
  """

  def __init__(
    self,
    model_dir: epath.PathLike,
    save_config: SaveCheckpointConfig | None = None,
  ):
    self._dir = directory_lib.absolute(model_dir)
    self._config = save_config
    self._saver = None
    self._damaged: set[int] = set()
    # Until a restore or a save of ours has shown that the newest checkpoint
    # is whole, removing older ones might remove the last good one.
    self._newest_is_whole = False
    self._has_saved = False
    self._best_values: dict[int, float] = {}
    if save_config is None:
      return
    if jax.process_index() == 0:
      directory_lib.check_writable(self._dir)
      for name in directory_lib.remove_leftovers(self._dir):
        logging.info("Removed %s, left by a killed save.", self._dir / name)
    self._saver = arrays.ArraySaver(
      timeout_secs=save_config.timeout_secs, before_commit=self._prune
    )

  @property
  def model_dir(self) -> epath.Path:
    """The run directory."""
    return self._dir

  def all_steps(self) -> list[int]:
    """Returns the steps of the checkpoints not known as damaged."""
    steps = directory_lib.steps_in(self._dir)
    return [step for step in steps if step not in self._damaged]

  def latest_step(self) -> int | None:
    """Returns the newest step, the same one on every process, or None."""
    steps = self.all_steps()
    latest = steps[-1] if steps else -1
    if jax.process_count() > 1:
      latest = int(multihost_utils.broadcast_one_to_all(np.int32(latest)))
    return latest if latest >= 0 else None

  def best_step(self) -> int | None:
    """Returns the step that is best by `best_metric`, or None."""
    if self._config is None or not self._config.best_metric:
      raise ValueError(
        "There is no best checkpoint without SaveCheckpointConfig.best_metric."
      )
    self._read_best_values(self._config.best_metric)
    best = retention.best_steps(self._best_values, self._config)
    return best[0] if best else None

  def save(
    self,
    step: int,
    state: PyTree,
    *,
    feed_state: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
  ) -> bool:
    """Saves in the background; `state` may be donated when this returns.

    An earlier save still under way is waited for; an error of it is raised
    here.

    Args:
      step: number of completed optimizer steps.
      state: a pytree of arrays, as a rule a TrainState.
      feed_state: position of this process' feed; str, int, bytes and the
        like.
      metadata: facts about the run, such as vocabulary fingerprints.
      metrics: what `best_metric` is looked up in.

    Returns:
      False if the step is already saved, otherwise True.
    """
    if self._saver is None or self._config is None:
      raise ValueError(
        f"{self._dir} was opened for reading; give Checkpointer a"
        " SaveCheckpointConfig (CheckpointConfig.save)."
      )
    self._wait_for_save(self._saver)
    step = int(step)
    directory = directory_lib.checkpoint_dir(self._dir, step)
    process = jax.process_index()
    if step in self._damaged:
      # The run went back past it and has come here again.
      if process == 0 and directory.exists():
        directory_lib.remove(directory)
      self._damaged.discard(step)
    elif step in self.all_steps():
      return False
    texts = {_feed_file(process): metadata_lib.to_json(feed_state)}
    if process == 0:
      texts[directory_lib.METADATA] = metadata_lib.record(
        step, metadata, metrics, jax.process_count()
      )
    dtype = check_dtype(self._config.dtype, "SaveCheckpointConfig.dtype")
    self._saver.save(directory, state, texts, dtype)
    self._has_saved = True
    return True

  def restore(
    self, abstract_state: PyTree, step: int | None = None
  ) -> tuple[PyTree, Any, dict[str, Any]]:
    """Restores the newest whole checkpoint, or that of `step`.

    Args:
      abstract_state: `jax.ShapeDtypeStruct`s with the wanted shardings; the
        mesh may be another one than that of the save.
      step: the step to restore; None takes the newest whole one.

    Returns:
      The state, the feed state of this process and the metadata.

    Raises:
      ValueError: if there is none, or it does not fit `abstract_state`.
      DamagedCheckpointError: if no whole one is left.
    """
    if self._saver is not None:
      self._saver.wait()
    directory = self._choose(step)
    return read_checkpoint(directory, abstract_state)

  def wait(self) -> None:
    """Blocks until everything saved is visible and the rest is removed."""
    if self._saver is None:
      return
    self._wait_for_save(self._saver)
    self._prune()

  def close(self) -> None:
    """Waits and frees the threads."""
    self.wait()
    if self._saver is not None:
      self._saver.close()
      self._saver = None

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def _wait_for_save(self, saver: arrays.ArraySaver) -> None:
    saver.wait()
    self._newest_is_whole |= self._has_saved

  def _choose(self, step: int | None) -> epath.Path:
    if step is not None:
      directory = directory_lib.checkpoint_dir(self._dir, step)
      if not directory.is_dir():
        raise ValueError(
          f"There is no checkpoint_{step}: {directory_lib.describe(self._dir)}."
        )
      return first_whole([directory])
    latest = self.latest_step()
    if latest is None:
      raise ValueError(
        "There is no checkpoint to restore:"
        f" {directory_lib.describe(self._dir)}."
      )
    steps = [step for step in reversed(self.all_steps()) if step <= latest]
    directories = [directory_lib.checkpoint_dir(self._dir, s) for s in steps]
    directory = first_whole(directories)
    self._damaged.update(steps[: directories.index(directory)])
    self._newest_is_whole = True
    return directory

  def _read_best_values(self, name: str) -> None:
    """Brings the metric `name` of every checkpoint on disk up to date."""
    steps = self.all_steps()
    values = {}
    for step in steps:
      if step in self._best_values:
        values[step] = self._best_values[step]
        continue
      directory = directory_lib.checkpoint_dir(self._dir, step)
      try:
        metrics = metadata_lib.read_record(directory)["metrics"]
      except (OSError, ValueError, KeyError):
        continue  # Damaged; a restore says so.
      if name in metrics:
        values[step] = metrics[name]
    self._best_values = values

  def _prune(self) -> None:
    """Removes what no rule keeps; never one that is known as damaged."""
    if not self._newest_is_whole or jax.process_index() != 0:
      return
    if self._config is None:
      return
    if self._config.best_metric:
      self._read_best_values(self._config.best_metric)
    for step in retention.steps_to_remove(
      self.all_steps(), self._best_values, self._config
    ):
      try:
        directory_lib.remove(directory_lib.checkpoint_dir(self._dir, step))
      except OSError as error:
        # No reason to lose the save that is about to be committed.
        logging.warning("Could not remove an old checkpoint: %s", error)
