"""How far the loss under bf16 activations departs from that under fp32.

  python scripts/parity/bf16_loss.py [--steps=200] [--plot=curves.png]
      [--record=curves.json] [-- --gin.X=Y ...]

Trains T5 1.1 tiny twice by the command of a user, on the bundled data, with the
same seed and batches; ACTIVATION_DTYPE alone differs. Prints the largest, the
mean and the last difference of the two curves, in nats per token, and that of
their averages over the last tenth.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

DTYPES = ("float32", "bfloat16")
# A learning rate at which the tiny model learns within 200 steps.
SETTINGS = (
  "--gin_file=models/t5_1_1/tiny.gin",
  "--gin_file=runs/pretrain.gin",
  "--gin.MIXTURE_OR_TASK_NAME='quickstart'",
  "--gin.TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 32}",
  "--gin.VOCABULARY_FILE='bundle/en_es_4k.model'",
  "--gin.data.SentencePieceVocabulary.extra_ids=100",
  "--gin.networks.T5Config.vocab_size=4096",
  "--gin.BATCH_SIZE=8",
  "--gin.WARMUP_STEPS=100",
  "--gin.LEARNING_RATE=0.2",
  "--gin.train_eval/data.DatasetConfig.mixture_or_task_name='elements_qa'",
  "--gin.infer_eval/data.DatasetConfig.mixture_or_task_name='elements_qa'",
  "--gin.EVAL_BATCH_SIZE=8",
  "--gin.EVAL_STEPS=1",
  "--gin.EVAL_PERIOD=None",
  "--gin.INFER_EVAL_EXAMPLES=1",
  "--gin.STATS_PERIOD=1",
)


def loss_curve(
  dtype: str, steps: int, directory: pathlib.Path, arguments: Sequence[str] = ()
) -> np.ndarray:
  """Trains and returns the loss of every step, `[steps]`."""
  command = [
    *(sys.executable, "-m", "t2tjax.train", *SETTINGS, *arguments),
    f"--gin.ACTIVATION_DTYPE='{dtype}'",
    f"--gin.TRAIN_STEPS={steps}",
    f"--gin.SAVE_PERIOD={steps}",
    f"--gin.MODEL_DIR='{directory}'",
  ]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    raise RuntimeError(f"{dtype} failed:\n{done.stderr[-4000:]}")
  lines = (directory / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  losses = {r["step"]: r["loss"] for r in records if r["run"] == "train"}
  return np.array([losses[step] for step in range(1, steps + 1)])


def compare(curves: dict[str, np.ndarray]) -> dict[str, float]:
  """Returns how much the bf16 curve differs from the fp32 one."""
  full, half = (curves[dtype] for dtype in DTYPES)
  difference = np.abs(half - full)
  tenth = max(len(full) // 10, 1)
  return {
    "steps": len(full),
    "first_loss_fp32": float(full[0]),
    "last_loss_fp32": float(full[-1]),
    "last_loss_bf16": float(half[-1]),
    "largest_difference": float(difference.max()),
    "step_of_largest": int(difference.argmax()) + 1,
    "mean_difference": float(difference.mean()),
    "last_difference": float(difference[-1]),
    "difference_of_last_tenth": float(np.mean((half - full)[-tenth:])),
  }


def plot(curves: dict[str, np.ndarray], path: str) -> None:
  """Draws both curves over their difference."""
  import matplotlib

  matplotlib.use("agg")
  from matplotlib import pyplot

  figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(7, 5))
  steps = np.arange(1, len(curves[DTYPES[0]]) + 1)
  for dtype, curve in curves.items():
    above.plot(steps, curve, label=dtype, linewidth=1)
  above.set_ylabel("loss (nats per token)")
  above.legend()
  below.plot(steps, curves["bfloat16"] - curves["float32"], linewidth=1)
  below.axhline(0.0, color="gray", linewidth=0.5)
  below.set_ylabel("bfloat16 - float32")
  below.set_xlabel("step")
  figure.tight_layout()
  figure.savefig(path, dpi=120)


def main() -> None:
  """Trains both, prints the comparison as JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--plot", help="file to draw the curves into, a PNG")
  parser.add_argument("--record", help="file for the curves, as JSON")
  parser.add_argument("arguments", nargs="*", help="of t2tjax.train")
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    curves = {
      dtype: loss_curve(
        dtype, flags.steps, pathlib.Path(scratch) / dtype, flags.arguments
      )
      for dtype in DTYPES
    }
  print(json.dumps(compare(curves), indent=2))
  if flags.record:
    record = {dtype: curve.tolist() for dtype, curve in curves.items()}
    pathlib.Path(flags.record).write_text(json.dumps(record))
  if flags.plot:
    plot(curves, flags.plot)


if __name__ == "__main__":
  main()
