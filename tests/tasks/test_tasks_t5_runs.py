"""Training on T5's tasks from TFDS folders, with a vocabulary put in place."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from t2tjax import data
from t2tjax.data import seqio_dirs

_VOCABULARY = "vocabs/cc_all.32000.100extra/sentencepiece.model"


def write_dataset(data_dir, name, features, **splits):
  """Writes a TFDS dataset, `<dataset>/<config>:<version>`, from examples."""
  folder = pathlib.Path(data_dir, *name.split(":")[0].split("/"))
  folder /= name.split(":")[1]
  folder.mkdir(parents=True)
  features = tfds.features.FeaturesDict(features)
  template = tfds.core.ShardedFileTemplate(
    data_dir=folder,
    dataset_name=name.split("/")[0],
    filetype_suffix="tfrecord",
    template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
  )
  infos = []
  for split, examples in splits.items():
    info = tfds.core.SplitInfo(
      name=split,
      shard_lengths=[len(examples)],
      num_bytes=1000,
      filename_template=template.replace(split=split),
    )
    path = folder / f"{template.dataset_name}-{split}.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as file:
      for example in examples:
        encoded = features.encode_example(example)
        file.write(features.serialize_example(encoded))
    infos.append(info)
  tfds.folder_dataset.write_metadata(
    data_dir=str(folder),
    features=features,
    split_infos=infos,
    filename_template=template,
  )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  """Returns variables: TFDS data, T5's vocabulary, prepared records."""
  folder = tmp_path_factory.mktemp("t5")
  vocabulary = folder / "t5-data" / _VOCABULARY
  vocabulary.parent.mkdir(parents=True)
  data.SentencePieceVocabulary("bundle/en_es_4k.model", 100).save(
    str(vocabulary)
  )
  text = tfds.features.Text()
  rte = [
    {
      "sentence1": f"There are {n} men and {n + 1} women.",
      "sentence2": f"There are {2 * n + 1 - n % 2} people.",
      "label": n % 2,
      "idx": n,
    }
    for n in range(16)
  ]
  label = tfds.features.ClassLabel(names=["entailment", "not_entailment"])
  tfds_dir = str(folder / "tfds")
  write_dataset(
    tfds_dir,
    "glue/rte:1.0.0",
    {"sentence1": text, "sentence2": text, "label": label, "idx": np.int32},
    train=rte,
    validation=rte[:4],
  )
  verses = [
    {"text": "In the beginning God created the heavens. " * n, "url": "x"}
    for n in range(1, 20)
  ]
  write_dataset(
    tfds_dir, "c4/en:2.2.0", {"text": text, "url": text}, train=verses
  )
  return {
    "T2TJAX_T5_DATA": str(folder / "t5-data"),
    "T2TJAX_PREPARED_DIR": str(folder / "prepared"),
    seqio_dirs.TFDS_DATA_DIR_VARIABLE: tfds_dir,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "",
  }


def run(environment, *arguments):
  done = subprocess.run(
    [sys.executable, *arguments],
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return done.stdout


def test_a_t5_task_trains_and_is_scored_as_t5_scores_it(environment, tmp_path):
  settings = {
    "MODEL_DIR": str(tmp_path / "run"),
    "MIXTURE_OR_TASK_NAME": "glue_rte_v002",
    "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 8},
    "TRAIN_STEPS": 2,
    "EVAL_PERIOD": 2,
    "SAVE_PERIOD": 2,
    "BATCH_SIZE": 4,
    "EVAL_BATCH_SIZE": 4,
    "networks.T5Config.vocab_size": 4096,
    "networks.T5Config.emb_dim": 16,
    "networks.T5Config.num_heads": 1,
  }
  run(
    environment,
    *("-m", "t2tjax.train", "--gin_file=models/t5_1_1/tiny.gin"),
    "--gin_file=runs/pretrain.gin",
    *(f"--gin.{name}={value!r}" for name, value in settings.items()),
  )
  logged = (tmp_path / "run" / "metrics.jsonl").read_text()
  assert "glue_rte_v002" in logged and "accuracy" in logged
  kept = json.loads(
    next(
      pathlib.Path(environment["T2TJAX_PREPARED_DIR"]).glob(
        "glue_rte_v002-*/validation/manifest.json"
      )
    ).read_text()
  )
  assert kept["metric_fns"] == ["t2tjax.evaluation.t5_metrics:accuracy"]
  assert kept["needs_seqio"] is False


_CORPUS = """
import socket, sys

def refuse(*arguments):
  raise AssertionError(f"network used: {arguments}")

socket.socket.connect = refuse
import t2tjax.tasks.all
builders = ("tensorflow_datasets.datasets.", "tensorflow_datasets.text.")
assert not [name for name in sys.modules if name.startswith(builders)]

from t2tjax import data, partitioning
for mode in ("prepared", "streaming"):
  feed = data.train_feed(
    data.DatasetConfig(
      mixture_or_task_name="c4_v220_span_corruption",
      task_feature_lengths={"inputs": 64, "targets": 32},
      module="t2tjax.tasks.all",
      batch_size=4,
      mode=mode,
    ),
    "encoder_decoder",
    partitioning.Partitioner().data_layout(4),
  )
  batch = next(feed)
  first = {k: v[0] for k, v in batch.items()}
  inputs = first["encoder_input_tokens"]
  targets = first["decoder_target_tokens"]
  # The first sentinel stands in both, and targets begin with it.
  assert targets[0] == 4095 and (inputs == 4095).sum() >= 1, (inputs, targets)
  print(mode)
"""


def test_tasks_are_registered_offline_and_c4_is_corrupted_in_both_modes(
  environment,
):
  assert run(environment, "-c", _CORPUS).split() == ["prepared", "streaming"]
