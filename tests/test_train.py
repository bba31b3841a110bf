"""The run function as a whole, on bundled data and a very small model."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from t2tjax import (
  checkpoint,
  data,
  evaluation,
  models,
  networks,
  optim,
  partitioning,
  trainer,
  trees,
)
from t2tjax.train import train

VOCABULARY = data.SentencePieceVocabulary("bundle/en_es_4k.model", 100)


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory) -> str:
  return str(tmp_path_factory.mktemp("prepared"))


def make_model(optimizer=None, **config):
  sizes = dict(
    vocab_size=4096,
    emb_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=64,
    num_encoder_layers=2,
    num_decoder_layers=2,
    dropout_rate=0.1,
  )
  return models.EncoderDecoderModel(
    module=networks.EncoderDecoder(networks.T5Config(**(sizes | config))),
    input_vocabulary=VOCABULARY,
    output_vocabulary=VOCABULARY,
    optimizer_def=optimizer or optim.Adafactor(),
    z_loss=1e-4,
  )


def dataset(**changes):
  settings = dict(
    mixture_or_task_name="elements_qa",
    task_feature_lengths={"inputs": 96, "targets": 16},
    module="t2tjax.tasks.all",
    batch_size=8,
    seed=3,
  )
  return data.DatasetConfig(**(settings | changes))


def run(model_dir, prepared_dir, *, total_steps, **changes):
  """Trains on one device and returns what `train` does."""
  settings = dict(
    model=make_model(),
    model_dir=str(model_dir),
    train_dataset_cfg=dataset(),
    partitioner=partitioning.Partitioner(devices=jax.devices()[:1]),
    trainer=trainer.Trainer(
      learning_rate_fn=optim.create_learning_rate_scheduler(
        factors="constant", base_learning_rate=0.01
      ),
      num_microbatches=2,
    ),
    checkpoint_cfg=checkpoint.CheckpointConfig(
      save=checkpoint.SaveCheckpointConfig(period=4)
    ),
    stats_period=1,
    eval_period=None,
    prepared_dir=prepared_dir,
    compilation_cache_dir=None,
  )
  return train(total_steps=total_steps, **(settings | changes))


def final_arrays(model_dir, step):
  """Returns every array of the checkpoint, by name."""
  model = make_model()
  spec = data.batch_spec(dataset(), model.feature_layout)
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  abstract, _ = trainer.abstract_state(model, partitioner, spec)
  state, feed_state, _ = checkpoint.Checkpointer(model_dir).restore(
    abstract, step
  )
  return dict(trees.named_leaves(state)), feed_state


_CLOCK = (
  "time",
  "tokens_per_second",
  "sequences_per_second",
  "steps_per_second",
  "data_wait_fraction",
  "mfu",
)


def metric_records(model_dir):
  lines = (pathlib.Path(model_dir) / "metrics.jsonl").read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if k not in _CLOCK}
    for line in lines
  ]


@pytest.mark.parametrize("mode", ["prepared", "streaming"])
def test_a_stopped_and_resumed_run_is_bit_identical_to_an_uninterrupted_one(
  mode, tmp_path, prepared_dir, monkeypatch
):
  settings = dict(train_dataset_cfg=dataset(mode=mode, pack=True))
  run(tmp_path / "whole", prepared_dir, total_steps=10, **settings)

  stop_at = 6  # Between two periodic saves, and not at a report's end.
  with monkeypatch.context() as patch:
    patch.setattr(
      trainer.PreemptionGuard, "should_stop", lambda _, step: step == stop_at
    )
    with pytest.raises(trainer.Preempted) as stopped:
      run(tmp_path / "cut", prepared_dir, total_steps=10, **settings)
  assert stopped.value.step == stop_at
  assert stopped.value.code == trainer.EXIT_CODE_PREEMPTED
  run(tmp_path / "cut", prepared_dir, total_steps=10, **settings)

  whole, whole_feed = final_arrays(tmp_path / "whole", 10)
  cut, cut_feed = final_arrays(tmp_path / "cut", 10)
  assert whole.keys() == cut.keys()
  for name in whole:
    np.testing.assert_array_equal(whole[name], cut[name], err_msg=name)
  if mode == "prepared":
    assert whole_feed == cut_feed
  # A line for every step, whose loss depends on its very examples.
  records = metric_records(tmp_path / "whole")
  assert records == metric_records(tmp_path / "cut")
  assert [r["step"] for r in records if r["run"] == "train"] == [*range(1, 11)]


def test_the_same_command_after_the_end_evaluates_and_changes_nothing(
  tmp_path, prepared_dir
):
  settings = dict(
    train_eval_dataset_cfg=dataset(split="validation", pack=False),
    infer_eval_dataset_cfg=dataset(split="validation", pack=False),
    evaluator_cls=lambda *args, **kwargs: evaluation.Evaluator(
      *args, num_examples=12, **kwargs
    ),
  )
  first = run(tmp_path, prepared_dir, total_steps=4, **settings)
  again = run(tmp_path, prepared_dir, total_steps=4, **settings)
  assert first == again
  assert 0 < first["elements_qa/loss"] < 12
  assert {"elements_qa/exact_match", "elements_qa/token_accuracy"} <= set(first)
  assert (tmp_path / "curves.png").exists()
  report = (tmp_path / "report.md").read_text()
  assert "| elements_qa | exact_match |" in report
  assert checkpoint.Checkpointer(tmp_path).all_steps() == [4]


def test_fine_tuning_starts_from_the_parameters_at_step_zero(
  tmp_path, prepared_dir
):
  run(tmp_path / "first", prepared_dir, total_steps=4)
  restore = checkpoint.RestoreCheckpointConfig(
    path=str(tmp_path / "first" / "checkpoint_4")
  )
  run(
    tmp_path / "second",
    prepared_dir,
    total_steps=1,
    checkpoint_cfg=checkpoint.CheckpointConfig(
      restore=restore, save=checkpoint.SaveCheckpointConfig(period=1)
    ),
    trainer=trainer.Trainer(learning_rate_fn=lambda step: 0.0 * step),
  )
  before, _ = final_arrays(tmp_path / "first", 4)
  after, _ = final_arrays(tmp_path / "second", 1)
  assert after["step"] == 1
  for name in before:
    if name.startswith("params/"):
      np.testing.assert_array_equal(before[name], after[name])


def test_a_checkpoint_of_another_vocabulary_is_refused_before_training(
  tmp_path, prepared_dir, monkeypatch
):
  other = {"vocabularies": {"output_vocabulary": "sentencepiece:other:0"}}
  with monkeypatch.context() as patch:
    patch.setattr(trainer, "run_metadata", lambda model: other)
    run(tmp_path, prepared_dir, total_steps=1)
  with pytest.raises(ValueError, match="vocabularies.output_vocabulary"):
    run(tmp_path, prepared_dir, total_steps=2)


def test_a_task_of_another_vocabulary_is_refused_before_training(
  tmp_path, prepared_dir
):
  model = make_model()
  model.input_vocabulary = dataclasses.replace(VOCABULARY, extra_ids=50)
  with pytest.raises(ValueError, match="The data has inputs of the vocabul"):
    run(tmp_path, prepared_dir, total_steps=1, model=model)


@pytest.mark.parametrize("prefix_lm", [False, True])
def test_a_decoder_only_model_trains_and_is_evaluated(
  prefix_lm, tmp_path, prepared_dir
):
  model = models.DecoderOnlyModel(
    module=networks.DecoderOnly(
      networks.DecoderOnlyConfig(
        vocab_size=4096,
        emb_dim=32,
        num_heads=2,
        head_dim=16,
        mlp_dim=64,
        num_layers=2,
        logits_via_embedding=True,
      )
    ),
    vocabulary=VOCABULARY,
    optimizer_def=optim.RMSScaledAdamW(),
    inputs_bidirectional_attention=prefix_lm,
  )
  found = run(
    tmp_path,
    prepared_dir,
    total_steps=12,
    model=model,
    infer_eval_dataset_cfg=dataset(split="validation", pack=False),
    evaluator_cls=lambda *args, **kwargs: evaluation.Evaluator(
      *args, num_examples=8, **kwargs
    ),
  )
  assert "elements_qa/exact_match" in found
  losses = [r["loss"] for r in metric_records(tmp_path) if r["run"] == "train"]
  assert losses[-1] < losses[0] - 0.5


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
  tmp_path, prepared_dir
):
  run(tmp_path, prepared_dir, total_steps=4)
  wild = trainer.Trainer(learning_rate_fn=lambda step: 1e30 + 0.0 * step)
  with pytest.raises(trainer.DivergedError):
    run(tmp_path, prepared_dir, total_steps=12, trainer=wild)
  assert checkpoint.Checkpointer(tmp_path).all_steps() == [4]


@pytest.mark.parametrize(
  "preset, mesh_shape",
  [
    ("data", {"data": 8}),
    ("fsdp", {"fsdp": 8}),
    ("tensor", {"data": 4, "model": 2}),
    ("fsdp+tensor", {"fsdp": 4, "model": 2}),
    ("sequence", {"data": 4, "sequence": 2}),
  ],
)
def test_every_preset_gives_the_loss_curve_of_one_device(
  preset, mesh_shape, tmp_path, prepared_dir
):
  changes = dict(
    model=make_model(dropout_rate=0.0),
    trainer=trainer.Trainer(learning_rate_fn=lambda step: 0.003 + 0.0 * step),
  )
  run(tmp_path / "one", prepared_dir, total_steps=20, **changes)
  run(
    tmp_path / "eight",
    prepared_dir,
    total_steps=20,
    partitioner=partitioning.Partitioner(preset=preset, mesh_shape=mesh_shape),
    **changes,
  )
  one = [r["loss"] for r in metric_records(tmp_path / "one")]
  eight = [r["loss"] for r in metric_records(tmp_path / "eight")]
  assert len(one) == 20 and one[-1] < one[0]
  np.testing.assert_allclose(eight, one, rtol=1e-5)


_COMMAND = [
  sys.executable,
  "-m",
  "t2tjax.train",
  "--gin_file=recipes/quickstart.gin",
  "--gin.TRAIN_STEPS=4",
  "--gin.WARMUP_STEPS=1",
  "--gin.STATS_PERIOD=2",
  "--gin.INFER_EVAL_EXAMPLES=8",
  "--gin.EVAL_STEPS=1",
  "--gin.networks.T5Config.num_encoder_layers=1",
  "--gin.networks.T5Config.num_decoder_layers=1",
]


def run_command(*arguments, **environment):
  return subprocess.run(
    [*_COMMAND, *arguments],
    capture_output=True,
    text=True,
    env={**os.environ, **environment},
    cwd="/",
    timeout=600,
  )


def test_the_command_trains_repeats_itself_from_its_config_and_resumes(
  tmp_path, prepared_dir
):
  environment = {"T2TJAX_PREPARED_DIR": prepared_dir}
  first = run_command(f"--gin.MODEL_DIR={tmp_path}/run", **environment)
  assert first.returncode == 0, first.stderr
  assert "step 4/4" in first.stdout
  assert "Task metrics" in first.stdout
  record = json.loads((tmp_path / "run" / "run.json").read_text())
  assert record["starts"][0]["seeds"] == {"random_seed": 0}

  # From the resolved config, elsewhere: the same numbers, and no TensorFlow.
  code = """
