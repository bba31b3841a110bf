"""Evaluates checkpoints on a Task or Mixture: `python -m t2tjax.evaluate`.

The same command again skips the checkpoints that are finished. May import:
layers 0 to 5.
"""

from collections.abc import Callable, Mapping
import os
from typing import Any

import numpy as np
import rich.console

from t2tjax import (
  checkpoint,
  data,
  distributed,
  evaluation,
  inference,
  partitioning,
  trees,
)
from t2tjax import trainer as trainer_lib
from t2tjax.evaluation import measuring, page, tables


def evaluate(
  *,
  model: Any,
  dataset_cfg: data.DatasetConfig,
  partitioner: partitioning.Partitioner,
  restore_checkpoint_cfg: checkpoint.RestoreCheckpointConfig,
  output_dir: str,
  evaluator_cls: Callable[..., evaluation.Evaluator] = evaluation.Evaluator,
  eval_steps: int | None = None,
  prepared_dir: str | None = None,
  compilation_cache_dir: str | None = "~/.cache/t2tjax/compilation",
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[int, Mapping[str, float]]:
  """Computes losses and task metrics of one or all checkpoints of a run.

  Args:
    model: network and vocabularies in one; see `models`.
    dataset_cfg: what to evaluate on, every example once.
    partitioner: mesh and sharding rules.
    restore_checkpoint_cfg: the checkpoint; with mode 'latest' the newest of a
      run directory, with 'all' each of them, but for those that
      `output_dir` has results of.
    output_dir: where `report.html`, `results.json`, `metrics.jsonl`,
      TensorBoard events and `predictions/<step>/<task>.jsonl` go.
    evaluator_cls: makes the evaluator of `model`.
    eval_steps: batches of teacher-forced evaluation per task; None for all.
    prepared_dir: where token records are kept, shared between runs.
    compilation_cache_dir: where compiled programs are kept; None for nowhere.
    dry_run: show mesh, shardings and checkpoints, and return.
    run_record: `(directory)` writes the configuration there; given by the
      command line.

  Returns:
    Step -> `<task>/<metric>` -> value, of all checkpoints that were wanted.
  """
  # ---------------------------------------------- What there is to do
  distributed.initialize()
  trainer_lib.use_compilation_cache(compilation_cache_dir)
  console = rich.console.Console(quiet=not distributed.is_primary())
  model.check_vocabulary()
  restore = restore_checkpoint_cfg
  found = inference.checkpoints(restore, model)
  # Of a list that is newest first, all but the first are stand-ins.
  wanted = [[c] for c in found] if restore.mode == "all" else [found]
  abstract, axes = inference.abstract_params(model, partitioner)
  if dry_run:
    console.print(partitioning.sharding_table(partitioner, abstract, axes))
    console.print(f"parameters  {trees.num_elements(abstract):,}")
    for candidates in wanted:
      console.print(f"checkpoint  {candidates[0].path}", soft_wrap=True)
    return {}
  _refuse_run_directory(output_dir)
  directory = trainer_lib.prepare_run_directory(output_dir, "OUTPUT_DIR")
  if run_record is not None:
    run_record(directory)

  loss_batches, decode_tasks = trainer_lib.open_eval_data(
    dataset_cfg, dataset_cfg, model, partitioner,
    eval_steps=eval_steps, prepared_dir=prepared_dir,
  )  # fmt: skip
  evaluator = evaluator_cls(
    model,
    batch_sharding=partitioner.batch_sharding,
    predictions_dir=str(directory / "predictions"),
  )
  evaluator.check(decode_tasks)
  kept = evaluation.ResultsFile(
    directory / "results.json",
    {
      "dataset": measuring.digest(decode_tasks),
      "dtype": restore.dtype,
      "eval_steps": eval_steps,
      **evaluator.settings,
    },
  )
  writer = trainer_lib.MetricWriter(directory, enabled=distributed.is_primary())

  # ---------------------------------------------- Checkpoint by checkpoint
  results = {}
  floors: dict[str, evaluation.Floor | None] = {}
  with partitioner.activate():
    for candidates in wanted:
      first = candidates[0]
      if restore.mode == "all" and _is_finished(kept, first):
        console.print(f"step {first.step}: finished before, skipped")
        results[first.step] = kept.metrics(first.step)
        continue
      try:
        restored, params = inference.restore_first(
          candidates, restore, abstract
        )
      except checkpoint.DamagedCheckpointError as error:
        if restore.mode != "all":
          raise
        console.print(f"step {first.step}: skipped, {error}", soft_wrap=True)
        continue
      measured = measuring.measure(
        evaluator, params, loss_batches, decode_tasks, step=restored.step
      )
      results[restored.step] = measured.flat
      if not distributed.is_primary():
        continue
      floors = floors or {
        task.name: evaluation.floor(task, result.num_examples)
        for task, result in zip(decode_tasks, measured.results, strict=True)
      }
      for task, metrics in measured.by_task.items():
        writer.write(f"eval/{task}", restored.step, metrics)
      writer.flush()
      kept.add(
        restored.step, restored.identity, restored.path, measured, floors
      )
      console.print(tables.losses_table(measured.losses, restored.path))
      console.print(tables.samples_table(measured.results))
      console.print(tables.metrics_table(measured.results, floors))
  writer.close()
  console.print(f"Results  {directory / 'results.json'}", soft_wrap=True)
  if distributed.is_primary() and results:
    private = [t.name for t in decode_tasks if evaluator.is_private(t)]
    written = page.write_page(directory, private=private)
    console.print(f"Page     {written}", soft_wrap=True)
  return results


def _is_finished(kept: evaluation.ResultsFile, found: Any) -> bool:
  finished = kept.is_finished(found.step, found.identity)
  # Process 0 writes, so that it knows.
  return bool(distributed.from_primary(np.bool_(finished)))


def _refuse_run_directory(output_dir: str) -> None:
  """A configuration written over that of training would hide it."""
  if os.path.isdir(output_dir) and any(
    name.startswith("checkpoint_") for name in os.listdir(output_dir)
  ):
    raise ValueError(
      f"output_dir = {output_dir!r} holds the checkpoints of a run; set "
      "OUTPUT_DIR to a directory of its own, such as "
      f"{os.path.join(output_dir, 'evaluation')!r}."
    )


if __name__ == "__main__":
  from t2tjax.config import cli

  cli.main(evaluate)
