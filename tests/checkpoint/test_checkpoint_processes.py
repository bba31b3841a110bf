"""Two processes save together; one, or two, restore."""

import json
import os
import socket
import subprocess
import sys

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import checkpoint
from t2tjax.checkpoint import integrity

pytestmark = pytest.mark.multihost

_PROCESS = """
import sys, time
import jax, numpy as np
model_dir, port, process, action = sys.argv[1:]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process),
                           initialization_timeout=60)
from jax.sharding import NamedSharding, PartitionSpec as P
from t2tjax import checkpoint
mesh = jax.make_mesh((4,), ("data",),
                     axis_types=(jax.sharding.AxisType.Auto,))
sharding = NamedSharding(mesh, P("data"))
value = np.arange(32, dtype=np.float32).reshape(8, 4)
def state(step):
  return {"params": {"w": jax.make_array_from_callback(
      (8, 4), sharding, lambda index: value[index] + step)}}
if action == "save":
  c = checkpoint.Checkpointer(model_dir, checkpoint.SaveCheckpointConfig(
      keep=2))
  for step in (1, 2, 3):
    c.save(step, state(step), feed_state={"position": step, "own": 0})
  c.close()
if action == "restore":
  c = checkpoint.Checkpointer(model_dir)
  target = {"params": {"w": jax.ShapeDtypeStruct(
      (8, 4), np.float32, sharding=sharding)}}
  got, feed, _ = c.restore(target)
  step = feed["position"]
  for shard in got["params"]["w"].addressable_shards:
    np.testing.assert_array_equal(shard.data, value[shard.index] + step)
  print("restored", step, flush=True)
"""


def run_two(model_dir, action):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  env = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
  }
  workers = [
    subprocess.Popen(
      [
        sys.executable,
        "-c",
        _PROCESS,
        str(model_dir),
        str(port),
        str(i),
        action,
      ],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=env,
    )
    for i in range(2)
  ]
  outputs = []
  try:
    for worker in workers:
      out, err = worker.communicate(timeout=150)
      assert worker.returncode == 0, err[-3000:]
      outputs.append(out.split()[-2:])  # Gloo prints lines of its own.
  finally:
    for worker in workers:
      worker.kill()
  return outputs


def test_two_processes_save_what_one_and_two_restore(tmp_path):
  run_two(tmp_path, "save")
  reader = checkpoint.Checkpointer(tmp_path)
  assert reader.all_steps() == [2, 3]
  target = {"params": {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32)}}
  state, feed, _ = reader.restore(target)
  want = np.arange(32, dtype=np.float32).reshape(8, 4) + 3
  np.testing.assert_array_equal(state["params"]["w"], want)
  assert feed == {"position": 3, "own": 0}
  # Each process checks a share of the files; both go back to the same one.
  damaged = tmp_path / "checkpoint_3" / "metadata.json"
  damaged.write_text(damaged.read_text() + " ")
  assert run_two(tmp_path, "restore") == [["restored", "2"]] * 2


def test_feed_positions_that_differ_need_the_same_number_of_processes(
  tmp_path,
):
  state = {"params": {"w": jnp.ones((4,))}}
  with checkpoint.Checkpointer(
    tmp_path, checkpoint.SaveCheckpointConfig()
  ) as checkpointer:
    checkpointer.save(1, state, feed_state={"position": 4})
  # As two processes with feeds of their own would have left it.
  directory = tmp_path / "checkpoint_1"
  record = json.loads((directory / "metadata.json").read_text())
  record["num_processes"] = 2
  (directory / "metadata.json").write_text(json.dumps(record))
  (directory / "feed_1.json").write_text('{"position": 5}')
  (directory / "manifest.json").unlink()
  integrity.write_manifest(epath.Path(directory))
  target = {"params": {"w": jax.ShapeDtypeStruct((4,), jnp.float32)}}
  with pytest.raises(ValueError, match="saved by 2 processes .* differ"):
    checkpoint.Checkpointer(tmp_path).restore(target)
