"""The command that compiles a train step ahead of its run."""

import tiny_runs

_ARGUMENTS = (
  "--gin_file=models/t5_1_1/tiny.gin",
  "--gin_file=runs/precompile.gin",
  "--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 8}",
  "--gin.BATCH_SIZE=4",
  "--gin.VOCABULARY_FILE=bundle/en_es_4k.model",
)


def test_the_program_is_written_and_its_costs_are_shown(tmp_path):
  done = tiny_runs.command(
    "precompile",
    *_ARGUMENTS,
    *tiny_runs.SIZES,
    f"--gin.MODEL_DIR={tmp_path}",
    prepared_dir=tmp_path / "prepared",
    COLUMNS="200",
  )
  assert done.returncode == 0, done.stderr
  assert "HloModule" in (tmp_path / "train_step.hlo.txt").read_text()[:100]
  assert (tmp_path / "config.gin").exists()
  for shown in ("model FLOPs per step", "temp bytes", "seconds to trace"):
    assert shown in done.stdout
  assert not (tmp_path / "prepared").exists()  # No data were read.
