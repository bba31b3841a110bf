"""T5X's `precompile.precompile`, by ours.

Answers for `__main__` where a T5X file runs. May import: layers 0 to 6.
"""

from collections.abc import Callable, Mapping
from typing import Any

from t2tjax import data, optim, partitioning, trainer
from t2tjax import precompile as native
from t2tjax.compat.t5x import train as train_lib


def precompile(
  *,
  model: Any,
  train_dataset_cfg: data.DatasetConfig,
  partitioner: partitioning.Partitioner,
  model_dir: str,
  random_seed: int | None,
  get_dataset_fn: Callable[..., Any] | None = None,
  verify_matching_vocabs_fn: Callable[..., None] | None = None,
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[str, float]:
  """Compiles as `t2tjax.precompile.precompile` does, with T5X's parameters.

  Args:
    model: network, vocabularies, optimizer and loss in one.
    train_dataset_cfg: gives the shape of a batch.
    partitioner: mesh and sharding rules.
    model_dir: where the program goes.
    random_seed: of dropout; None takes 0.
    get_dataset_fn: T5X's own alone.
    verify_matching_vocabs_fn: without effect: no data are read.
    dry_run: show mesh, shardings, sizes and FLOPs, and return.
    run_record: writes the configuration; given by the command line.

  Returns:
    FLOPs, bytes and seconds by name.
  """
  train_lib.check_hooks(
    "precompile",
    get_dataset_fn=get_dataset_fn,
    verify_matching_vocabs_fn=verify_matching_vocabs_fn,
    use_orbax=True,
  )
  return native.precompile(
    model=model,
    model_dir=model_dir,
    train_dataset_cfg=train_dataset_cfg,
    partitioner=partitioner,
    # T5X compiles without a schedule as well: a number more or less.
    trainer=trainer.Trainer(
      learning_rate_fn=optim.create_learning_rate_scheduler(factors="constant")
    ),
    random_seed=random_seed or 0,
    dry_run=dry_run,
    run_record=run_record,
  )
