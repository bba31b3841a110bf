"""Compares t2tjax with transformers on random models of every T5 family.

  python scripts/parity/against_transformers.py [--sizes d64 small]
      [--families t5_1_0 ...] [--transformers_python PATH] [--write_golden]

Runs where t2tjax is. transformers and torch may be in another interpreter,
which runs `transformers_side.py`. Prints every figure, exits 1 on a miss.
"""

import argparse
from collections.abc import Iterator, Mapping
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import random_t5
import rich.console
import rich.table
import safetensors

import t2tjax
from t2tjax import convert, trees
from t2tjax.checkpoint import stacking
from t2tjax.checkpoint.formats import huggingface_names

_ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = _ROOT / "tests" / "parity" / "golden"

# The largest that is still the same.
LOGITS, LOSS, GRADIENTS, SCORES = 2e-5, 1e-6, 1e-4, 1e-5


@dataclasses.dataclass(frozen=True)
class Figure:
  """One comparison: a difference and what it may be, or equal tokens."""

  name: str
  difference: float
  allowed: float = 0.0

  @property
  def holds(self) -> bool:
    """Whether the difference is small enough; NaN is not."""
    return self.difference <= self.allowed


def main() -> None:
  """Runs all cases; exits 1 if a figure is missed."""
  args = _arguments()
  sizes = ["golden"] if args.write_golden else args.sizes
  console = rich.console.Console(width=150)
  cases: dict[str, list[Figure]] = {}
  for size in sizes:
    for family in args.families:
      with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        directory = pathlib.Path(scratch)
        case = {"fields": random_t5.fields(family, size), "size": size}
        (directory / "case.json").write_text(json.dumps(case))
        _other_side(args.transformers_python, "reference", directory)
        if args.write_golden:
          _write_golden(directory, family)
          continue
        figures = list(_compare(directory, case))
        _write_export(directory)
        _other_side(args.transformers_python, "export", directory)
        figures += _compare_export(directory)
        versions = np.load(directory / "reference.npz")["versions"]
      cases[f"{family}\n{size}"] = figures
      console.print(
        f"{family} {size}: "
        + ", ".join(f"{f.name} {f.difference:.1e}" for f in figures)
      )
  if args.write_golden:
    return
  console.print(_table(cases))
  console.print(f"against {', '.join(versions)}; jax {jax.__version__}")
  missed = [f for figures in cases.values() for f in figures if not f.holds]
  sys.exit(1 if missed else 0)


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--sizes", nargs="+", choices=random_t5.SIZES, default=["d64"])
  families = random_t5.FAMILIES
  add("--families", nargs="+", choices=families, default=list(families))
  add("--transformers_python", default=sys.executable)
  add("--scratch", help="directory for models; small ones need 6 GB")
  add(
    "--write_golden",
    action="store_true",
    help=f"write what the tests compare with, in {GOLDEN.relative_to(_ROOT)}",
  )
  return parser.parse_args()


