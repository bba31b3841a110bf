"""T5X's `eval.evaluate`, by ours.

Answers for `__main__` where a T5X file runs, and for `t5x.eval`. May import:
layers 0 to 6.
"""

from collections.abc import Callable, Mapping
from typing import Any

from t2tjax import checkpoint, data, partitioning
from t2tjax import evaluate as native
from t2tjax.compat.t5x import evaluators, notices
from t2tjax.compat.t5x import train as train_lib


def evaluate(
  *,
  model: Any,
  dataset_cfg: data.DatasetConfig,
  restore_checkpoint_cfg: checkpoint.RestoreCheckpointConfig,
  output_dir: str,
  partitioner: partitioning.Partitioner | None = None,
  inference_evaluator_cls: Callable[..., Any] | None = None,
  training_evaluator_cls: Callable[..., Any] | None = None,
  summarize_config_fn: Callable[..., None] | None = None,
  train_state_initializer_cls: Callable[..., Any] | None = None,
  train_eval_get_dataset_fn: Callable[..., Any] | None = None,
  fallback_init_rng: int | None = None,
  use_orbax: bool = True,
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[int, Mapping[str, float]]:
  """Evaluates as `t2tjax.evaluate.evaluate` does, with T5X's parameters.

  Args:
    model: network and vocabularies in one.
    dataset_cfg: what to evaluate on.
    restore_checkpoint_cfg: the checkpoint; mode 'all' takes every one of a
      run that has no result yet.
    output_dir: where results go.
    partitioner: mesh and sharding rules; by default every device on the
      batch.
    inference_evaluator_cls: `seqio.Evaluator`, with its loggers.
    training_evaluator_cls: without effect: losses are always computed.
    summarize_config_fn: without effect: the configuration is always written.
    train_state_initializer_cls: T5X's own alone.
    train_eval_get_dataset_fn: T5X's own alone.
    fallback_init_rng: not supported; a checkpoint has to be whole.
    use_orbax: without effect.
    dry_run: show mesh, shardings and checkpoints, and return.
    run_record: writes the configuration; given by the command line.

  Returns:
    Step -> `<task>/<metric>` -> value.
  """
  train_lib.check_hooks(
    "evaluate",
    train_eval_get_dataset_fn=train_eval_get_dataset_fn,
    train_state_initializer_cls=train_state_initializer_cls,
    summarize_config_fn=summarize_config_fn,
    use_orbax=use_orbax,
  )
  refuse_fallback("evaluate", fallback_init_rng)
  if training_evaluator_cls is not None:
    notices.without_effect(
      "evaluate.training_evaluator_cls", "losses are always computed"
    )
  return native.evaluate(
    model=model,
    dataset_cfg=dataset_cfg,
    partitioner=partitioner or partitioning.Partitioner(),
    restore_checkpoint_cfg=restore_checkpoint_cfg,
    output_dir=output_dir,
    evaluator_cls=evaluators.evaluator_cls(inference_evaluator_cls, output_dir),
    dry_run=dry_run,
    run_record=run_record,
  )


def refuse_fallback(run_function: str, fallback_init_rng: int | None) -> None:
  """Raises ValueError if parameters are to be made up where none are."""
  if fallback_init_rng is not None:
    raise ValueError(
      f"{run_function}.fallback_init_rng = {fallback_init_rng} would use "
      "random parameters for those that the checkpoint lacks; leave it None "
      "and name a checkpoint that is whole."
    )
