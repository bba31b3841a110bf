"""Starting the processes of a run, and the few things they say to each other.

Called by run functions before anything touches a device. May import: nothing
of t2tjax.
"""

from collections.abc import Sequence
import os

import jax

# Variables by which JAX recognises a cluster that starts several processes.
_CLUSTER_VARIABLES = (
  "SLURM_NTASKS",
  "OMPI_COMM_WORLD_SIZE",
  "JOBSET_NAME",
  "MEGASCALE_COORDINATOR_ADDRESS",
)


def initialize(
  *,
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  local_device_ids: Sequence[int] | None = None,
  timeout_secs: int = 300,
) -> None:
  """Joins this process to the others of its run, if there are others.

  With no argument, and outside a cluster that announces several processes in
  the environment, this is a run of one process and nothing happens.

  Args:
    coordinator_address: `host:port` of process 0.
    num_processes: number of processes of the run.
    process_id: number of this process, from 0.
    local_device_ids: devices that this process may see; all by default.
    timeout_secs: how long to wait for the other processes.
  """
  given = {
    "coordinator_address": coordinator_address,
    "num_processes": num_processes,
    "process_id": process_id,
  }
  missing = [name for name, value in given.items() if value is None]
  if missing and len(missing) < len(given):
    set_ones = {k: v for k, v in given.items() if v is not None}
    raise ValueError(
      f"distributed.initialize got {set_ones} but not {' and '.join(missing)}; "
      "give all three, or none where the cluster announces them."
    )
  if not missing and process_id not in range(num_processes or 0):
    raise ValueError(
      f"distributed.initialize.process_id is {process_id}; with num_processes"
      f" = {num_processes} it must be at least 0 and below that."
    )
  if missing and not in_cluster():
    return
  jax.distributed.initialize(
    coordinator_address,
    num_processes,
    process_id,
    local_device_ids,
    initialization_timeout=timeout_secs,
  )


def in_cluster() -> bool:
  """Whether the environment announces a run of several processes."""
  if any(os.environ.get(v, "1") != "1" for v in _CLUSTER_VARIABLES):
    return True
  hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
  return "," in hosts


def is_primary() -> bool:
  """Whether this process writes what a run writes once."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Waits until every process has come here.

  Args:
    name: the same in every process; used once per meeting.
  """
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def from_primary(tree):
  """Returns process 0's value of a tree of numbers, in every process."""
  if jax.process_count() == 1:
    return tree
  from jax.experimental import multihost_utils

  return multihost_utils.broadcast_one_to_all(tree)
