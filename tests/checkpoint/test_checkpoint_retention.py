"""Which checkpoints stay."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import checkpoint
from t2tjax.checkpoint import retention

STATE = {"params": {"w": jnp.arange(4.0)}}


def config(**kwargs):
  return checkpoint.SaveCheckpointConfig(**kwargs)


def test_each_rule_keeps_its_own_and_nothing_else_stays():
  rng = np.random.default_rng(0)
  for _ in range(200):
    steps = sorted(rng.choice(100, size=rng.integers(1, 12), replace=False))
    steps = [int(s) for s in steps]
    values = {s: float(rng.normal()) for s in steps if rng.random() < 0.8}
    keep, period, best = (int(rng.integers(1, 4)) for _ in range(3))
    period *= 5
    settings = config(
      keep=keep,
      keep_period=period,
      best_metric="m",
      best_mode="min",
      keep_best=best,
    )
    removed = retention.steps_to_remove(steps, values, settings)
    for s in steps:
      newer = sum(t > s for t in steps)
      better = (
        sum(v < values[s] for v in values.values()) if s in values else 99
      )
      stays = newer < keep or s % period == 0 or better < best
      assert (s not in removed) == stays


def test_nan_is_never_the_best_and_a_tie_goes_to_the_later():
  settings = config(best_metric="m", best_mode="min", keep_best=2)
  values = {1: 0.5, 2: math.nan, 3: 0.5, 4: 0.9}
  assert retention.best_steps(values, settings) == [3, 1]


def test_keep_none_keeps_all():
  assert not retention.steps_to_remove([1, 2, 3], {}, config(keep=None))


def test_the_best_checkpoint_survives_restarts_of_the_run(tmp_path):
  scores = {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.2, 5: 0.4, 6: 0.6}
  settings = config(keep=1, best_metric="eval/f1")
  for first in (1, 3, 5):
    with checkpoint.Checkpointer(tmp_path, settings) as checkpointer:
      for step in (first, first + 1):
        checkpointer.save(step, STATE, metrics={"eval/f1": scores[step]})
      checkpointer.wait()
      expected = {first + 1, 2}
      assert set(checkpointer.all_steps()) == expected
      assert checkpointer.best_step() == 2


def test_while_training_goes_on_at_most_one_more_than_kept_is_there(tmp_path):
  with checkpoint.Checkpointer(tmp_path, config(keep=2)) as checkpointer:
    for step in range(1, 7):
      checkpointer.save(step, STATE)
      assert len(checkpointer.all_steps()) <= 3
    checkpointer.wait()
    assert checkpointer.all_steps() == [5, 6]
  assert checkpoint.Checkpointer(tmp_path).latest_step() == 6


def test_a_step_that_is_saved_already_is_not_saved_again(tmp_path):
  with checkpoint.Checkpointer(tmp_path, config()) as checkpointer:
    assert checkpointer.save(1, STATE)
    other = jax.tree.map(lambda x: x + 1, STATE)
    assert not checkpointer.save(1, other)
    target = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), STATE
    )
    got, _, _ = checkpointer.restore(target)
    np.testing.assert_array_equal(got["params"]["w"], STATE["params"]["w"])


def test_a_reader_does_not_save(tmp_path):
  with pytest.raises(ValueError, match="opened for reading"):
    checkpoint.Checkpointer(tmp_path).save(1, STATE)
