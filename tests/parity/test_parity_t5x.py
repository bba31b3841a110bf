"""Ours against numbers that T5X's own code gave, without T5X.

`t5x_golden.npz` holds, of each case of scripts/parity/t5x_cases.py, a few
elements of the logits, of the losses of 20 steps and of every parameter after
them, and the losses and learning rates. T5X (google-research/t5x at cc342d4)
made them on jax 0.10.2 on CPU, unmodified, with

    python scripts/parity/against_t5x.py --t5x_dir=CHECKOUT \
      --write_golden=tests/parity/t5x_golden.npz
"""

import pathlib
import sys

import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(_ROOT / "scripts" / "parity"))

import against_t5x  # noqa: E402
import t5x_cases  # noqa: E402

_GOLDEN = np.load(_ROOT / "tests" / "parity" / "t5x_golden.npz")


def golden(prefix):
  return {
    name.removeprefix(prefix + ":"): _GOLDEN[name]
    for name in _GOLDEN.files
    if name.startswith(prefix + ":")
  }


@pytest.mark.parametrize("name", t5x_cases.CASES)
def test_logits_and_twenty_steps_are_those_of_t5x(name):
  ours = against_t5x.sample(t5x_cases.run(t5x_cases.CASES[name]))
  theirs = golden(name)
  assert set(ours) == set(theirs)
  np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-5)
  for key, expected in theirs.items():
    np.testing.assert_allclose(
      ours[key], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("name", t5x_cases.LOSSES)
def test_loss_and_z_loss_are_those_of_t5x(name):
  ours = t5x_cases.loss(*t5x_cases.LOSSES[name])
  np.testing.assert_allclose(ours, _GOLDEN[f"loss:{name}"], rtol=1e-6)


@pytest.mark.parametrize("factors", t5x_cases.SCHEDULES)
def test_learning_rates_are_those_of_t5x(factors):
  theirs = _GOLDEN[f"schedule:{factors}"]
  np.testing.assert_allclose(t5x_cases.schedule(factors), theirs, rtol=1e-6)
