"""Runs T5X's own code beside ours: networks, losses, schedules, Adafactor.

    python scripts/parity/against_t5x.py --t5x_dir=CHECKOUT

needs a checkout of google-research/t5x, nothing of which is changed or copied,
and exits with 1 if a difference is too large. `--write_golden=FILE` stores
T5X's results for tests/parity, which needs no T5X.
"""

import argparse
from collections.abc import Mapping
import sys
from typing import Any

import numpy as np
import t5x_cases as cases
import t5x_side

_TOLERANCE = 1e-5
# Of an array, so many elements are stored.
_NUM_STORED = 24


def difference(ours: Any, theirs: Any) -> float:
  """Returns the largest difference relative to the largest value."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  if ours.shape != theirs.shape:
    return np.inf
  largest = np.abs(theirs).max()
  return float(np.abs(ours - theirs).max() / (largest or 1.0))


def differences(
  ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, float]:
  """Returns those of logits, losses and of the worst parameter."""
  result = {name: difference(ours[name], theirs[name]) for name in theirs}
  params = [v for name, v in result.items() if name.startswith("params/")]
  return {
    "logits": result["logits"],
    "losses": float(np.max(np.abs(ours["losses"] / theirs["losses"] - 1))),
    "params": max(params),
  }


def sample(results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns a few elements of each array, evenly spaced."""
  sampled = {}
  for name, array in results.items():
    flat = np.asarray(array).reshape(-1)
    index = np.linspace(0, flat.size - 1, min(flat.size, _NUM_STORED))
    sampled[name] = flat[index.astype(int)]
  return sampled


def main() -> None:
  """Prints the table of differences."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--t5x_dir", required=True)
  parser.add_argument("--write_golden", metavar="FILE")
  arguments = parser.parse_args()
  t5x = t5x_side.load(arguments.t5x_dir)
  rows: list[tuple[str, float]] = []
  golden: dict[str, np.ndarray] = {}
  for name, case in cases.CASES.items():
    theirs = t5x_side.run(t5x, case)
    for what, value in differences(cases.run(case), theirs).items():
      rows.append((f"{name}: {what}", value))
    golden |= {f"{name}:{k}": v for k, v in sample(theirs).items()}
  for name, (options, factor, packed) in cases.LOSSES.items():
    value = t5x_side.loss(t5x, options, factor, packed)
    ours = cases.loss(options, factor, packed)
    rows.append((f"loss {name}", difference(ours, value)))
    golden[f"loss:{name}"] = np.array(value)
  for factors in cases.SCHEDULES:
    value = t5x_side.schedule(t5x, factors)
    rows.append((factors, difference(cases.schedule(factors), value)))
    golden[f"schedule:{factors}"] = value
  for name, worst in rows:
    missed = "" if worst <= _TOLERANCE else "  MISSED"
    print(f"{name:72s} {worst:.1e}{missed}")
  if arguments.write_golden:
    np.savez_compressed(arguments.write_golden, **golden)
  sys.exit(any(not worst <= _TOLERANCE for _, worst in rows))


if __name__ == "__main__":
  main()
