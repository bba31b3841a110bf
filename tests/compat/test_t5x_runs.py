"""A T5X user's files, run unmodified by our commands on bundled data."""

import json
import pathlib

import pytest
import tiny_runs

_PROJECT = pathlib.Path(__file__).parent / "user_project"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """A directory with a pretrained and a fine-tuned run."""
  root = tmp_path_factory.mktemp("t5x_user")
  pretrained = command(
    root,
    "train",
    "--gin_file=models/mine.gin",
    "--gin_file=t5x/configs/runs/pretrain.gin",
    "--gin.MIXTURE_OR_TASK_NAME='elements_qa'",
    "--gin.MIXTURE_OR_TASK_MODULE='t2tjax.tasks.all'",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 16}",
    "--gin.TRAIN_STEPS=2",
    "--gin.BATCH_SIZE=8",
    "--gin.DROPOUT_RATE=0.0",
    "--gin.USE_CACHED_TASKS=False",
    f"--gin.MODEL_DIR='{root / 'pretrained'}'",
  )
  assert pretrained.returncode == 0, pretrained.stderr
  tuned = finetune(root)
  assert tuned.returncode == 0, tuned.stderr
  (root / "log").write_text(tuned.stdout + tuned.stderr)
  return root


def command(root, module, *arguments):
  return tiny_runs.command(
    module,
    f"--gin_search_paths={_PROJECT}",
    *arguments,
    prepared_dir=root / "prepared",
  )


def finetune(root, *arguments):
  return command(
    root,
    "train",
    "--gin_file=finetune_qa.gin",
    f"--gin.MODEL_DIR='{root / 'tuned'}'",
    f"--gin.INITIAL_CHECKPOINT_PATH='{root / 'pretrained' / 'checkpoint_2'}'",
    *arguments,
  )


def use(root, module, *arguments):
  return command(
    root,
    module,
    "--gin_file=models/mine.gin",
    *arguments,
    "--gin.MIXTURE_OR_TASK_NAME='elements_qa'",
    "--gin.MIXTURE_OR_TASK_MODULE='t2tjax.tasks.all'",
    f"--gin.CHECKPOINT_PATH='{root / 'tuned' / 'checkpoint_6'}'",
    "--gin.DROPOUT_RATE=0.0",
    "--gin.utils.DatasetConfig.split='validation'",
  )


def records(directory):
  lines = (directory / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_fine_tuning_goes_on_at_the_step_of_the_initial_checkpoint(root):
  found = records(root / "tuned")
  steps = [r["step"] for r in found if r["run"] == "train"]
  assert steps == [3, 4, 5, 6]
  rates = [r["learning_rate"] for r in found if r["run"] == "train"]
  # Step 2 is the first that is taken: warmed up by a half.
  assert rates == pytest.approx([0.005, 0.0075, 0.01, 0.01])
  checkpoints = {path.name for path in (root / "tuned").glob("checkpoint_*")}
  assert checkpoints == {"checkpoint_4", "checkpoint_6"}


def test_losses_and_task_metrics_are_written_every_period(root):
  evaluated = [r for r in records(root / "tuned") if r["run"] != "train"]
  assert [r["step"] for r in evaluated] == [4, 6]
  assert all(r["run"] == "eval/elements_qa" for r in evaluated)
  assert all({"loss", "exact_match"} <= r.keys() for r in evaluated)
  events = root / "tuned" / "tensorboard" / "eval" / "elements_qa"
  assert list(events.glob("*tfevents*"))


def test_the_json_logger_writes_as_many_results_as_asked(root):
  folder = root / "tuned" / "inference_eval"
  written = folder / "6" / "elements_qa.jsonl"
  lines = written.read_text().splitlines()
  assert len(lines) == 3
  assert json.loads(lines[0]).keys() >= {"inputs", "prediction", "target"}


def test_what_means_nothing_here_is_said_once(root):
  log = (root / "log").read_text()
  assert log.count("train.use_hardware_rng has no effect") == 1


def test_the_resolved_configuration_repeats_the_run(root):
  again = root / "again"
  done = command(
    root,
    "train",
    f"--gin_file={root / 'tuned' / 'config.gin'}",
    f"--gin.MODEL_DIR='{again}'",
  )
  assert done.returncode == 0, done.stderr

  def losses(directory):
    return [r["loss"] for r in records(directory) if r["run"] == "train"]

  assert losses(again) == losses(root / "tuned")


def test_t5x_eval_gin_evaluates_the_run(root):
  done = use(
    root,
    "evaluate",
    "--gin_file=t5x/configs/runs/eval.gin",
    f"--gin.EVAL_OUTPUT_DIR='{root / 'evaluated'}'",
  )
  assert done.returncode == 0, done.stderr
  steps = json.loads((root / "evaluated" / "results.json").read_text())["steps"]
  metrics = steps["6"]["tasks"]["elements_qa"]["metrics"]
  assert metrics["loss"] > 0 and 0 <= metrics["exact_match"] <= 1


@pytest.mark.parametrize(
  "mode, fields",
  [
    ("predict", {"inputs", "prediction"}),
    ("predict_with_aux", {"inputs", "prediction", "aux"}),
    ("score", {"inputs", "score"}),
  ],
)
def test_t5x_infer_gin_writes_the_files_of_t5x(root, mode, fields):
  output = root / mode
  done = use(
    root,
    "infer",
    "--gin_file=t5x/configs/runs/infer.gin",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 16}",
    f"--gin.INFER_OUTPUT_DIR='{output}'",
    f"--gin.infer.mode='{mode}'",
  )
  assert done.returncode == 0, done.stderr
  name = f"elements_qa-{mode}.jsonl-00000-of-00001"
  lines = [json.loads(x) for x in (output / name).read_text().splitlines()]
  assert lines and all(line.keys() == fields for line in lines)
  assert lines[0]["inputs"].keys() == {
    "inputs_pretokenized",
    "targets_pretokenized",
  }
  assert (output / f"{name}.COMPLETED").exists()


def test_a_misspelt_macro_is_an_error_as_everywhere(root):
  done = finetune(root, "--gin.TRAIN_STEP=7")
  assert done.returncode == 2
  assert "TRAIN_STEPS" in done.stderr
