import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from t2tjax import data
from t2tjax.data import manifest as manifest_lib
from t2tjax.data import preparation, records

LENGTHS = {"inputs": 40, "targets": 40}


def toy_config(name="toy_mix", **kw):
  kw = {"task_feature_lengths": LENGTHS, "batch_size": 4, **kw}
  return data.DatasetConfig(mixture_or_task_name=name, module="toy_tasks", **kw)


def feed_of(config, prepared_dir):
  layout = data.AllRows(config.batch_size)
  return data.train_feed(
    config, "encoder_decoder", layout, prepared_dir=str(prepared_dir)
  )


def test_prepared_tokens_equal_what_seqio_gives(toy_dir, tmp_path):
  import seqio

  config = toy_config("toy_copy")
  index = preparation.prepared_index(config, str(tmp_path), texts=True)
  folder = os.path.join(tmp_path, index.members[0]["folder"])
  found = records.Records(folder, ["inputs", "targets"])
  expected = list(
    seqio.get_mixture_or_task("toy_copy")
    .get_dataset(None, "train", shuffle=False)
    .as_numpy_iterator()
  )
  assert len(found) == len(expected) == 100
  for number, example in enumerate(expected):
    for name in ("inputs", "targets"):
      np.testing.assert_array_equal(found.tokens(name, number), example[name])
  assert found.texts()[3]["inputs_pretokenized"] == (
    expected[3]["inputs_pretokenized"].decode()
  )


SECOND_START = """
import sys
from t2tjax import data
config = data.DatasetConfig(
  mixture_or_task_name="toy_mix", module="toy_tasks",
  task_feature_lengths={"inputs": 40, "targets": 40}, batch_size=4)
rows = data.AllRows(4)
feed = data.train_feed(
  config, "encoder_decoder", rows, prepared_dir=sys.argv[1])
print(int(sum(next(feed)["encoder_input_tokens"].sum() for _ in range(20))))
print([m for m in ("tensorflow", "seqio", "toy_tasks") if m in sys.modules])
"""


