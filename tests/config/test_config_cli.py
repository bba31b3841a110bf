"""The command line: flags, help, dry run, exit status."""

import json
import subprocess
import sys

import config_fake_run as fake
import pytest

from t2tjax.config import cli, files

GIVEN = [
  "--gin_file=models/tiny.gin",
  "--gin_file",
  "run.gin",
  "--gin.MODEL_DIR=out/run",
  "--gin_bindings=TASK='a'",
]


def run(*flags):
  return cli.main(fake.train, ["train", *flags])


def fails(capsys, *flags):
  with pytest.raises(SystemExit) as stop:
    run(*flags)
  assert stop.value.code == 2
  return capsys.readouterr().err


def test_flags_and_files_reach_the_run_function(gin_dir):
  assert run(*GIVEN, "--gin.train/DatasetConfig.seed=3") == "trained"
  assert fake.CALLS[-1]["train_cfg"].seed == 3
  start = json.loads((gin_dir / "out/run/run.json").read_text())["starts"][0]
  assert start["argv"] == ["train", *GIVEN, "--gin.train/DatasetConfig.seed=3"]


def test_search_paths_are_used_for_files_and_includes(gin_dir, tmp_path):
  (gin_dir / "lib").mkdir()
  (gin_dir / "lib" / "mine.gin").write_text("include 'steps.gin'\n")
  (gin_dir / "lib" / "steps.gin").write_text("STEPS = 3\n")
  run(*GIVEN, "--gin_file=mine.gin", "--gin_search_paths=other,lib")
  assert fake.CALLS[-1]["total_steps"] == 3


def test_mistake_is_one_message_and_status_two(gin_dir, capsys):
  err = fails(capsys, *GIVEN, "--gin.STEPZ=3")
  assert err.startswith("error: --gin.STEPZ=3: nothing uses the macro STEPZ.")
  assert "Traceback" not in err


def test_without_files_the_user_is_sent_to_help(capsys):
  assert fails(capsys).endswith("--help lists some.\n")


def test_value_error_of_the_run_is_told_the_same_way(gin_dir, capsys):
  err = fails(capsys, *GIVEN, "--gin.STEPS=13")
  assert err.splitlines() == [
    "error: 13 steps are not allowed: change train.total_steps",
    "(--traceback shows where it was raised)",
  ]
  with pytest.raises(ValueError, match="13 steps"):
    run(*GIVEN, "--gin.STEPS=13", "--traceback")


def test_value_error_while_building_names_what_was_built(
  gin_dir, capsys, monkeypatch
):
  def refuse(self, network, decode=None):
    raise ValueError(f"emb_dim {network.emb_dim} is odd")

  monkeypatch.setattr(fake.Model, "__init__", refuse)
  err = fails(capsys, *GIVEN, "--gin.Network.emb_dim=7")
  assert err.splitlines() == [
    "error: emb_dim 7 is odd",
    "  in @Model() in scope 'MODEL'",
    "(--traceback shows where it was raised)",
  ]


@pytest.mark.parametrize(
  "flag, hint",
  [
    ("--gin_flie=run.gin", "Did you mean --gin_file?"),
    ("--dryrun", "Did you mean --dry_run?"),
    ("--MODEL_DIR=/tmp/x", "Write --gin.MODEL_DIR=/tmp/x."),
    ("run.gin", "Write --gin_file=run.gin."),
    ("--gin.STEPS", "write --gin.STEPS=VALUE"),
  ],
)
def test_unknown_flag_is_told_with_what_to_write(gin_dir, capsys, flag, hint):
  assert hint in fails(capsys, *GIVEN, flag)


def test_dry_run_shows_every_value_and_passes_the_word_on(gin_dir, capsys):
  run(*GIVEN, "--dry_run", "--gin.STEPS=7")
  out = "".join(capsys.readouterr().out.split())
  for part in ("%STEPS=7", "--gin.STEPS=7", "run.gin:20", "default"):
    assert part in out
  assert fake.CALLS[-1]["dry_run"] is True
  assert not (gin_dir / "out").exists()


def test_dry_run_does_not_call_a_function_that_cannot_do_it(capsys):
  def work(*, steps: int = 3):
    raise AssertionError

  assert cli.main(work, ["work", "--dry_run"]) is None


def test_help_lists_flags_and_parameters_with_their_meaning(capsys):
  run("--help")
  out = capsys.readouterr().out
  for part in (
    "Trains nothing.",
    "--gin_search_paths",
    "train.model_dir: str, required",
    "Optimizer steps, counted from the end: the very last one.",
    "train.eval_cfg: DatasetConfig | None, default None",
  ):
    assert part in out
  assert "run_record" not in out


def test_shipped_files_are_found_from_any_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  finder = files.Finder([], allow_remote=False)
  for name in files.shipped_files():
    assert files.display(finder.find(name)) == name


def test_remote_file_needs_an_allow_list(monkeypatch, tmp_path, capsys):
  finder = files.Finder([], allow_remote=True)
  assert finder.find("gs://bucket/config.gin") == "gs://bucket/config.gin"
  err = fails(capsys, "--gin_file=gs://bucket/config.gin")
  assert "--gin_allow=t2tjax,seqio" in err


def test_module_run_with_dash_m_is_main(gin_dir):
  (gin_dir / "job.py").write_text(
    "def work(*, steps: int, where: str = 'x'):\n"
    "  print('steps', steps, __name__)\n"
    "if __name__ == '__main__':\n"
    "  from t2tjax.config import cli\n"
    "  cli.main(work)\n"
  )
  (gin_dir / "job.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "import __main__ as script\nimport job\n"
    "script.work.steps = 1e1\njob.work.where = 'here'\n"
  )
  done = subprocess.run(
    [sys.executable, "-m", "job", "--gin_file=job.gin"],
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.stdout.split() == ["steps", "10", "__main__"], done.stderr
