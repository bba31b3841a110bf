"""The command evaluate, on a tiny run."""

import json

import pytest
import tiny_runs


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("evaluate")
  tiny_runs.train(root / "run", root / "prepared")
  return root / "run"


def evaluate(run_dir, output_dir, *arguments):
  return tiny_runs.command(
    "evaluate",
    f"--gin_file={run_dir}/model.gin",
    "--gin_file=runs/eval.gin",
    f"--gin.CHECKPOINT_PATH={run_dir}",
    f"--gin.OUTPUT_DIR={output_dir}",
    "--gin.MIXTURE_OR_TASK_NAME=elements_qa",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 96, 'targets': 16}",
    "--gin.EVAL_STEPS=1",
    "--gin.EVAL_BATCH_SIZE=16",
    "--gin.INFER_EVAL_EXAMPLES=12",
    "--gin.NUM_RESAMPLES=10",
    *arguments,
    prepared_dir=run_dir.parent / "prepared",
  )


def test_all_checkpoints_are_evaluated_once_and_the_finished_are_skipped(
  run_dir, tmp_path
):
  output = tmp_path / "evaluation"
  first = evaluate(run_dir, output, "--gin.CHECKPOINT_MODE=all")
  assert first.returncode == 0, first.stderr
  assert "Task metrics" in first.stdout
  results = json.loads((output / "results.json").read_text())["steps"]
  assert list(results) == ["2", "4"]
  task = results["4"]["tasks"]["elements_qa"]
  assert task["num_examples"] == 12
  assert 0 < task["metrics"]["loss"] < 12
  low, high = task["intervals_95"]["exact_match"]
  assert low <= task["metrics"]["exact_match"] <= high
  assert task["baseline"]["metrics"]["exact_match"] >= 0
  lines = (output / "predictions/4/elements_qa.jsonl").read_text().splitlines()
  assert len(lines) == 12
  texts = {"inputs", "prediction", "target"}
  assert set(json.loads(lines[0])) >= texts | {"correct", "score"}

  written = (output / "metrics.jsonl").read_text()
  assert [json.loads(r)["step"] for r in written.splitlines()] == [2, 4]
  again = evaluate(run_dir, output, "--gin.CHECKPOINT_MODE=all")
  assert again.returncode == 0, again.stderr
  assert again.stdout.count("finished before") == 2
  # The page still has both, with the texts of each.
  page = (output / "report.html").read_text()
  assert page.count('/checkpoint_2"') == page.count('/checkpoint_4"') == 1
  assert json.loads(lines[0])["target"] in page
  assert (output / "metrics.jsonl").read_text() == written

  # Under other conditions it is another question.
  changed = evaluate(
    run_dir, output, "--gin.CHECKPOINT_MODE=all", "--gin.NUM_RESAMPLES=0"
  )
  assert changed.returncode == 0, changed.stderr
  assert "finished before" not in changed.stdout


def test_a_mistake_is_told_before_anything_is_restored(run_dir, tmp_path):
  into_run = evaluate(run_dir, run_dir)
  assert into_run.returncode == 2
  assert "OUTPUT_DIR" in into_run.stderr
  specific = evaluate(run_dir, tmp_path / "x", "--gin.CHECKPOINT_MODE=specific")
  assert specific.returncode == 2
  assert "checkpoint_2, checkpoint_4" in specific.stderr
  vocabulary = evaluate(
    run_dir, tmp_path / "x", "--gin.data.SentencePieceVocabulary.extra_ids=50"
  )
  assert vocabulary.returncode == 2
  assert "vocabularies.input_vocabulary" in vocabulary.stderr
