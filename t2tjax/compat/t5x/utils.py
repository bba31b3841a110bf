"""T5X's `utils`: data, checkpoints and schedules. May import: layers 0 to 4."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from t2tjax import checkpoint, data
from t2tjax.compat.t5x import checkpoints, notices
from t2tjax.optim import create_learning_rate_scheduler

__all__ = [
  "CheckpointConfig",
  "DatasetConfig",
  "RestoreCheckpointConfig",
  "SaveCheckpointConfig",
  "TrainStateInitializer",
  "create_learning_rate_scheduler",
  "get_dataset",
  "get_training_eval_datasets",
  "get_vocabulary",
  "round_vocab_size_to_multiple",
  "verify_matching_vocabs",
]

# Registers the tasks that ship, T5's among them, and what it stands in for.
_TASKS = "t2tjax.tasks.all"
_T5_PACKAGES = ("t5", "t5x", "multilingual_t5", "byt5")


def DatasetConfig(  # noqa: N802
  *,
  mixture_or_task_name: str,
  task_feature_lengths: Mapping[str, int] | None,
  split: str,
  batch_size: int,
  shuffle: bool,
  seed: int | None,
  use_cached: bool = False,
  pack: bool = False,
  use_custom_packing_ops: bool = False,
  module: str | None = None,
  use_memory_cache: bool = True,
  trim_output_features: bool = True,
  runtime_preprocessors: Sequence[Any] | None = None,
  num_prefetch_threads: int | None = None,
  num_workers: int | None = 0,
) -> data.DatasetConfig:
  """Returns `data.DatasetConfig`, which documents what has the same name.

  Args:
    mixture_or_task_name: see there, as for all that is not mentioned.
    task_feature_lengths: None takes the longest example's.
    split: likewise.
    batch_size: likewise.
    shuffle: likewise.
    seed: likewise.
    use_cached: likewise.
    pack: likewise.
    use_custom_packing_ops: packing has one implementation.
    module: likewise; the tasks that ship are there without it.
    use_memory_cache: likewise.
    trim_output_features: examples are always cut at their lengths.
    runtime_preprocessors: AirIO's, which has no counterpart.
    num_prefetch_threads: likewise.
    num_workers: likewise.
  """
  if use_custom_packing_ops:
    notices.without_effect(
      "utils.DatasetConfig.use_custom_packing_ops",
      "packing has one implementation",
    )
  notices.refuse_given(
    "utils.DatasetConfig",
    "examples are cut at task_feature_lengths; leave those None to cut none",
    trim_output_features=None if trim_output_features else False,
  )
  notices.refuse_given(
    "utils.DatasetConfig",
    "AirIO tasks have no counterpart; register a seqio Task",
    runtime_preprocessors=runtime_preprocessors,
    num_prefetch_threads=num_prefetch_threads,
    num_workers=num_workers or None,
  )
  if task_feature_lengths is None:
    task_feature_lengths = {"inputs": data.LONGEST, "targets": data.LONGEST}
  return data.DatasetConfig(
    mixture_or_task_name=mixture_or_task_name,
    task_feature_lengths=task_feature_lengths,
    split=split,
    batch_size=batch_size,
    shuffle=shuffle,
    seed=seed,
    use_cached=use_cached,
    pack=pack,
    module=_task_module(module),
    use_memory_cache=use_memory_cache,
  )


def SaveCheckpointConfig(  # noqa: N802
  *,
  dtype: str | None = "float32",
  period: int | None = None,
  checkpoint_steps: Sequence[int] | None = None,
  keep: int | None = None,
  keep_dataset_checkpoints: int | None = None,
  save_dataset: bool = False,
  checkpointer_cls: Callable[..., Any] = checkpoints.Checkpointer,
  state_transformation_fns: Sequence[Any] = (),
  checkpoint_manager_cls: Callable[
    ..., Any
  ] = checkpoints.OrbaxCheckpointManagerInterface,
) -> checkpoint.SaveCheckpointConfig | None:
  """Returns `checkpoint.SaveCheckpointConfig`; None where T5X never saves.

  Args:
    dtype: of stored parameters; None as they are.
    period: steps between two saves.
    checkpoint_steps: single steps; set the period instead.
    keep: newest checkpoints that stay; None for all.
    keep_dataset_checkpoints: the position in the data is in every checkpoint.
    save_dataset: likewise.
    checkpointer_cls: of `checkpoints`; the best by a metric may stay too.
    state_transformation_fns: not supported.
    checkpoint_manager_cls: as `checkpointer_cls`.
  """
  del save_dataset
  if keep_dataset_checkpoints is not None:
    notices.without_effect(
      "utils.SaveCheckpointConfig.keep_dataset_checkpoints",
      "every checkpoint has its position in the data",
    )
  notices.refuse_given(
    "utils.SaveCheckpointConfig",
    "set SaveCheckpointConfig.period",
    checkpoint_steps=checkpoint_steps,
  )
  _refuse_transformations("SaveCheckpointConfig", state_transformation_fns)
  _refuse_writers("Save", checkpointer_cls, checkpoint_manager_cls)
  if period is None:
    return None
  best: dict[str, Any] = {}
  for cls in (checkpointer_cls, checkpoint_manager_cls):
    settings = cls()
    notices.refuse_given(
      f"checkpoints.{type(settings).__name__}",
      "set SaveCheckpointConfig.period",
      checkpoint_steps=getattr(settings, "checkpoint_steps", None),
    )
    if not getattr(settings, "keep_checkpoints_without_metrics", True):
      notices.without_effect(
        f"checkpoints.{type(settings).__name__}."
        "keep_checkpoints_without_metrics",
        "the newest SaveCheckpointConfig.keep stay, and as many of the best",
      )
    metric = getattr(settings, "metric_name_to_monitor", None)
    if metric is not None:
      best["best_metric"] = _metric(metric)
      best["best_mode"] = settings.metric_mode
      best["keep_best"] = keep or 1
    if getattr(settings, "force_keep_period", None) is not None:
      best["keep_period"] = settings.force_keep_period
  return checkpoint.SaveCheckpointConfig(
    period=period, keep=keep, dtype=dtype, **best
  )


def RestoreCheckpointConfig(  # noqa: N802
  *,
  path: str | Sequence[str],
  mode: str = "latest",
  assignment_map: Sequence[tuple[str, str | None]] | None = None,
  strict: bool = True,
  fallback_to_scratch: bool = False,
  dtype: str | None = None,
  restore_dataset: bool = False,
  checkpointer_cls: Callable[..., Any] = checkpoints.Checkpointer,
  state_transformation_fns: Sequence[Any] = (),
  checkpoint_manager_cls: Callable[
    ..., Any
  ] = checkpoints.OrbaxCheckpointManagerInterface,
) -> checkpoint.RestoreCheckpointConfig | None:
  """Returns `checkpoint.RestoreCheckpointConfig` that takes all it can.

  Args:
    path: a checkpoint, or a directory of some; also of T5X or Hugging Face.
      An empty list restores nothing.
    mode: 'specific', 'latest' or 'all'.
    assignment_map: pairs of a regular expression and a stored name, as T5X
      names them (`target/...`). With it, the optimizer begins anew.
    strict: whether a parameter that is not stored is an error.
    fallback_to_scratch: not supported.
    dtype: of the restored parameters.
    restore_dataset: whether to go on at the checkpoint's position in the data.
    checkpointer_cls: the format is found out.
    state_transformation_fns: not supported.
    checkpoint_manager_cls: likewise.
  """
  _refuse_writers("Restore", checkpointer_cls, checkpoint_manager_cls)
  _refuse_transformations("RestoreCheckpointConfig", state_transformation_fns)
  notices.refuse_given(
    "utils.RestoreCheckpointConfig",
    "a checkpoint that is named has to be there; set strict = False to "
    "initialise what it lacks",
    fallback_to_scratch=fallback_to_scratch or None,
  )
  if not path:
    return None
  if not isinstance(path, str):
    if len(path) > 1:
      raise ValueError(
        f"utils.RestoreCheckpointConfig.path = {list(path)!r} must be one "
        "path; run the command once for each, or use mode = 'all' of a run."
      )
    path = path[0]
  if assignment_map:
    notices.without_effect(
      "the optimizer state of the initial checkpoint",
      "RestoreCheckpointConfig.assignment_map renames parameters, which it "
      "cannot follow; a new one begins",
    )
  return checkpoint.RestoreCheckpointConfig(
    path=path,
    mode=mode,
    dtype=dtype,
    assignment_map=_of_parameters(assignment_map or ()),
    strict=strict,
    params_only=bool(assignment_map),
    keep_step=True,
    keep_data_position=restore_dataset,
  )


def CheckpointConfig(  # noqa: N802
  save: checkpoint.SaveCheckpointConfig | None = None,
  restore: checkpoint.RestoreCheckpointConfig | None = None,
) -> checkpoint.CheckpointConfig:
  """Returns `checkpoint.CheckpointConfig`."""
  return checkpoint.CheckpointConfig(save=save, restore=restore)


def round_vocab_size_to_multiple(vocabulary: Any, divisor: int = 128) -> int:
  """Returns the vocabulary's size, rounded up."""
  return -(-vocabulary.vocab_size // divisor) * divisor


def get_vocabulary(cfg: data.DatasetConfig) -> NoReturn:
  """Refuses: a model names its vocabulary."""
  raise ValueError(
    f"utils.get_vocabulary of {cfg.mixture_or_task_name} is not supported: "
    "bind VOCABULARY to the vocabulary itself."
  )


def get_dataset(cfg: Any, **unused: Any) -> NoReturn:
  """Names what `train` does itself; it is not called."""
  raise ValueError("utils.get_dataset is not called: use data.train_feed.")


def get_training_eval_datasets(cfg: Any, **unused: Any) -> NoReturn:
  """Names what `train` does itself; it is not called."""
  raise ValueError(
    "utils.get_training_eval_datasets is not called: use data.eval_tasks."
  )


def verify_matching_vocabs(cfg: Any, model: Any) -> None:
  """Does nothing: vocabularies are always compared."""


class TrainStateInitializer:
  """Names what `train` does itself."""


def _task_module(module: str | None) -> str:
  if module is None or module.split(".")[0] in _T5_PACKAGES:
    return _TASKS
  return module


def _refuse_transformations(owner: str, functions: Sequence[Any]) -> None:
  notices.refuse_given(
    f"utils.{owner}",
    "change the checkpoint with t2tjax.convert or rename parameters with "
    "RestoreCheckpointConfig.assignment_map",
    state_transformation_fns=functions,
  )


def _refuse_writers(kind: str, checkpointer: Any, manager: Any) -> None:
  """Raises ValueError unless both are of `checkpoints`."""
  for parameter, value in (
    ("checkpointer_cls", checkpointer),
    ("checkpoint_manager_cls", manager),
  ):
    notices.refuse_unless(
      value,
      (
        "Checkpointer",
        "SaveBestCheckpointer",
        "OrbaxCheckpointManagerInterface",
      ),
      f"utils.{kind}CheckpointConfig.{parameter}",
      "checkpoints are written by Orbax, and those of T5X and Hugging Face are "
      "read; leave it unset",
    )


def _metric(name: str) -> str:
  """Returns a metric's name as `train` hands it to `save`."""
  if name.startswith("train/"):
    raise ValueError(
      f"metric_name_to_monitor = {name!r} is a metric of training batches; "
      "name one of an evaluation: 'inference_eval/<task>/<metric>'."
    )
  return name.removeprefix("inference_eval/").removeprefix("training_eval/")


def _of_parameters(
  assignment_map: Sequence[tuple[str, str | None]],
) -> tuple[tuple[str, str | None], ...]:
  """Returns the rules for parameters, without T5X's `target/`."""
  found: list[tuple[str, str | None]] = []
  for regex, name in assignment_map:
    bare = regex.removeprefix("^")
    if bare.startswith(("state", "step")):
      continue  # The optimizer's state begins anew.
    found.append(
      (bare.removeprefix("target/"), name and name.removeprefix("target/"))
    )
  return tuple(found)
