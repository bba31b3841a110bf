"""Trains a model: `python -m t2tjax.train --gin_file=...`.

The same command again goes on where the run stopped. May import: layers 0 to 5.
"""

from collections.abc import Callable, Mapping, Sequence
import time
from typing import Any

import jax

from t2tjax import checkpoint, data, distributed, evaluation, flops, host_memory
from t2tjax import trainer as trainer_lib
from t2tjax.partitioning import Partitioner


def train(
  *,
  model: Any,
  model_dir: str,
  train_dataset_cfg: data.DatasetConfig,
  partitioner: Partitioner,
  trainer: trainer_lib.Trainer,
  total_steps: int,
  checkpoint_cfg: checkpoint.CheckpointConfig,
  train_eval_dataset_cfg: data.DatasetConfig | None = None,
  infer_eval_dataset_cfg: data.DatasetConfig | None = None,
  evaluator_cls: Callable[..., evaluation.Evaluator] = evaluation.Evaluator,
  eval_steps: int | None = 20,
  eval_period: int | None = 1000,
  stats_period: int = 100,
  random_seed: int = 0,
  eval_before_training: bool = False,
  stop_conditions: Sequence[trainer_lib.StopCondition] = (),
  prepared_dir: str | None = None,
  compilation_cache_dir: str | None = "~/.cache/t2tjax/compilation",
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[str, float]:
  """Trains a model, evaluates it and leaves checkpoints and a report.

  Args:
    model: network, vocabularies, optimizer and loss in one; see `models`.
    model_dir: directory of the run. What it holds decides where the run
      starts: its newest whole checkpoint, else `checkpoint_cfg.restore`, else
      fresh parameters.
    train_dataset_cfg: what to train on.
    partitioner: mesh and sharding rules.
    trainer: learning rate, microbatches.
    total_steps: optimizer steps of the whole run, restarts included.
    checkpoint_cfg: what to save, keep and start from.
    train_eval_dataset_cfg: what to compute teacher-forced losses on.
    infer_eval_dataset_cfg: what to decode and score with the tasks' metrics.
    evaluator_cls: makes the evaluator of `model`.
    eval_steps: batches of teacher-forced evaluation per task; None for all.
    eval_period: optimizer steps between evaluations; None for one at the end.
    stats_period: optimizer steps that a line of metrics averages over.
    random_seed: of fresh parameters and, unless the trainer has one, dropout.
    eval_before_training: whether to evaluate before the first step as well.
    stop_conditions: what ends the run early, `trainer.EarlyStopping(...)`.
    prepared_dir: where token records are kept, shared between runs.
    compilation_cache_dir: where compiled programs are kept; None for nowhere.
    dry_run: show mesh, shardings, sizes and FLOPs, and return.
    run_record: `(directory, seeds=)` writes the configuration there; given by
      the command line.

  Returns:
    The last evaluation: `<task>/<metric>` -> value.

  Raises:
    ValueError: what is set cannot work; says which binding to change.
    Preempted: SIGTERM or Ctrl-C came; the state is saved.
  """
  started = time.monotonic()

  # ---------------------------------------------- Processes, mesh, shapes
  host_memory.keep_freed_memory()
  distributed.initialize()
  trainer_lib.use_compilation_cache(compilation_cache_dir)
  layout = partitioner.data_layout(train_dataset_cfg.batch_size)
  trainer.check(train_dataset_cfg.batch_size, partitioner)
  model.check_vocabulary()
  batch_spec = data.batch_spec(train_dataset_cfg, model.feature_layout)
  abstract, axes = trainer_lib.abstract_state(model, partitioner, batch_spec)
  if dry_run:
    trainer_lib.show_overview(
      model, trainer, partitioner, abstract, axes, batch_spec,
      total_steps=total_steps, restore=checkpoint_cfg.restore,
    )  # fmt: skip
    return {}

  # ---------------------------------------------- Directory, data, state
  directory = trainer_lib.prepare_run_directory(model_dir)
  if run_record is not None:
    run_record(directory, seeds={"random_seed": random_seed})
  feed = data.train_feed(
    train_dataset_cfg, model.feature_layout, layout, prepared_dir=prepared_dir
  )
  trainer_lib.check_task_vocabularies(feed, model)
  loss_batches, decode_tasks = trainer_lib.open_eval_data(
    train_eval_dataset_cfg, infer_eval_dataset_cfg, model, partitioner,
    eval_steps=eval_steps, prepared_dir=prepared_dir,
  )  # fmt: skip
  saver = checkpoint.Checkpointer(directory, checkpoint_cfg.save)
  save_period = checkpoint_cfg.save.period if checkpoint_cfg.save else None
  start = trainer_lib.initial_state(
    model, partitioner, axes, abstract,
    saver=saver, restore=checkpoint_cfg.restore, feed=feed, seed=random_seed,
  )  # fmt: skip
  state, first_step = start.state, int(start.state.step)
  log = trainer_lib.RunLog(
    directory, first_step=first_step, total_steps=total_steps,
    flops_per_step=3 * model.flops(batch_spec),
    peak_flops=flops.peak_flops(jax.devices()[0]),
  )  # fmt: skip
  log.note(f"{start.origin}; training to step {total_steps} in {directory}")

  with (
    partitioner.activate(),
    trainer_lib.PreemptionGuard() as guard,
    data.DeviceFeed(feed, partitioner.batch_sharding) as batches,
  ):
    # -------------------------------------------- Programs
    train_step = trainer.compile_train_step(
      model, partitioner, axes, abstract, batch_spec, random_seed=random_seed
    )
    validation = trainer_lib.Validation(
      evaluator_cls(model, batch_sharding=partitioner.batch_sharding), log,
      loss_batches=loss_batches, decode_tasks=decode_tasks,
      stop_conditions=stop_conditions,
      history=trainer_lib.read_history(directory, first_step),
    )  # fmt: skip
    if eval_before_training:
      validation.run(first_step, state.params)

    # ---------- Loop, in the one order in which a resumed run is the same
    for step in validation.until_stop(range(first_step, total_steps)):
      batch = log.wait_for(batches.__next__)
      state, metrics = train_step(state, batch)
      if step % stats_period == 0:
        log.report(step)  # Of the steps before, while this one runs.
      log.add(metrics)

      done = step + 1
      last, stop = done == total_steps, guard.should_stop(done)
      evaluates = last or _due(done, eval_period)
      saves = last or stop or _due(done, save_period)
      if evaluates or saves:
        log.report(done)
        found = validation.run(done, state.params) if evaluates else None
        if validation.saves(saves) and save_period:
          saver.save(
            done, state, feed_state=batches.state(), metrics=found,
            metadata=trainer_lib.run_metadata(model),
          )  # fmt: skip
      if stop and not last and not validation.stop:
        saver.close()
        log.note(f"Stopped at step {done}; the same command goes on from it.")
        log.close()
        raise trainer_lib.Preempted(done)

    # -------------------------------------------- Summary
    saver.close()
    return trainer_lib.finish(
      directory, state, validation, log, started=started
    )


def _due(step: int, period: int | None) -> bool:
  return period is not None and step % period == 0


if __name__ == "__main__":
  from t2tjax.config import cli

  cli.main(train)
