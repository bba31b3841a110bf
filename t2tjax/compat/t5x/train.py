"""T5X's `train.train`, by ours.

Answers for `__main__` where a T5X file runs, and for `t5x.train`. May import:
layers 0 to 6.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
import secrets
from typing import Any

from t2tjax import checkpoint, data, distributed, partitioning
from t2tjax import train as native
from t2tjax.compat.t5x import actions as actions_lib
from t2tjax.compat.t5x import evaluators, notices
from t2tjax.trainer import start

_SEED_BITS = 31


def train(
  *,
  model: Any,
  train_dataset_cfg: data.DatasetConfig,
  train_eval_dataset_cfg: data.DatasetConfig | None,
  infer_eval_dataset_cfg: data.DatasetConfig | None,
  checkpoint_cfg: checkpoint.CheckpointConfig,
  partitioner: partitioning.Partitioner,
  trainer_cls: Callable[..., Any],
  model_dir: str,
  total_steps: int,
  eval_steps: int | None,
  eval_period: int | None,
  random_seed: int | None,
  relative_steps: int | None = None,
  stats_period: int | None = None,
  use_hardware_rng: bool = False,
  summarize_config_fn: Callable[..., None] | None = None,
  inference_evaluator_cls: Callable[..., Any] | None = None,
  get_dataset_fn: Callable[..., Any] | None = None,
  concurrent_metrics: bool = True,
  actions: Mapping[str, Sequence[actions_lib.BaseAction]] | None = None,
  train_eval_get_dataset_fn: Callable[..., Any] | None = None,
  run_eval_before_training: bool = False,
  train_state_initializer_cls: Callable[..., Any] | None = None,
  use_orbax: bool = True,
  verify_matching_vocabs_fn: Callable[..., None] | None = None,
  gc_period: int = 0,
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[str, float]:
  """Trains a model as `t2tjax.train.train` does, with T5X's parameters.

  Args:
    model: network, vocabularies, optimizer and loss in one.
    train_dataset_cfg: what to train on.
    train_eval_dataset_cfg: what to compute teacher-forced losses on.
    infer_eval_dataset_cfg: what to decode and score.
    checkpoint_cfg: what to save, keep and start from.
    partitioner: mesh and sharding rules.
    trainer_cls: gives the learning rate and the microbatches.
    model_dir: directory of the run.
    total_steps: steps of the run, those of the initial checkpoint included.
    eval_steps: batches of teacher-forced evaluation per task.
    eval_period: steps between evaluations; 0 for one at the end.
    random_seed: of parameters and dropout; None chooses one, which `run.json`
      keeps and a restart takes again.
    relative_steps: steps after the initial checkpoint, instead of
      `total_steps`; a restart does not count them anew.
    stats_period: steps that a line of metrics averages over; as often as
      evaluations by default.
    use_hardware_rng: without effect: the same numbers are drawn everywhere.
    summarize_config_fn: without effect: the configuration is always written.
    inference_evaluator_cls: `seqio.Evaluator`, with its loggers.
    get_dataset_fn: T5X's own alone.
    concurrent_metrics: without effect: metrics never hold up a step.
    actions: what may end the run early.
    train_eval_get_dataset_fn: T5X's own alone.
    run_eval_before_training: whether to evaluate before the first step too.
    train_state_initializer_cls: T5X's own alone.
    use_orbax: without effect: checkpoints are written by Orbax.
    verify_matching_vocabs_fn: without effect: vocabularies are compared.
    gc_period: without effect: the collector is left alone.
    dry_run: show mesh, shardings, sizes and FLOPs, and return.
    run_record: writes the configuration; given by the command line.

  Returns:
    The last evaluation: `<task>/<metric>` -> value.
  """
  check_hooks(
    "train",
    get_dataset_fn=get_dataset_fn,
    train_eval_get_dataset_fn=train_eval_get_dataset_fn,
    train_state_initializer_cls=train_state_initializer_cls,
    summarize_config_fn=summarize_config_fn,
    verify_matching_vocabs_fn=verify_matching_vocabs_fn,
    use_orbax=use_orbax,
  )
  if use_hardware_rng:
    notices.without_effect(
      "train.use_hardware_rng", "the same numbers are drawn everywhere"
    )
  if not concurrent_metrics:
    notices.without_effect(
      "train.concurrent_metrics", "metrics never hold up a step"
    )
  if gc_period:
    notices.without_effect("train.gc_period", "the collector is left alone")
  restore = initial_checkpoint(checkpoint_cfg.restore)
  if relative_steps:
    total_steps = relative_steps + start.first_step(restore)
  return native.train(
    model=model,
    model_dir=model_dir,
    train_dataset_cfg=train_dataset_cfg,
    train_eval_dataset_cfg=train_eval_dataset_cfg,
    infer_eval_dataset_cfg=infer_eval_dataset_cfg,
    checkpoint_cfg=dataclasses.replace(checkpoint_cfg, restore=restore),
    partitioner=partitioner,
    trainer=trainer_cls(),
    evaluator_cls=evaluators.evaluator_cls(inference_evaluator_cls, model_dir),
    total_steps=total_steps,
    eval_steps=eval_steps,
    eval_period=eval_period or None,
    stats_period=stats_period or eval_period or 100,
    random_seed=chosen_seed(random_seed, model_dir),
    eval_before_training=run_eval_before_training,
    stop_conditions=actions_lib.stop_conditions(actions),
    dry_run=dry_run,
    run_record=run_record,
  )


def check_hooks(run_function: str, *, use_orbax: bool, **hooks: Any) -> None:
  """Refuses hooks of a user's own; T5X's do what is done here anyway.

  Args:
    run_function: its name, for messages.
    use_orbax: T5X's switch between two checkpoint formats.
    **hooks: parameter -> what is bound to it.
  """
  if not use_orbax:
    notices.without_effect(
      f"{run_function}.use_orbax",
      "checkpoints are written by Orbax, and those of T5X are read",
    )
  known = {
    "get_dataset_fn": ("get_dataset", "register the dataset as a seqio Task"),
    "train_eval_get_dataset_fn": (
      "get_training_eval_datasets",
      "register the dataset as a seqio Task",
    ),
    "train_state_initializer_cls": (
      "TrainStateInitializer",
      "initialise in the module",
    ),
    "summarize_config_fn": (
      "summarize_gin_config",
      "config.gin and run.json are always written",
    ),
    "verify_matching_vocabs_fn": (
      "verify_matching_vocabs",
      "vocabularies are always compared",
    ),
  }
  for name, value in hooks.items():
    own, instead = known[name]
    notices.refuse_unless(value, (None, own), f"{run_function}.{name}", instead)


def initial_checkpoint(
  restore: checkpoint.RestoreCheckpointConfig | None,
) -> checkpoint.RestoreCheckpointConfig | None:
  """Returns what T5X would restore: all that a checkpoint has, and its step.

  Args:
    restore: as configured; the data begin at their beginning unless it says
      otherwise.
  """
  if restore is None or restore.params_only:
    return restore
  source = checkpoint.open_source(restore.path)
  if source is None or source.opt_state_source is not None:
    return restore
  notices.without_effect(
    "the optimizer state of the initial checkpoint",
    f"{restore.path} has none; a new one begins",
  )
  return dataclasses.replace(restore, params_only=True, keep_step=True)


def chosen_seed(random_seed: int | None, model_dir: str) -> int:
  """Returns the seed; without one that of an earlier start, or a new one."""
  if random_seed is not None:
    return random_seed
  path = os.path.join(os.path.expanduser(model_dir), "run.json")
  if os.path.exists(path):
    with open(path, encoding="utf-8") as file:
      starts = json.load(file)["starts"]
    seeds = [start["seeds"].get("random_seed") for start in starts]
    if seeds and seeds[-1] is not None:
      return seeds[-1]
  distributed.initialize()
  return int(distributed.from_primary(secrets.randbits(_SEED_BITS)))
