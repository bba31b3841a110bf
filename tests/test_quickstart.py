"""The quickstart learns: it beats what needs no model, on validation data."""

import os
import subprocess
import sys

import pytest

from t2tjax.trainer import writers

# Task metric -> the better of the majority answer and a copy of the input over
# the whole validation split, as measured by `evaluation.floor`.
FLOORS = {
  ("world_facts_qa", "exact_match"): 0.030,
  ("bible_genre", "accuracy"): 0.227,
  ("pii_values", "span_f1"): 0.014,
}
# What a run must reach to have learned; the README's figures are higher.
LEARNED = {
  ("world_facts_qa", "exact_match"): 0.85,
  ("bible_genre", "accuracy"): 0.50,
  ("pii_values", "span_f1"): 0.60,
}


@pytest.mark.slow
def test_the_quickstart_beats_majority_and_copy_on_all_three_applications(
  tmp_path,
):
  result = subprocess.run(
    [
      sys.executable,
      "-m",
      "t2tjax.train",
      "--gin_file=recipes/quickstart.gin",
      f"--gin.MODEL_DIR={tmp_path}/run",
    ],
    capture_output=True,
    text=True,
    env={**os.environ, "T2TJAX_PREPARED_DIR": str(tmp_path / "prepared")},
    timeout=1800,
  )
  assert result.returncode == 0, result.stderr
  final = {}
  for record in writers.read_metrics(tmp_path / "run"):
    if record["run"].startswith("eval/"):
      final[record["run"].removeprefix("eval/")] = record
  for (task, metric), floor in FLOORS.items():
    reached = final[task][metric]
    assert reached > 2 * floor, (task, metric)
    assert reached >= LEARNED[task, metric], (task, metric)
  # What is in no training example cannot be known.
  assert final["world_facts_control"]["exact_match"] < 0.3
  for shown in ("Task metrics", "Samples", "curves.png", "tensorboard"):
    assert shown in result.stdout
  for written in ("curves.png", "report.md", "config.gin", "metrics.jsonl"):
    assert (tmp_path / "run" / written).stat().st_size > 0
