"""Killed, altered and unwritable checkpoints."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import checkpoint
from t2tjax.checkpoint import directory as directory_lib
from t2tjax.checkpoint import integrity

pytestmark = pytest.mark.fault

# Saves step after step: every leaf of step n is n, the feed position too.
_WRITER = """
import sys
import jax, jax.numpy as jnp
from t2tjax import checkpoint
c = checkpoint.Checkpointer(
    sys.argv[1], checkpoint.SaveCheckpointConfig(keep=2))
first = (c.latest_step() or 0) + 1
for step in range(first, first + 10_000):
  state = {"params": {f"w{i}": jnp.full((256, 256), float(step))
                      for i in range(8)}}
  c.save(step, state, feed_state={"position": step})
  print(step, flush=True)
"""

TARGET = {
  "params": {
    f"w{i}": jax.ShapeDtypeStruct((256, 256), jnp.float32) for i in range(8)
  }
}


def save_steps(path, steps, **kwargs):
  config = checkpoint.SaveCheckpointConfig(**kwargs)
  with checkpoint.Checkpointer(path, config) as checkpointer:
    for step in steps:
      state = {
        "params": {f"w{i}": jnp.full((256, 256), float(step)) for i in range(8)}
      }
      checkpointer.save(step, state, feed_state={"position": step})


def assert_is_step(state, feed, step):
  assert feed == {"position": step}
  for leaf in jax.tree.leaves(state):
    np.testing.assert_array_equal(leaf, np.full((256, 256), float(step)))


def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path):
  rng = random.Random(0)
  newest = 0
  for _ in range(6):
    writer = subprocess.Popen(
      [sys.executable, "-c", _WRITER, str(tmp_path)],
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    begun = int(writer.stdout.readline())
    time.sleep(rng.uniform(0.0, 0.4))
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait(timeout=30)
    last = int(rest[-1]) if rest else begun
    reader = checkpoint.Checkpointer(tmp_path)
    if reader.latest_step() is None:
      continue
    state, feed, _ = reader.restore(TARGET)
    assert_is_step(state, feed, reader.latest_step())
    # Beginning a save means that the one before is whole; the last line may
    # have been lost between the save and the print.
    assert last - 1 <= reader.latest_step() <= last + 1
    assert reader.latest_step() >= newest
    newest = reader.latest_step()
  assert newest > 3


def test_leftovers_of_killed_saves_are_removed_at_the_next_start(tmp_path):
  save_steps(tmp_path, [1])
  for name in (
    "checkpoint_2.orbax-checkpoint-tmp",
    "checkpoint_3.orbax-checkpoint-tmp-17",
    "checkpoint_1.removing",
    "checkpoints_of_mine",
  ):
    (tmp_path / name / "state").mkdir(parents=True)
  assert checkpoint.Checkpointer(tmp_path).all_steps() == [1]
  assert len(list(tmp_path.iterdir())) == 5  # A reader removes nothing.
  checkpoint.Checkpointer(tmp_path, checkpoint.SaveCheckpointConfig()).close()
  names = sorted(entry.name for entry in tmp_path.iterdir())
  assert names == ["checkpoint_1", "checkpoints_of_mine"]


def files_of(directory: pathlib.Path):
  return sorted(
    path
    for path in directory.rglob("*")
    if path.is_file() and path.name != "commit_success.txt"
  )


def flip(path: pathlib.Path, position: int):
  content = bytearray(path.read_bytes())
  content[position % len(content)] ^= 0x10
  path.write_bytes(content)


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_harm_to_any_file_is_found_named_and_survived(tmp_path, harm):
  save_steps(tmp_path, [1, 2])
  newest = tmp_path / "checkpoint_2"
  rng = random.Random(1)
  assert len(files_of(newest)) >= 6
  for path in files_of(newest):
    original = path.read_bytes()
    if not original:
      continue
    if harm == "flip":
      flip(path, rng.randrange(len(original)))
    elif harm == "truncate":
      path.write_bytes(original[: rng.randrange(len(original))])
    else:
      path.unlink()
    problems = checkpoint.find_damage(newest)
    assert len(problems) == 1 and str(path) in problems[0], problems
    checkpointer = checkpoint.Checkpointer(tmp_path)
    state, feed, _ = checkpointer.restore(TARGET)
    assert_is_step(state, feed, 1)
    assert checkpointer.latest_step() == 1
    params = checkpoint.restore_params(
      tmp_path, TARGET["params"], mode="latest"
    )
    assert_is_step(params, {"position": 1}, 1)
    with pytest.raises(checkpoint.DamagedCheckpointError, match=path.name):
      checkpoint.Checkpointer(tmp_path).restore(TARGET, 2)
    path.write_bytes(original)
  assert not checkpoint.find_damage(newest)


def test_if_all_are_damaged_the_error_lists_every_file(tmp_path):
  save_steps(tmp_path, [1, 2])
  for step in (1, 2):
    flip(tmp_path / f"checkpoint_{step}" / "metadata.json", 5)
  with pytest.raises(checkpoint.DamagedCheckpointError) as error:
    checkpoint.Checkpointer(tmp_path).restore(TARGET)
  assert "checkpoint_1/metadata.json" in str(error.value)
  assert "checkpoint_2/metadata.json" in str(error.value)


def test_a_run_that_went_back_past_a_damaged_step_saves_it_again(tmp_path):
  save_steps(tmp_path, [1, 2, 3])
  flip(tmp_path / "checkpoint_3" / "feed_0.json", 3)
  config = checkpoint.SaveCheckpointConfig(keep=1)
  with checkpoint.Checkpointer(tmp_path, config) as checkpointer:
    state, feed, _ = checkpointer.restore(TARGET)
    assert_is_step(state, feed, 2)
    checkpointer.wait()
    # The damaged one does not count as the newest that is kept.
    assert directory_lib.steps_in(tmp_path) == [2, 3]
    assert checkpointer.save(3, state, feed_state=feed)
  assert checkpoint.Checkpointer(tmp_path).all_steps() == [3]
  assert not checkpoint.find_damage(tmp_path / "checkpoint_3")


def test_an_unwritable_run_directory_is_refused_at_once(tmp_path):
  blocker = tmp_path / "file"
  blocker.write_text("")
  with pytest.raises(ValueError, match="Cannot write .* Set MODEL_DIR"):
    checkpoint.Checkpointer(blocker / "run", checkpoint.SaveCheckpointConfig())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_run_directory_is_refused_for_saving_but_read(tmp_path):
  save_steps(tmp_path, [1])
  tmp_path.chmod(0o555)
  try:
    with pytest.raises(ValueError, match="Permission denied.* Set MODEL_DIR"):
      checkpoint.Checkpointer(tmp_path, checkpoint.SaveCheckpointConfig())
    state, feed, _ = checkpoint.Checkpointer(tmp_path).restore(TARGET)
    assert_is_step(state, feed, 1)
  finally:
    tmp_path.chmod(0o755)


def test_an_error_while_writing_is_raised_at_the_next_call(tmp_path):
  config = checkpoint.SaveCheckpointConfig()
  checkpointer = checkpoint.Checkpointer(tmp_path, config)
  state = {"params": {"w": jnp.ones((4,))}}
  # Something else takes the name between the check and the rename.
  original = checkpointer._saver.save

  def save_and_block(directory, *args):
    original(directory, *args)
    directory.mkdir(exist_ok=True)
    (directory / "in_the_way").write_text("x")

  checkpointer._saver.save = save_and_block
  checkpointer.save(1, state)
  with pytest.raises(OSError):
    checkpointer.wait()


_FULL_DISK = """
import resource, sys
import jax.numpy as jnp
from t2tjax import checkpoint
c = checkpoint.Checkpointer(sys.argv[1], checkpoint.SaveCheckpointConfig())
# Writing beyond this fails, as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
c.save(2, {"params": {f"w{i}": jnp.full((256, 256), 2.0) for i in range(8)}})
try:
  c.wait()
