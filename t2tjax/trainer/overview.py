"""What a run will be, shown before it costs anything.

Called by `train` for `--dry_run`. May import: layers 0 to 4.
"""

from collections.abc import Mapping
from typing import Any

import jax
import rich.console
import rich.table

from t2tjax import checkpoint, partitioning, trees
from t2tjax import state as state_lib
from t2tjax.trainer import start
from t2tjax.trainer import trainer as trainer_lib


def show_overview(
  model: Any,
  trainer: trainer_lib.Trainer,
  partitioner: partitioning.Partitioner,
  abstract: state_lib.TrainState,
  axes: state_lib.TrainState,
  batch_spec: Mapping[str, jax.ShapeDtypeStruct],
  *,
  total_steps: int,
  restore: checkpoint.RestoreCheckpointConfig | None,
) -> None:
  """Prints mesh, shardings, batch, sizes, FLOPs and learning rates.

  Args:
    model: gives the FLOPs.
    trainer: gives the schedule.
    partitioner: gives the mesh.
    abstract: of the state, with shardings.
    axes: logical axes of the state.
    batch_spec: features of the global batch.
    total_steps: of the run.
    restore: what the run starts from; decides where its schedule begins.
  """
  console = rich.console.Console()
  console.print(
    partitioning.sharding_table(partitioner, abstract.params, axes.params)
  )
  flops = 3 * model.flops(batch_spec)
  first = start.first_step(restore)
  span = max(total_steps - first, 0)
  rates = {
    step: float(trainer.learning_rate_fn(step))
    for step in (first, first + span // 10, first + span // 2, first + span)
  }
  facts = {
    "mesh": {k: v for k, v in partitioner.mesh.shape.items() if v > 1} or 1,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "global batch": ", ".join(
      f"{name} {list(spec.shape)}" for name, spec in batch_spec.items()
    ),
    "microbatches": trainer.num_microbatches,
    "parameters": f"{trees.num_elements(abstract.params):,}",
    "parameter bytes per device": f"{device_bytes(abstract.params):,}",
    "optimizer bytes per device": f"{device_bytes(abstract.opt_state):,}",
    "model FLOPs per step": f"{flops:.3e}",
    "starts from": start.describe(restore, first),
    "steps": f"{total_steps:,}",
    "learning rate at step": ", ".join(
      f"{step:,}: {rate:.2e}" for step, rate in rates.items()
    ),
  }
  table = rich.table.Table("run", "")
  for name, value in facts.items():
    table.add_row(name, str(value))
  console.print(table)


def device_bytes(abstract: Any) -> int:
  """Returns the bytes of a sharded tree that one device holds."""
  return trees.num_bytes(
    jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.sharding.shard_shape(leaf.shape), leaf.dtype
      ),
      abstract,
    )
  )
