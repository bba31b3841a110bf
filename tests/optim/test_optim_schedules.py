"""Schedules against values computed by hand."""

import math

import numpy as np
import pytest

from t2tjax import optim

BASE, WARMUP = 0.5, 100


@pytest.mark.parametrize(
  ("factors", "step", "expected"),
  [
    ("constant", 7, 0.5),
    ("constant * linear_warmup", 0, 1e-8),
    ("constant * linear_warmup", 25, 0.125),
    ("constant * linear_warmup", 1000, 0.5),
    ("linear_decay", 50, 0.25),
    ("linear_decay", 100, 0.5),
    ("linear_decay", 150, 0.5 * (1 - 50 * 0.01)),
    ("linear_decay", 300, 1e-8),
    ("constant * rsqrt_decay", 0, 0.5 / 10),
    ("constant * rsqrt_decay", 400, 0.5 / 20),
    ("constant * rsqrt_normalized_decay", 50, 0.5),
    ("constant * rsqrt_normalized_decay", 400, 0.25),
    ("constant * linear_warmup * rsqrt_decay", 50, 0.5 * 0.5 / 10),
    ("constant * decay_every", 999, 0.5),
    ("constant * decay_every", 2000, 0.5 * 0.01**2),
    ("constant * cosine_decay", 50, 0.5),
    ("constant * cosine_decay", 100 + 250, 0.25 * (1 + math.sqrt(0.5))),
    ("constant * cosine_decay", 100 + 500, 0.25),
    ("constant * cosine_decay", 100 + 1000, 0.5),
    ("constant*linear_warmup", 10, 0.05),
  ],
)
def test_factors_have_t5xs_values(factors, step, expected):
  schedule = optim.create_learning_rate_scheduler(
    factors=factors,
    base_learning_rate=BASE,
    warmup_steps=WARMUP,
    decay_factor=0.01,
    steps_per_decay=1000,
    steps_per_cycle=1000,
  )
  value = schedule(step)
  assert value.dtype == np.float32
  np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-9)


def test_offset_shifts_time_and_the_minimum_holds():
  schedule = optim.create_learning_rate_scheduler(
    factors="constant * linear_warmup",
    base_learning_rate=1.0,
    warmup_steps=10,
    step_offset=1000,
    min_learning_rate=0.2,
  )
  np.testing.assert_allclose(
    [schedule(s) for s in (0, 1001, 1005, 1010, 2000)], [0.2, 0.2, 0.5, 1, 1]
  )


@pytest.mark.parametrize(
  "factors",
  ["constant * linear_warmup", "linear_decay", "rsqrt_normalized_decay"],
)
def test_no_warmup_is_no_nan(factors):
  schedule = optim.create_learning_rate_scheduler(
    factors=factors, warmup_steps=0
  )
  assert np.isfinite(schedule(0))


def test_unknown_and_contradicting_factors_are_mistakes():
  with pytest.raises(ValueError, match="'rsqrt_deccay'; the factors are"):
    optim.create_learning_rate_scheduler(factors="constant * rsqrt_deccay")
  with pytest.raises(ValueError, match="contains constant and linear_warmup"):
    optim.create_learning_rate_scheduler(factors="constant * linear_decay")


@pytest.mark.parametrize(
  ("schedule", "values"),
  [
    (
      optim.warmup_cosine(
        peak=2.0, warmup_steps=10, total_steps=110, final_fraction=0.1
      ),
      {0: 0.0, 5: 1.0, 10: 2.0, 60: 2 * 0.55, 110: 0.2, 999: 0.2},
    ),
    (
      optim.warmup_linear(peak=2.0, warmup_steps=10, total_steps=110),
      {0: 0.0, 5: 1.0, 10: 2.0, 60: 1.0, 110: 0.0, 999: 0.0},
    ),
    (
      optim.warmup_stable_decay(
        peak=2.0,
        warmup_steps=10,
        decay_steps=20,
        total_steps=100,
        final_fraction=0.5,
      ),
      {5: 1.0, 10: 2.0, 80: 2.0, 90: 1.5, 100: 1.0, 999: 1.0},
    ),
    (
      optim.warmup_linear(peak=1.0, warmup_steps=0, total_steps=4),
      {0: 1.0, 1: 0.75, 4: 0.0},
    ),
  ],
)
def test_shapes_meet_their_corners(schedule, values):
  got = [schedule(step) for step in values]
  np.testing.assert_allclose(got, list(values.values()), rtol=1e-6, atol=1e-7)


def test_phases_longer_than_the_run_are_mistakes():
  with pytest.raises(ValueError, match="warmup_cosine.warmup_steps = 10 do"):
    optim.warmup_cosine(peak=1.0, warmup_steps=10, total_steps=5)
  with pytest.raises(ValueError, match="decay_steps = 8"):
    optim.warmup_stable_decay(
      peak=1.0, warmup_steps=3, decay_steps=8, total_steps=10
    )