except Exception as error:
  print("raised", type(error).__name__, error)
"""


def test_a_full_disk_is_an_error_and_the_checkpoint_before_stays(tmp_path):
  save_steps(tmp_path, [1])
  writer = subprocess.run(
    [sys.executable, "-c", _FULL_DISK, str(tmp_path)],
    capture_output=True,
    text=True,
    timeout=120,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert writer.stdout.startswith("raised"), writer.stderr[-2000:]
  checkpointer = checkpoint.Checkpointer(
    tmp_path, checkpoint.SaveCheckpointConfig()
  )
  state, feed, _ = checkpointer.restore(TARGET)
  assert_is_step(state, feed, 1)
  assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint_1"]


def test_a_checkpoint_of_a_newer_format_is_refused(tmp_path):
  save_steps(tmp_path, [1])
  path = tmp_path / "checkpoint_1" / "metadata.json"
  record = json.loads(path.read_text())
  record["format_version"] += 1
  path.write_text(json.dumps(record))
  (tmp_path / "checkpoint_1" / "manifest.json").unlink()
  integrity.write_manifest(directory_lib.checkpoint_dir(tmp_path, 1))
  with pytest.raises(ValueError, match="up to version 1"):
    checkpoint.Checkpointer(tmp_path).restore(TARGET)
