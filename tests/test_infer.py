"""The command infer, on a tiny run: killed, shared, and on bad lines."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny_runs


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("infer")
  tiny_runs.train(root / "run", root / "prepared")
  return root / "run"


@pytest.fixture(scope="module")
def questions(run_dir):
  path = run_dir.parent / "questions.jsonl"
  lines = [
    json.dumps({"question": "what " * (1 + i % 23) + str(i), "id": i})
    for i in range(90)
  ]
  lines[7] = '{"question": "cut'
  lines[30] = ""
  lines[31] = '{"answer": "x"}'
  path.write_text("\n".join(lines) + "\n")
  return path


def arguments(run_dir, questions, output, *more):
  return [
    f"--gin_file={run_dir}/model.gin",
    "--gin_file=runs/infer.gin",
    f"--gin.CHECKPOINT_PATH={run_dir}",
    f"--gin.INPUT_PATH={questions}",
    "--gin.INPUTS='q: {question}'",
    f"--gin.OUTPUT_PATH={output}",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 32, 'targets': 8}",
    "--gin.inference.FileInputs.keep=['id']",
    "--gin.BATCH_SIZE=8",
    "--gin.infer.chunk_size=10",
    "--gin.MODE=predict_with_scores",
    *more,
  ]


def infer(run_dir, *given):
  done = tiny_runs.command(
    "infer",
    *arguments(run_dir, *given),
    prepared_dir=run_dir.parent / "prepared",
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope="module")
def whole(run_dir, questions, tmp_path_factory):
  output = tmp_path_factory.mktemp("whole") / "answers.jsonl"
  shown = infer(run_dir, questions, output)
  return output, shown


def test_every_good_line_is_answered_in_order_and_every_bad_one_named(whole):
  output, shown = whole
  lines = [json.loads(line) for line in output.read_text().splitlines()]
  bad = {8: "not JSON", 31: "is empty", 32: "column 'question' is missing"}
  assert [line["line"] for line in lines] == [
    n for n in range(1, 91) if n not in bad
  ]
  assert all(line["id"] == line["line"] - 1 for line in lines)
  assert all({"prediction", "score", "inputs"} <= set(line) for line in lines)
  rejected = output.with_suffix(".rejected.jsonl").read_text().splitlines()
  found = {r["line"]: r["reason"] for r in map(json.loads, rejected)}
  assert found.keys() == bad.keys()
  assert all(bad[number] in found[number] for number in bad)
  assert "3 rejected" in shown
  assert not (output.with_suffix(".job") / "chunks").exists()


def test_a_finished_job_is_not_done_again_and_another_not_written_over_it(
  whole, run_dir, questions
):
  output, _ = whole
  before = output.stat().st_mtime_ns
  infer(run_dir, questions, output)
  assert output.stat().st_mtime_ns == before
  other = tiny_runs.command(
    "infer",
    *arguments(run_dir, questions, output, "--gin.MODE=predict"),
    prepared_dir=run_dir.parent / "prepared",
  )
  assert other.returncode == 2
  assert "another mode" in other.stderr


@pytest.mark.fault
def test_a_killed_job_ends_in_the_file_of_an_uninterrupted_one(
  whole, run_dir, questions, tmp_path
):
  output = tmp_path / "answers.jsonl"
  chunks = tmp_path / "answers.job" / "chunks"
  for wanted in (1, 4):
    process = subprocess.Popen(
      [
        sys.executable,
        "-m",
        "t2tjax.infer",
        *arguments(run_dir, questions, output),
      ],
      env=tiny_runs.environment(run_dir.parent / "prepared"),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      cwd="/",
    )
    limit = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < limit:
      if chunks.exists() and len(list(chunks.glob("0*"))) >= wanted:
        os.kill(process.pid, signal.SIGKILL)
        break
      time.sleep(0.002)
    process.wait()
  infer(run_dir, questions, output)
  expected, _ = whole
  assert output.read_bytes() == expected.read_bytes()
  suffix = ".rejected.jsonl"
  assert (
    output.with_suffix(suffix).read_bytes()
    == expected.with_suffix(suffix).read_bytes()
  )


def test_shards_share_one_output_in_input_order(
  whole, run_dir, questions, tmp_path
):
  output = tmp_path / "answers.jsonl"
  for shard in (1, 0):
    assert not output.exists()
    infer(
      run_dir,
      questions,
      output,
      f"--gin.SHARD_ID={shard}",
      "--gin.NUM_SHARDS=2",
    )
  assert output.read_bytes() == whole[0].read_bytes()


def test_a_task_is_scored_without_tensorflow_once_prepared(run_dir, tmp_path):
  output = tmp_path / "scores.jsonl"
  given = [
    f"--gin_file={run_dir}/model.gin",
    "--gin_file=runs/infer_task.gin",
    f"--gin.CHECKPOINT_PATH={run_dir}",
    f"--gin.OUTPUT_PATH={output}",
    "--gin.MIXTURE_OR_TASK_NAME=elements_qa",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 16}",
    "--gin.MODE=score",
  ]
  prepared_dir = run_dir.parent / "prepared"
  for name in ("tensorflow", "seqio"):
    (tmp_path / f"{name}.py").write_text("raise ImportError('not needed')")
  done = tiny_runs.command(
    "infer", *given, prepared_dir=prepared_dir, PYTHONPATH=str(tmp_path)
  )
  assert done.returncode == 0, done.stderr
  lines = [json.loads(line) for line in output.read_text().splitlines()]
  assert [line["example"] for line in lines] == list(range(len(lines)))
  assert all(line["score"] < 0 and line["targets"] for line in lines)
