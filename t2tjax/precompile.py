"""Compiles a train step ahead of its run: `python -m t2tjax.precompile`.

Reads no data and holds no parameters, so that a model that fits no memory here
can be looked at; with the same compilation cache, the run itself need not
compile again. May import: layers 0 to 5.
"""

from collections.abc import Callable, Mapping
import pathlib
import time
from typing import Any

import jax
import rich.console
import rich.table

from t2tjax import data, distributed, partitioning
from t2tjax import trainer as trainer_lib


def precompile(
  *,
  model: Any,
  model_dir: str,
  train_dataset_cfg: data.DatasetConfig,
  partitioner: partitioning.Partitioner,
  trainer: trainer_lib.Trainer,
  random_seed: int = 0,
  compilation_cache_dir: str | None = "~/.cache/t2tjax/compilation",
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[str, float]:
  """Compiles the train step and writes the optimized program.

  Args:
    model: network, vocabularies, optimizer and loss in one; see `models`.
    model_dir: where `train_step.hlo.txt` goes.
    train_dataset_cfg: gives the shape of a batch; its data are not read.
    partitioner: mesh and sharding rules.
    trainer: learning rate, microbatches; both are part of the program.
    random_seed: of dropout, which is part of the program too.
    compilation_cache_dir: where compiled programs are kept; None for nowhere.
    dry_run: show mesh, shardings, sizes and FLOPs, and return.
    run_record: `(directory, seeds=)` writes the configuration there; given by
      the command line.

  Returns:
    What is printed: FLOPs, bytes and seconds by name.
  """
  distributed.initialize()
  trainer_lib.use_compilation_cache(compilation_cache_dir)
  partitioner.data_layout(train_dataset_cfg.batch_size)
  trainer.check(train_dataset_cfg.batch_size, partitioner)
  batch_spec = data.batch_spec(train_dataset_cfg, model.feature_layout)
  abstract, axes = trainer_lib.abstract_state(model, partitioner, batch_spec)
  if dry_run:
    trainer_lib.show_overview(
      model, trainer, partitioner, abstract, axes, batch_spec,
      total_steps=1, restore=None,
    )  # fmt: skip
    return {}
  directory = pathlib.Path(trainer_lib.prepare_run_directory(model_dir))
  if run_record is not None:
    run_record(str(directory), seeds={"random_seed": random_seed})

  start = time.perf_counter()
  with partitioner.activate():
    compiled: Any = trainer.compile_train_step(
      model, partitioner, axes, abstract, batch_spec, random_seed=random_seed
    )
  seconds = time.perf_counter() - start

  facts = {
    "model FLOPs per step": 3 * model.flops(batch_spec),
    **program_costs(compiled),
    "seconds to trace and compile": seconds,
  }
  if distributed.is_primary():
    path = directory / "train_step.hlo.txt"
    path.write_text(compiled.as_text(), "utf-8")
    table = rich.table.Table("train step", "", title=str(path))
    for name, value in facts.items():
      table.add_row(name, f"{value:,.4g}" if value < 1e6 else f"{value:.4e}")
    rich.console.Console().print(table)
  return facts


def program_costs(compiled: jax.stages.Compiled) -> dict[str, float]:
  """Returns what the compiler says of a program, per device.

  The body of a loop over layers or microbatches counts once in its FLOPs and
  bytes accessed, so that model FLOPs are the ones to plan with.

  Args:
    compiled: the program. Backends that cannot tell leave entries out.
  """
  costs = compiled.cost_analysis() or {}
  found = {
    f"program {name} per device": float(costs[key])
    for name, key in (("FLOPs", "flops"), ("bytes accessed", "bytes accessed"))
    if key in costs
  }
  memory = compiled.memory_analysis()
  for name in ("argument", "output", "alias", "temp"):
    size = getattr(memory, f"{name}_size_in_bytes", None)
    if size is not None:
      found[f"{name} bytes per device"] = float(size)
  return found


if __name__ == "__main__":
  from t2tjax.config import cli

  cli.main(precompile)