import sys
from t2tjax.config import cli
from t2tjax.train import train
cli.main(train)
print(sorted({"tensorflow", "seqio"} & set(sys.modules)))
"""
  again = subprocess.run(
    [
      sys.executable,
      "-c",
      code,
      f"--gin_file={tmp_path}/run/config.gin",
      f"--gin.MODEL_DIR={tmp_path}/again",
    ],
    capture_output=True,
    text=True,
    env={**os.environ, **environment},
    timeout=600,
  )
  assert again.returncode == 0, again.stderr
  assert again.stdout.splitlines()[-1] == "[]"
  assert metric_records(tmp_path / "run") == metric_records(tmp_path / "again")


@pytest.mark.fault
def test_sigterm_saves_between_two_steps_and_exits_with_its_own_code(
  tmp_path, prepared_dir
):
  command = [*_COMMAND, f"--gin.MODEL_DIR={tmp_path}/run"]
  command.append("--gin.TRAIN_STEPS=100000")
  process = subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env={**os.environ, "T2TJAX_PREPARED_DIR": prepared_dir},
    cwd="/",
  )
  for line in process.stdout:
    if line.startswith("step "):
      process.terminate()
      break
  rest = process.stdout.read()
  assert process.wait(timeout=60) == trainer.EXIT_CODE_PREEMPTED, rest
  (step,) = checkpoint.Checkpointer(tmp_path / "run").all_steps()
  assert 0 < step < 100_000
  assert f"Stopped at step {step}; the same command goes on" in rest


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path, prepared_dir):
  shown = run_command(
    f"--gin.MODEL_DIR={tmp_path}/run",
    "--dry_run",
    T2TJAX_PREPARED_DIR=prepared_dir,
    COLUMNS="200",
  )
  assert shown.returncode == 0, shown.stderr
  for text in ("token_embedder/embedding", "optimizer bytes", "FLOPs"):
    assert text in shown.stdout
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "argument, expected",
  [
    ("--gin.MESH_SHAPE={'data': 3}", "mesh_shape"),
    ("--gin.MIXTURE_OR_TASK_NAME='world_fact_qa'", "world_facts_qa"),
    ("--gin.MODEL_DIR=/proc/no/such", "MODEL_DIR"),
    ("--gin.BATCH_SIZE=12", "batch"),
    ("--gin.VOCABULARY_FILE=nowhere.model", "nowhere.model"),
  ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
  argument, expected, tmp_path, prepared_dir
):
  failed = run_command(
    f"--gin.MODEL_DIR={tmp_path}/run",
    argument,
    T2TJAX_PREPARED_DIR=prepared_dir,
  )
  assert failed.returncode == 2, failed.stderr
  assert "Traceback" not in failed.stderr
  assert expected in failed.stderr


def test_early_stopping_ends_the_run_saves_it_and_holds_after_a_restart(
  tmp_path, prepared_dir
):
  settings = dict(
    total_steps=20,
    train_eval_dataset_cfg=dataset(split="validation", shuffle=False),
    eval_steps=1,
    eval_period=2,
    # A loss that falls does not improve by being larger.
    stop_conditions=[
      trainer.EarlyStopping(metric="elements_qa/loss", mode="max", patience=3)
    ],
  )
  run(tmp_path, prepared_dir, **settings)
  assert checkpoint.Checkpointer(str(tmp_path)).latest_step() == 6
  before = metric_records(tmp_path)
  run(tmp_path, prepared_dir, **settings)
  assert checkpoint.Checkpointer(str(tmp_path)).latest_step() == 6
  added = metric_records(tmp_path)[len(before) :]
  assert {record["run"] for record in added} <= {"eval/elements_qa"}


def test_a_run_can_evaluate_before_its_first_step(tmp_path, prepared_dir):
  run(
    tmp_path,
    prepared_dir,
    total_steps=1,
    train_eval_dataset_cfg=dataset(split="validation", shuffle=False),
    eval_steps=1,
    eval_before_training=True,
  )
  evaluated = [r for r in metric_records(tmp_path) if r["run"] != "train"]
  assert [record["step"] for record in evaluated] == [0, 1]