def test_a_second_start_imports_neither_tensorflow_nor_seqio_nor_the_task(
  toy_dir, tmp_path
):
  feed = feed_of(toy_config(), tmp_path)
  total = sum(next(feed)["encoder_input_tokens"].sum() for _ in range(20))
  run = subprocess.run(
    [sys.executable, "-c", SECOND_START, str(tmp_path)],
    capture_output=True,
    text=True,
    timeout=120,
    env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout.splitlines() == [str(total), "[]"]


def test_other_feature_lengths_need_no_new_preparation(
  toy_dir, tmp_path, capsys
):
  config = toy_config()
  first = preparation.prepared_index(config, str(tmp_path), texts=False)
  other = toy_config(task_feature_lengths={"inputs": 8, "targets": 8})
  again = preparation.prepared_index(other, str(tmp_path), texts=False)
  assert again == first
  assert len(os.listdir(tmp_path / "index")) == 2  # The entry and its lock.


def test_steps_that_take_lengths_are_prepared_per_length(toy_dir, tmp_path):
  import seqio
  import toy_tasks

  def first_tokens(dataset, sequence_length):
    limit = sequence_length["inputs"] // 2
    return dataset.map(lambda x: {**x, "inputs": x["inputs"][:limit]})

  seqio.TaskRegistry.remove("toy_lengths")
  seqio.TaskRegistry.add(
    "toy_lengths",
    source=toy_tasks.source("copy"),
    output_features=toy_tasks.FEATURES,
    preprocessors=[toy_tasks.TOKENIZE[0], first_tokens],
  )
  for limit in (16, 8, 16):
    config = toy_config(
      "toy_lengths", task_feature_lengths={"inputs": limit, "targets": 40}
    )
    feed = feed_of(config, tmp_path)
    longest = feed.members[0].records.lengths["inputs"].max()
    assert longest == limit // 2


def test_changed_data_is_noticed_and_prepared_again(jsonl, tmp_path, capsys):
  path = jsonl(30)
  config = data.DatasetConfig(
    mixture_or_task_name="own",
    task_feature_lengths=LENGTHS,
    batch_size=4,
    source=data.JsonlSource(path=path),
    vocabulary=data.ByteVocabulary(),
  )
  first = preparation.prepared_index(config, str(tmp_path), texts=False)
  same = preparation.prepared_index(config, str(tmp_path), texts=False)
  assert first == same
  with open(path, "a") as file:
    file.write('{"inputs": "new", "targets": "line"}\n')
  again = preparation.prepared_index(config, str(tmp_path), texts=False)
  assert f"preparing again, {path} changed" in capsys.readouterr().err
  folder = os.path.join(tmp_path, again.members[0]["folder"])
  assert manifest_lib.TaskManifest.load(folder).num_examples == 31
  old = os.path.join(tmp_path, first.members[0]["folder"])
  assert not os.path.exists(old)


def test_data_that_only_the_tasks_python_code_opens_is_a_dependency(
  toy_dir, tmp_path, capsys
):
  config = toy_config("toy_copy", split="validation")
  preparation.prepared_index(config, str(tmp_path), texts=False)
  path = toy_dir / "copy-validation.jsonl"
  old = path.read_text()
  try:
    path.write_text(old + '{"inputs": "new", "targets": "line"}\n')
    index = preparation.prepared_index(config, str(tmp_path), texts=False)
  finally:
    path.write_text(old)
  assert "copy-validation.jsonl changed" in capsys.readouterr().err
  folder = os.path.join(tmp_path, index.members[0]["folder"])
  assert manifest_lib.TaskManifest.load(folder).num_examples == 21


def test_a_touched_but_equal_file_is_not_a_change(tmp_path):
  path = tmp_path / "file"
  path.write_text("same")
  dependency = manifest_lib.FileDependency.of(str(path))
  os.utime(path, (1, 1))
  assert dependency.change() is None
  path.write_text("other")
  assert "changed" in dependency.change()
  path.unlink()
  assert "gone" in dependency.change()


def test_a_changed_task_module_is_noticed(toy_dir, tmp_path, capsys):
  module = tmp_path / "my_task.py"
  module.write_text(
    "import seqio\n"
    "from toy_tasks import FEATURES, TOKENIZE, source\n"
    "seqio.TaskRegistry.remove('mine')\n"
    "seqio.TaskRegistry.add('mine', source=source('copy'),\n"
    "  output_features=FEATURES, preprocessors=TOKENIZE)\n"
  )
  config = dataclasses.replace(toy_config("mine"), module=str(module))
  first = preparation.prepared_index(config, str(tmp_path / "p"), texts=False)
  module.write_text(module.read_text() + "# a remark\n")
  again = preparation.prepared_index(config, str(tmp_path / "p"), texts=False)
  assert "my_task.py changed" in capsys.readouterr().err
  # What the task does is the same, so its records are used again.
  assert again.members == first.members


def test_interrupted_writing_goes_on_behind_the_last_whole_shard(tmp_path):
  examples = [
    records.Example({"targets": np.arange(n % 5, dtype=np.int32)})
    for n in range(95)
  ]
  asked = []

  def make(stop):
    def from_number(skip):
      asked.append(skip)
      for number, example in enumerate(examples[skip:], skip):
        if number == stop:
          raise KeyboardInterrupt
        yield example

    return from_number

  features = [manifest_lib.FeatureSpec("targets", {"kind": "bytes"})]
  manifest = manifest_lib.TaskManifest("t", "train", features)

  def write(stop):
    work = preparation.Preparation(manifest, "t-0/train", make(stop), None)
    return preparation.write(work, str(tmp_path), examples_per_shard=20)

  with pytest.raises(KeyboardInterrupt):
    write(50)
  assert not (tmp_path / "t-0" / "train").exists()
  assert write(None).num_examples == 95
  assert asked == [0, 40]
  found = records.Records(str(tmp_path / "t-0" / "train"), ["targets"])
  for number, example in enumerate(examples):
    np.testing.assert_array_equal(
      found.tokens("targets", number), example.tokens["targets"]
    )


def test_streams_wrap_around_and_cross_shards(tmp_path):
  examples = [
    records.Example({"targets": np.array([n, n + 100_000])}) for n in range(25)
  ]
  list(records.write_shards(str(tmp_path), examples, ["targets"], 10))
  found = records.Records(str(tmp_path), ["targets"])
  whole = np.concatenate([e.tokens["targets"] for e in examples])
  for begin, length in ((0, 50), (15, 10), (45, 20), (3, 47)):
    np.testing.assert_array_equal(
      found.stream("targets", begin, length),
      np.take(whole, np.arange(begin, begin + length), mode="wrap"),
    )


def test_random_tasks_are_streamed_and_the_reason_is_told(
  toy_dir, tmp_path, capsys
):
  index = preparation.prepared_index(
    toy_config("toy_random"), str(tmp_path), texts=False
  )
  assert index.mode == "streaming" and "random_case" in index.reason
  with pytest.raises(ValueError, match="CacheDatasetPlaceholder"):
    preparation.prepared_index(
      toy_config("toy_random", mode="prepared"), str(tmp_path), texts=False
    )


def test_randomness_that_names_do_not_show_is_found_by_trying(
  toy_dir, tmp_path
):
  import itertools

  import toy_tasks

  counter = itertools.count()
  import seqio
  import tensorflow as tf

  def unsteady(dataset):
    number = str(next(counter))
    return dataset.map(
      lambda x: {**x, "inputs": tf.strings.join([x["inputs"], number])}
    )

  seqio.TaskRegistry.remove("toy_unsteady")
  seqio.TaskRegistry.add(
    "toy_unsteady",
    source=toy_tasks.source("copy"),
    output_features=toy_tasks.FEATURES,
    preprocessors=[unsteady, toy_tasks.TOKENIZE[0]],
  )
  index = preparation.prepared_index(
    toy_config("toy_unsteady"), str(tmp_path), texts=False
  )
  assert index.mode == "streaming" and "differ" in index.reason


def test_mixed_batches_hold_the_rates_of_the_mixture(toy_dir, tmp_path):
  feed = feed_of(toy_config(pack=False), tmp_path)
  assert feed.rates == [0.75, 0.25]
  vocabulary = data.ByteVocabulary()
  texts = [
    vocabulary.decode(row.tolist())
    for _ in range(100)
    for row in next(feed)["encoder_input_tokens"]
  ]
  copies = sum(text.startswith("copy") for text in texts)
  # 400 draws, of which 300 are copies, give or take what one window shuffles.
  assert 260 < copies < 340


def test_an_objective_among_the_preprocessors_is_applied_by_the_feed(
  toy_dir, tmp_path
):
  import seqio
  import toy_tasks

  seqio.TaskRegistry.remove("toy_spans")
  seqio.TaskRegistry.add(
    "toy_spans",
    source=toy_tasks.source("copy"),
    output_features=toy_tasks.FEATURES,
    preprocessors=[
      *toy_tasks.TOKENIZE[:2],
      data.as_seqio_preprocessor(data.SpanCorruption()),
      seqio.preprocessors.append_eos_after_trim,
    ],
  )
  config = toy_config(
    "toy_spans", task_feature_lengths={"inputs": 64, "targets": 16}
  )
  feed = feed_of(config, tmp_path)
  assert feed.report["mode"] == "prepared"
  batch = next(feed)
  chunk = data.SpanCorruption().chunk_length(64, 16)
  assert feed.report["tasks"]["toy_spans"]["chunk_tokens"] == chunk
  assert 358 in batch["encoder_input_tokens"]
  # The same task in seqio's own pipeline gives the same kind of batch.
  streamed = next(
    feed_of(dataclasses.replace(config, mode="streaming"), tmp_path)
  )
  assert {k: v.shape for k, v in streamed.items()} == {
    k: v.shape for k, v in batch.items()
  }
  assert 358 in streamed["encoder_input_tokens"]


def test_unknown_names_and_splits_tell_what_there_is(toy_dir, tmp_path):
  with pytest.raises(ValueError, match="toy_copy"):
    preparation.prepared_index(
      toy_config("toy_cpoy"), str(tmp_path), texts=False
    )
  with pytest.raises(ValueError, match="validation"):
    preparation.prepared_index(
      toy_config(split="tset"), str(tmp_path), texts=False
    )
  with pytest.raises(ValueError, match="DatasetConfig.module"):
    preparation.prepared_index(
      dataclasses.replace(toy_config(), module="no_such_module"),
      str(tmp_path),
      texts=False,
    )


def test_function_references_survive_json():
  import functools

  reference = manifest_lib.function_reference(
    functools.partial(json.dumps, indent=2)
  )
  again = json.loads(json.dumps(reference))
  assert manifest_lib.resolve_function(again)([1]) == "[\n  1\n]"
  assert manifest_lib.function_reference(lambda x: x) is None


def test_prepare_command_reports_modes(toy_dir, tmp_path):
  from t2tjax import prepare

  configs = [toy_config(), toy_config("toy_copy", split="validation")]
  modes = prepare.prepare(dataset_cfgs=configs, prepared_dir=str(tmp_path))
  assert modes == {
    "toy_mix/train": "prepared",
    "toy_copy/validation": "prepared",
  }