def _other_side(python: str, command: str, directory: pathlib.Path) -> None:
  script = pathlib.Path(__file__).with_name("transformers_side.py")
  done = subprocess.run(
    [python, str(script), command, str(directory)],
    env={**os.environ, "PYTHONPATH": str(script.parent)},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    sys.exit(
      f"{python} failed at '{command}' (does it have torch and transformers?"
      f" give --transformers_python):\n{done.stderr}"
    )


# ------------------------------------------------ Ours beside theirs
def _compare(
  directory: pathlib.Path, case: Mapping[str, Any]
) -> Iterator[Figure]:
  theirs = np.load(directory / "reference.npz")
  batch = random_t5.batch(case["fields"], case["size"])
  model = t2tjax.load(directory / "hf")
  yield from compare_forward(model, batch, theirs)
  yield from compare_generation(model, batch, theirs)
  worst = 0.0
  with safetensors.safe_open(
    directory / "gradients.safetensors", framework="numpy"
  ) as file:
    names = set(file.keys())
    for name, gradient in gradients(model, batch):
      names.remove(name)
      their = file.get_tensor(name).astype(np.float64)
      error = np.linalg.norm(gradient - their) / np.linalg.norm(their)
      worst = max(worst, float(error))
  assert not names, names
  # See `transformers_side`: what ReLU makes of rounding differs more.
  noise = float(np.load(directory / "reference.npz")["gradient_noise"])
  yield Figure("gradients", worst, max(GRADIENTS, 2 * noise))


def compare_forward(
  model: Any, batch: Mapping[str, np.ndarray], theirs: Mapping[str, Any]
) -> Iterator[Figure]:
  """Yields differences of logits, relative to their range, and of the loss."""
  targets = batch["targets"]
  read = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
  logits = model.logits(batch["inputs"], read)
  difference = np.abs(logits - theirs["logits"]).max()
  yield Figure("logits", difference / np.ptp(theirs["logits"]), LOGITS)
  loss = model.loss(batch["inputs"], targets)
  yield Figure("loss", abs(loss / float(theirs["loss"]) - 1), LOSS)


def compare_generation(
  model: Any, batch: Mapping[str, np.ndarray], theirs: Mapping[str, Any]
) -> Iterator[Figure]:
  """Yields how many tokens differ in all beams, and the scores of beams."""
  for name, settings in random_t5.GENERATIONS.items():
    beams = settings["num_beams"]
    tokens, scores = model.generate(
      batch["inputs"],
      max_new_tokens=random_t5.MAX_NEW_TOKENS,
      num_return_sequences=beams,
      return_scores=True,
      **settings,
    )
    want = theirs[f"{name}_tokens"]
    yield Figure(name, np.sum(tokens.reshape(want.shape) != want))
    if beams > 1:
      want = theirs[f"{name}_scores"]
      error = np.abs(scores - want).max() / np.abs(want).max()
      yield Figure(f"{name} scores", error, SCORES)


def gradients(
  model: Any, batch: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the gradient of the mean loss by transformers' tensor names."""
  targets = batch["targets"]
  features = {
    "encoder_input_tokens": batch["inputs"],
    "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": targets != 0,
  }
  features = {n: jnp.asarray(x, jnp.int32) for n, x in features.items()}
  weights = features["decoder_loss_weights"].astype(jnp.float32)
  features["decoder_loss_weights"] = weights

  def loss(params):
    return model.model.loss_fn(params, features, None, jnp.sum(weights))[0]

  found = {}
  for name, leaf in trees.named_leaves(jax.jit(jax.grad(loss))(model.params)):
    names = stacking.unrolled_names(name, leaf.shape)
    stacked = list(names) != [name]
    for i, unrolled in enumerate(names):
      found[unrolled] = leaf[i] if stacked else leaf
  for tensor in huggingface_names.table(model.config):
    gradient = np.asarray(found[tensor.parameter], np.float64)
    yield tensor.name, gradient.T if tensor.transposed else gradient


# ------------------------------------------------ There and back
def _write_export(directory: pathlib.Path) -> None:
  for source, target in (("hf", "own"), ("own", "export")):
    convert.convert(
      source_format="hf" if source == "hf" else "t2tjax",
      target_format="t2tjax" if source == "hf" else "hf",
      input_path=str(directory / source),
      output_path=str(directory / target),
    )
  shutil.rmtree(directory / "own")


def _compare_export(directory: pathlib.Path) -> list[Figure]:
  """Compares our export with what we imported, bit for bit."""
  reference = np.load(directory / "reference.npz")
  export = np.load(directory / "export.npz")
  different = 0
  with (
    safetensors.safe_open(
      directory / "hf" / "model.safetensors", framework="numpy"
    ) as first,
    safetensors.safe_open(
      directory / "export" / "model.safetensors", framework="numpy"
    ) as last,
  ):
    different += len(set(first.keys()) ^ set(last.keys()))
    for name in set(first.keys()) & set(last.keys()):
      a, b = first.get_tensor(name), last.get_tensor(name)
      different += a.dtype != b.dtype or a.tobytes() != b.tobytes()
  unequal = sum(
    int(np.sum(export[name] != reference[name]))
    for name in export
    if name.endswith("_tokens")
  )
  logits = np.abs(export["logits"] - reference["logits"]).max()
  return [
    Figure("round trip", different),
    Figure("export logits", logits / np.ptp(reference["logits"]), LOGITS),
    Figure("export tokens", unequal),
  ]


def _write_golden(directory: pathlib.Path, family: str) -> None:
  GOLDEN.mkdir(parents=True, exist_ok=True)
  with np.load(directory / "reference.npz") as results:
    np.savez_compressed(GOLDEN / f"transformers_{family}.npz", **results)


# ------------------------------------------------ What is printed
def _table(cases: Mapping[str, list[Figure]]) -> rich.table.Table:
  """Returns a row per figure and a column per case."""
  table = rich.table.Table(
    "difference of",
    "allowed",
    *cases,
    title="t2tjax beside transformers",
  )
  for row in zip(*cases.values(), strict=True):
    allowed = min(figure.allowed for figure in row)
    cells = (_cell(figure, allowed) for figure in row)
    table.add_row(row[0].name, f"{allowed:.0e}" if allowed else "none", *cells)
  return table


def _cell(figure: Figure, allowed: float) -> str:
  text = f"{figure.difference:.1e}" if figure.difference else "0"
  if figure.allowed > allowed:
    text += f" (ReLU: {figure.allowed:.0e})"
  return text if figure.holds else f"[bold red]{text}[/]"


if __name__ == "__main__":
  main()
