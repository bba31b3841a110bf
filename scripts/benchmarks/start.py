"""Seconds from process start to the first completed optimizer step.

  python scripts/benchmarks/start.py [--runs=3] [--gin_file=FILE]

The first run of all prepares data and compiles; the later ones find both.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

# Runs in the child: the command, left as soon as a step is done.
_CHILD = """
import os, sys, time
import jax
from t2tjax.config import cli
from t2tjax.train import train
from t2tjax.trainer import run_log

def leave(self, metrics):
  jax.block_until_ready(metrics)
  seconds = time.time() - float(os.environ["START_TIME"])
  imported = sorted({"tensorflow", "seqio"} & set(sys.modules))
  print(f"first step after {seconds:.2f} s, imported {imported}", flush=True)
  os._exit(0)

run_log.RunLog.add = leave
cli.main(train)
"""


def main() -> None:
  """Starts the command a few times and prints a line for each."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--runs", type=int, default=3)
  parser.add_argument("--gin_file", default="recipes/quickstart.gin")
  args = parser.parse_args()
  for _ in range(args.runs):
    with tempfile.TemporaryDirectory() as directory:
      command = [
        sys.executable,
        "-c",
        _CHILD,
        f"--gin_file={args.gin_file}",
        f"--gin.MODEL_DIR={directory}/run",
      ]
      environment = {**os.environ, "START_TIME": str(time.time())}
      done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
      )
      print(done.stdout.splitlines()[-1])


if __name__ == "__main__":
  main()
