"""Seeds, schedules and restored state of whole runs."""

import json

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tiny_models import BATCH_SPEC, random_batch, tiny_model

from t2tjax import checkpoint, data, models, networks, optim, partitioning
from t2tjax import state as state_lib
from t2tjax import trainer as trainer_lib
from t2tjax.train import train

VOCABULARY = data.SentencePieceVocabulary("bundle/en_es_4k.model", 100)


def run(model_dir, prepared_dir, *, total_steps, restore=None, **changes):
  sizes = dict(vocab_size=4096, emb_dim=16, num_heads=2, head_dim=8)
  config = networks.T5Config(
    num_encoder_layers=1, num_decoder_layers=1, mlp_dim=32, **sizes
  )
  settings = dict(
    model=models.EncoderDecoderModel(
      module=networks.EncoderDecoder(config),
      input_vocabulary=VOCABULARY,
      output_vocabulary=VOCABULARY,
      optimizer_def=optim.Adafactor(),
    ),
    model_dir=str(model_dir),
    train_dataset_cfg=data.DatasetConfig(
      mixture_or_task_name="elements_qa",
      task_feature_lengths={"inputs": 32, "targets": 8},
      module="t2tjax.tasks.all",
      batch_size=4,
      seed=3,
    ),
    partitioner=partitioning.Partitioner(devices=jax.devices()[:1]),
    trainer=trainer_lib.Trainer(
      learning_rate_fn=lambda step: 0.01 / (step + 1), weight_metrics=True
    ),
    checkpoint_cfg=checkpoint.CheckpointConfig(
      restore=restore, save=checkpoint.SaveCheckpointConfig(period=2)
    ),
    stats_period=1,
    prepared_dir=prepared_dir,
    compilation_cache_dir=None,
  )
  return train(total_steps=total_steps, **(settings | changes))


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
  """Returns the directories of a run of two steps and of its data."""
  directory = tmp_path_factory.mktemp("first")
  prepared_dir = str(tmp_path_factory.mktemp("prepared"))
  run(directory, prepared_dir, total_steps=2)
  return directory, prepared_dir


def learning_rates(directory):
  lines = (directory / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return {r["step"]: r["learning_rate"] for r in records if r["run"] == "train"}


@pytest.mark.parametrize(
  "settings, said, first_rate",
  [
    ({}, "a new optimizer state, step 0: the schedule begins anew", 0),
    ({"keep_step": True}, "new optimizer state, step 2: the schedule goes", 2),
    ({"params_only": False}, "optimizer included, step 2: the schedule", 2),
  ],
  ids=["fine-tuning", "parameters and step", "everything"],
)
def test_a_restore_says_if_it_takes_the_optimizer_and_where_its_schedule_begins(
  settings, said, first_rate, first_run, tmp_path, capsys, monkeypatch
):
  """As in a dry run so in the run itself; fine-tuning begins at 0."""
  monkeypatch.setenv("COLUMNS", "400")
  first, prepared_dir = first_run
  restore = checkpoint.RestoreCheckpointConfig(
    path=str(first / "checkpoint_2"), **settings
  )
  steps = dict(total_steps=first_rate + 1, restore=restore)
  run(tmp_path, prepared_dir, dry_run=True, **steps)
  shown = capsys.readouterr().out
  assert said in shown
  assert f"{first_rate}: {0.01 / (first_rate + 1):.2e}" in shown
  run(tmp_path, prepared_dir, **steps)
  assert said in " ".join(capsys.readouterr().out.split())
  assert learning_rates(tmp_path) == {
    first_rate + 1: pytest.approx(0.01 / (first_rate + 1))
  }


def test_weight_metrics_reach_the_event_files_and_the_log(first_run):
  directory, _ = first_run
  events = event_accumulator.EventAccumulator(
    str(directory / "tensorboard" / "train")
  )
  events.Reload()
  tags = set(events.Tags()["scalars"])
  name = "decoder/layers_0/mlp/wo/kernel"
  for prefix in (
    "weight_rms",
    "weight_max",
    "weight_gradient_rms",
    "weight_update_rms",
    "weight_update_divided_by_weight_rms",
  ):
    assert f"{prefix}/{name}" in tags
  line = json.loads((directory / "metrics.jsonl").read_text().splitlines()[0])
  written = events.Scalars(f"weight_rms/{name}")[0]
  assert written.step == line["step"] == 1
  assert written.value == pytest.approx(line[f"weight_rms/{name}"])


def losses_with(*, random_seed, num_steps=2, **settings):
  """Returns the losses of a run of a model with dropout."""
  model, optimizer = tiny_model(dropout_rate=0.3), optim.AdamW()
  model.optimizer_def = optimizer
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  abstract, axes = trainer_lib.abstract_state(model, partitioner, BATCH_SPEC)
  trainer = trainer_lib.Trainer(
    learning_rate_fn=lambda step: 0.01 + 0.0 * step, **settings
  )
  # Always the same initial parameters: only dropout can differ.
  state = state_lib.init_state(
    model, optimizer, BATCH_SPEC, partitioner, seed=0
  )
  losses = []
  with partitioner.activate():
    step = trainer.compile_train_step(
      model, partitioner, axes, abstract, BATCH_SPEC, random_seed=random_seed
    )
    for seed in range(num_steps):
      batch = jax.device_put(random_batch(seed), partitioner.batch_sharding)
      state, metrics = step(state, batch)
      losses.append(float(metrics["loss_sum"]))
  return losses


def test_dropout_has_a_seed_of_its_own_beside_those_of_parameters_and_data():
  ours = losses_with(random_seed=1, dropout_seed=5)
  assert ours == losses_with(random_seed=5)
  assert ours == losses_with(random_seed=2, dropout_seed=5)
  assert not np.allclose(ours, losses_with(random_seed=1))
