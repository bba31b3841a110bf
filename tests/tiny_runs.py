"""A tiny run on bundled data, trained by the command, to use afterwards."""

import os
import pathlib
import subprocess
import sys

SIZES = [
  f"--gin.networks.T5Config.{name}={value}"
  for name, value in {
    "emb_dim": 32,
    "num_heads": 2,
    "head_dim": 16,
    "mlp_dim": 64,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
  }.items()
]


def command(module, *arguments, prepared_dir, timeout=600, **variables):
  """Runs `python -m t2tjax.<module>` on one device, far from the checkout."""
  return subprocess.run(
    [sys.executable, "-m", f"t2tjax.{module}", *arguments],
    capture_output=True,
    text=True,
    env={**environment(prepared_dir), **variables},
    cwd="/",
    timeout=timeout,
  )


def environment(prepared_dir):
  return {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "",
    "T2TJAX_PREPARED_DIR": str(prepared_dir),
  }


def train(model_dir: pathlib.Path, prepared_dir) -> None:
  """Trains four steps of elements_qa, with checkpoints 2 and 4."""
  done = command(
    "train",
    "--gin_file=recipes/quickstart.gin",
    *SIZES,
    f"--gin.MODEL_DIR={model_dir}",
    "--gin.MIXTURE_OR_TASK_NAME=elements_qa",
    "--gin.train_eval/data.DatasetConfig.mixture_or_task_name=elements_qa",
    "--gin.infer_eval/data.DatasetConfig.mixture_or_task_name=elements_qa",
    "--gin.TRAIN_STEPS=4",
    "--gin.WARMUP_STEPS=1",
    "--gin.SAVE_PERIOD=2",
    "--gin.EVAL_STEPS=1",
    "--gin.INFER_EVAL_EXAMPLES=4",
    prepared_dir=prepared_dir,
  )
  assert done.returncode == 0, done.stderr
