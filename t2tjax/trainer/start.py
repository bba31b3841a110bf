"""Where a run starts: its own checkpoint, another one, or fresh parameters.

Called by `train`. May import: layers 0 to 4.
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from t2tjax import checkpoint, data
from t2tjax import state as state_lib
from t2tjax.data import vocabularies
from t2tjax.partitioning import Partitioner


@dataclasses.dataclass(frozen=True)
class Start:
  """The state a run begins with, and where it came from."""

  state: state_lib.TrainState
  origin: str


def use_compilation_cache(directory: str | None) -> None:
  """Keeps compiled programs, so that a second start need not compile.

  Args:
    directory: where; None switches the cache off.
  """
  if directory is None:
    return
  path = pathlib.Path(os.path.expanduser(directory))
  path.mkdir(parents=True, exist_ok=True)
  jax.config.update("jax_compilation_cache_dir", str(path))
  # By default JAX keeps only what took a second to compile; the many small
  # programs of a start add up.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def run_metadata(model: Any) -> dict[str, Any]:
  """Returns what a checkpoint of this model must agree on with a later run."""
  return {
    "vocabularies": {
      name: getattr(model, name).fingerprint
      for name in ("input_vocabulary", "output_vocabulary")
    }
  }


def abstract_state(
  model: Any,
  partitioner: Partitioner,
  batch_spec: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[state_lib.TrainState, state_lib.TrainState]:
  """Returns shapes with shardings, and logical axes; allocates nothing.

  Args:
    model: initialises parameters and has an optimizer.
    partitioner: decides where everything goes.
    batch_spec: features of the global batch.
  """
  abstract, axes = state_lib.abstract_state(
    model, model.optimizer_def, batch_spec
  )
  shardings = state_lib.state_shardings(partitioner, abstract, axes)
  placed = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    abstract,
    shardings,
  )
  return placed, axes


def first_step(restore: checkpoint.RestoreCheckpointConfig | None) -> int:
  """Returns the step that a new run starts at, where its schedule begins.

  It is 0 unless the checkpoint's step is asked for: the learning rates of a
  fine-tuning are relative to its own start.
  """
  if restore is None or (restore.params_only and not restore.keep_step):
    return 0
  return checkpoint.read_step(restore.path, mode=restore.mode)


def describe(
  restore: checkpoint.RestoreCheckpointConfig | None, step: int
) -> str:
  """Returns what a new run takes over, and where its schedule begins."""
  if restore is None:
    return "fresh parameters"
  if restore.params_only:
    taken = f"parameters of {restore.path}, a new optimizer state"
    if not restore.keep_step:
      return f"{taken}, step 0: the schedule begins anew"
  else:
    taken = f"continued from {restore.path}, optimizer included"
  return f"{taken}, step {step:,}: the schedule goes on"


def initial_state(
  model: Any,
  partitioner: Partitioner,
  axes: state_lib.TrainState,
  abstract: state_lib.TrainState,
  *,
  saver: checkpoint.Checkpointer,
  restore: checkpoint.RestoreCheckpointConfig | None,
  feed: data.Feed,
  seed: int,
) -> Start:
  """Returns the state to start from and puts the feed in its place.

  In this order: the newest whole checkpoint of the run itself, the checkpoint
  that `restore` names, fresh parameters.

  Args:
    model: initialises what is not restored.
    partitioner: its mesh holds the state.
    axes: logical axes of the state.
    abstract: of the state, with shardings.
    saver: of the run.
    restore: what to start from when the run has no checkpoint yet.
    feed: is put behind the last batch that the state has seen.
    seed: of fresh parameters.
  """
  if saver.latest_step() is not None:
    state, feed_state, metadata = saver.restore(abstract)
    check_vocabularies(metadata, model, saver.model_dir)
    if feed_state is not None:  # A converted checkpoint has none.
      feed.restore(feed_state)
    return Start(state, f"resumed at step {int(state.step)}")

  def fresh_state() -> state_lib.TrainState:
    return state_lib.init_state(
      model, model.optimizer_def, feed.batch_spec, partitioner, seed=seed
    )

  if restore is None:
    return Start(fresh_state(), describe(None, 0))
  source = checkpoint.open_source(restore.path)
  if source is not None:
    check_source(source, restore, model)
  else:
    metadata = checkpoint.read_metadata(restore.path, mode=restore.mode)
    check_vocabularies(metadata, model, restore.path)
  if not restore.params_only:
    state, feed_state, _ = checkpoint.restore_state(
      restore.path, abstract, mode=restore.mode
    )
    origin = describe(restore, int(state.step))
    if feed_state is not None and restore.keep_data_position:
      feed.restore(feed_state)
    else:
      origin += ", at the start of the data"
    return Start(state, origin)
  params = checkpoint.restore_params(
    restore.path,
    abstract.params,
    mode=restore.mode,
    dtype=restore.dtype,
    assignment_map=restore.assignment_map,
    strict=restore.strict,
    initial_params=lambda: fresh_state().params,
  )
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract.opt_state)
  opt_state = jax.jit(
    lambda params: model.optimizer_def.init(params, axes.params),
    out_shardings=shardings,
  )(params)
  step = first_step(restore)
  state = state_lib.TrainState(
    jax.device_put(jnp.int32(step), abstract.step.sharding), params, opt_state
  )
  return Start(state, describe(restore, step))


def check_source(
  source: checkpoint.Source,
  restore: checkpoint.RestoreCheckpointConfig,
  model: Any,
) -> None:
  """Raises ValueError if a checkpoint of another framework does not fit.

  Args:
    source: the checkpoint.
    restore: names may be mapped and parameters missing on purpose.
    model: has the network and the vocabularies.
  """
  if restore.strict and not restore.assignment_map:
    checkpoint.check_config(source, model.module.config)
  if source.vocabulary is None:
    return
  theirs = vocabularies.from_spec(source.vocabulary)
  for name in ("input_vocabulary", "output_vocabulary"):
    vocabulary = getattr(model, name)
    if not _same_text(vocabulary, theirs):
      raise ValueError(
        f"{source.path} comes with the vocabulary {theirs.fingerprint}, the "
        f"model's {name} is {vocabulary.fingerprint} (kind:hash of the "
        f"pieces). Set VOCABULARY to {dict(source.vocabulary)}."
      )


def _same_text(ours: Any, theirs: Any) -> bool:
  """Returns whether two vocabularies cut texts alike, as far as is known.

  They may differ in sentinels, which some files have inside.
  """
  if isinstance(ours, data.ByteVocabulary):
    return isinstance(theirs, data.ByteVocabulary)
  if not isinstance(ours, data.SentencePieceVocabulary):
    return True  # There is nothing to compare.
  if not isinstance(theirs, data.SentencePieceVocabulary):
    return False

  def pieces(processor: Any) -> list[tuple[str, float]]:
    ids = range(processor.GetPieceSize())
    scored = [(processor.IdToPiece(i), processor.GetScore(i)) for i in ids]
    return [entry for entry in scored if "<extra_id_" not in entry[0]]

  return ours.fingerprint == theirs.fingerprint or (
    pieces(ours.processor) == pieces(theirs.processor)
  )


def check_task_vocabularies(feed: data.Feed, model: Any) -> None:
  """Raises ValueError if a dataset was tokenised with another vocabulary.

  Args:
    feed: reports the fingerprint of each feature's vocabulary.
    model: has `input_vocabulary` and `output_vocabulary`.
  """
  expected = {
    "inputs": model.input_vocabulary.fingerprint,
    "targets": model.output_vocabulary.fingerprint,
  }
  for feature, found in feed.report["vocabularies"].items():
    if found != expected.get(feature, found):
      raise ValueError(
        f"The data has {feature} of the vocabulary {found}, the model reads "
        f"{expected[feature]} (kind:hash of the file:extra ids). Set "
        "VOCABULARY_FILE and SentencePieceVocabulary.extra_ids to the task's, "
        "or choose a task with the model's."
      )


def check_vocabularies(
  stored: Mapping[str, Any], model: Any, path: str | os.PathLike
) -> None:
  """Raises ValueError if a checkpoint was made with another vocabulary."""
  checkpoint.check_metadata(
    stored,
    run_metadata(model),
    path=path,
    change="Set VOCABULARY to that of the checkpoint, or start in another "
    "MODEL_DIR",
  )
