"""The command convert: round trips, and what other commands do with it."""

import dataclasses
import filecmp
import json
import pathlib
import shutil
import types

import huggingface_models
import jax
import jax.numpy as jnp
import numpy as np
import peak_memory
import pytest
import safetensors.numpy
import tiny_models
import tiny_runs

from t2tjax import (
  checkpoint,
  convert,
  data,
  loading,
  networks,
  optim,
  partitioning,
  trainer,
  trees,
)
from t2tjax.checkpoint import formats
from t2tjax.checkpoint.formats import own

SIZES = dict(vocab_size=264, emb_dim=4, num_heads=1, head_dim=8, mlp_dim=12)
LENGTHS = "{'inputs': 32, 'targets': 8}"


def convert_there_and_back(root, family, *, dtype="float32", **changes):
  huggingface_models.make(root / "hf", family, dtype=dtype, **changes)
  for source, target, name_in, name_out in (
    ("hf", "t2tjax", "hf", "own"),
    ("t2tjax", "hf", "own", "back"),
  ):
    convert.convert(
      source_format=source,
      target_format=target,
      input_path=str(root / name_in),
      output_path=str(root / name_out),
    )
  return root / "hf", root / "back"


@pytest.mark.parametrize("family", huggingface_models.FAMILIES)
def test_there_and_back_again_is_bit_equal(tmp_path, family):
  first, last = convert_there_and_back(tmp_path, family)
  before = safetensors.numpy.load_file(first / "model.safetensors")
  after = safetensors.numpy.load_file(last / "model.safetensors")
  assert before.keys() == after.keys()
  for name, array in before.items():
    assert array.dtype == after[name].dtype
    assert array.tobytes() == after[name].tobytes(), name
  config = json.loads((first / "config.json").read_text())
  written = json.loads((last / "config.json").read_text())
  config.setdefault("tie_word_embeddings", True)
  # mT5 is T5 1.1, and 't5' says in all releases whether logits are scaled.
  config["model_type"] = config["model_type"].replace("mt5", "t5")
  config["model_type"] = config["model_type"].replace("ut5", "umt5")
  assert config.items() <= written.items()


def test_half_precision_stays_and_dtype_changes_it(tmp_path):
  first, last = convert_there_and_back(tmp_path, "t5_1_1", dtype="bfloat16")
  name = "lm_head.weight"
  before = safetensors.numpy.load_file(first / "model.safetensors")[name]
  after = safetensors.numpy.load_file(last / "model.safetensors")[name]
  assert before.tobytes() == after.tobytes()
  assert json.loads((last / "config.json").read_text())["torch_dtype"] == (
    "bfloat16"
  )
  convert.convert(
    source_format="hf",
    target_format="hf",
    input_path=str(first),
    output_path=str(tmp_path / "wide"),
    dtype="float32",
  )
  wide = safetensors.numpy.load_file(tmp_path / "wide" / "model.safetensors")
  assert wide[name].dtype == np.float32
  np.testing.assert_array_equal(wide[name], before.astype(np.float32))


def test_large_models_are_written_in_several_files(tmp_path):
  theirs = huggingface_models.make(tmp_path / "hf", "t5_1_1")
  convert.convert(
    source_format="hf",
    target_format="hf",
    input_path=str(tmp_path / "hf"),
    output_path=str(tmp_path / "parts"),
    max_shard_bytes=8000,
  )
  files = sorted((tmp_path / "parts").glob("*.safetensors"))
  assert len(files) > 2
  assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
  found = {}
  for file in files:
    part = safetensors.numpy.load_file(file)
    assert sum(x.nbytes for x in part.values()) <= 8000
    found |= part
  assert found.keys() == theirs.keys()
  source = formats.open_source(tmp_path / "parts")
  np.testing.assert_array_equal(
    source.read("decoder/logits_dense/kernel"), theirs["lm_head.weight"].T
  )


def test_vocabulary_rows_are_changed_and_it_is_in_the_metadata(tmp_path):
  theirs = huggingface_models.make(tmp_path / "hf", "t5_1_0")
  notes = convert.convert(
    source_format="hf",
    input_path=str(tmp_path / "hf"),
    output_path=str(tmp_path / "own"),
    vocab_size=48,
  )
  said = "token_embedder/embedding: 40 vocabulary rows padded to 48"
  assert any(said in note for note in notes)
  metadata = checkpoint.read_metadata(tmp_path / "own", mode="latest")
  assert metadata["converted"]["notes"] == notes
  source = own.OwnSource(
    tmp_path / "own",
    config=networks.T5Config(
      vocab_size=48, emb_dim=16, num_heads=2, head_dim=4, mlp_dim=24,
      num_encoder_layers=2, num_decoder_layers=2,
    ),
  )  # fmt: skip
  embedding = source.read("token_embedder/embedding")
  np.testing.assert_array_equal(embedding[:40], theirs["shared.weight"])
  np.testing.assert_array_equal(
    embedding[40:], np.repeat(theirs["shared.weight"][:1], 8, axis=0)
  )


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize(
  "config",
  [
    networks.T5Config(
      **SIZES, num_encoder_layers=2, num_decoder_layers=1,
      relpos_bias="per_layer", relpos_num_buckets=16,
    ),
    networks.T5Config(
      **SIZES, num_encoder_layers=1, num_decoder_layers=3,
      mlp_activations=("relu",), logits_via_embedding=True,
    ),
    networks.DecoderOnlyConfig(**SIZES, num_layers=2),
  ],
)  # fmt: skip
def test_model_file_defines_the_network_that_was_converted(
  tmp_path, config, scan
):
  source = types.SimpleNamespace(config=config, description="x", path="y")
  vocabulary = {"kind": "bytes", "extra_ids": 3}
  file = tmp_path / "model.gin"
  file.write_text(convert.model_gin(source, vocabulary, scan=scan))
  model = loading.model_of_gin([str(file)])
  assert model.module.config == dataclasses.replace(config, scan_layers=scan)
  assert model.output_vocabulary == data.ByteVocabulary(3)


def random_state(*, optimizer, **changes):
  """Returns a model, its abstract state and a state of random numbers."""
  model = tiny_models.tiny_model(num_encoder_layers=2, **changes)
  model.optimizer_def = optimizer
  abstract, axes = trainer.abstract_state(
    model, partitioning.Partitioner(), tiny_models.BATCH_SPEC
  )
  rng = np.random.default_rng(0)
  state = jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), abstract
  )
  return model, abstract, state.replace(step=jnp.int32(7))


def save(path, model, state):
  source = types.SimpleNamespace(
    config=model.module.config, description="x", path="y"
  )
  with checkpoint.Checkpointer(
    path, checkpoint.SaveCheckpointConfig()
  ) as saver:
    saver.save(int(state.step), state)
  text = convert.model_gin(source, None, scan=model.module.config.scan_layers)
  (path / "model.gin").write_text(text)


@pytest.mark.parametrize("relpos_bias", ["shared", "per_layer"])
@pytest.mark.parametrize("scan", [True, False])
def test_the_state_of_adafactor_goes_through_t5x(tmp_path, relpos_bias, scan):
  model, abstract, state = random_state(
    optimizer=optim.Adafactor(min_dim_size_to_factor=8),
    scan_layers=scan,
    relpos_bias=relpos_bias,
  )
  save(tmp_path / "run", model, state)
  for source, target, name_in, name_out in (
    ("t2tjax", "t5x", "run", "t5x"),
    ("t5x", "t2tjax", "t5x", "own"),
  ):
    convert.convert(
      source_format=source,
      target_format=target,
      input_path=str(tmp_path / name_in),
      output_path=str(tmp_path / name_out),
      scan=scan,
    )
  for path in ("t5x", "own"):
    restored, _, _ = checkpoint.restore_state(
      tmp_path / path, abstract, mode="latest"
    )
    for (name, expected), found in zip(
      trees.named_leaves(state), jax.tree.leaves(restored), strict=True
    ):
      np.testing.assert_array_equal(found, expected, err_msg=name)


def test_the_state_of_another_optimizer_is_left_out_and_it_is_said(tmp_path):
  model, _, state = random_state(optimizer=optim.AdamW())
  save(tmp_path / "run", model, state)
  notes = convert.convert(
    source_format="t2tjax",
    target_format="t5x",
    input_path=str(tmp_path / "run"),
    output_path=str(tmp_path / "t5x"),
  )
  assert any("optimizer state is left out" in note for note in notes)
  assert checkpoint.open_source(tmp_path / "t5x").opt_state_source is None


def test_nothing_is_left_of_what_failed(tmp_path, monkeypatch):
  huggingface_models.make(tmp_path / "hf", "t5_1_1")
  real = formats.huggingface.HuggingFaceSource.read

  def read(self, name):
    if "decoder_norm" in name:
      raise OSError("no more")
    return real(self, name)

  monkeypatch.setattr(formats.huggingface.HuggingFaceSource, "read", read)
  for target in ("t2tjax", "hf"):
    with pytest.raises(OSError, match="no more"):
      convert.convert(
        source_format="hf",
        target_format=target,
        input_path=str(tmp_path / "hf"),
        output_path=str(tmp_path / "out"),
      )
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_mistakes_say_which_flag_to_change(tmp_path, capsys):
  huggingface_models.make(tmp_path / "hf", "t5_1_1")
  (tmp_path / "there").mkdir()

  def error(*flags):
    with pytest.raises(SystemExit) as stopped:
      convert.main(list(flags))
    assert stopped.value.code == 2
    return capsys.readouterr().err

  hf, new = f"--input={tmp_path}/hf", f"--output={tmp_path}/new"
  assert "exists already" in error(
    "--from=hf", hf, f"--output={tmp_path}/there"
  )
  assert "say --from=hf" in error("--from=t2tjax", hf, new)
  assert "holds no checkpoint" in error(
    "--from=hf", f"--input={tmp_path}/there", new
  )
  assert "--dtype = 'int8'" in error("--from=hf", hf, new, "--dtype=int8")
  assert "networks.T5Config.emb_dim = 768; the checkpoint has 16" in error(
    "--from=hf", hf, new, "--model=models/t5_1_1/base.gin"
  )


def test_a_decoder_only_model_has_no_counterpart(tmp_path):
  config = networks.DecoderOnlyConfig(
    vocab_size=8, emb_dim=4, num_heads=1, head_dim=4, mlp_dim=8, num_layers=1
  )
  with checkpoint.Checkpointer(
    tmp_path / "run", checkpoint.SaveCheckpointConfig()
  ) as saver:
    saver.save(1, {"step": np.int32(1), "params": {"x": jnp.ones(2)}})
  source = own.OwnSource(tmp_path / "run", config=config)
  with pytest.raises(ValueError, match="DecoderOnlyConfig has no counterpart"):
    convert.huggingface_writer.write(tmp_path, source)


_CONVERT_TWO = """
import sys
import peak_memory
from t2tjax import convert

for root in sys.argv[1:3]:  # The first imports and compiles.
  with peak_memory.Watch() as watch:
    convert.convert(
      source_format=sys.argv[3],
      target_format=sys.argv[4],
      input_path=f"{root}/{sys.argv[3]}",
      output_path=f"{root}/{sys.argv[5]}",
    )
print(watch.increase)
"""


def test_converting_300_mb_takes_less_than_half_as_much_again(tmp_path):
  huggingface_models.make(tmp_path / "tiny" / "hf", "t5_1_1")
  num_bytes = huggingface_models.make_small(tmp_path / "small" / "hf")
  assert num_bytes > 300e6
  roots = tmp_path / "tiny", tmp_path / "small"
  for steps in (("hf", "t2tjax", "t2tjax"), ("t2tjax", "hf", "back")):
    printed = peak_memory.printed_by(_CONVERT_TWO, *roots, *steps)
    assert int(printed) / num_bytes < 1.5


# ------------------------------------------------ With the other commands
@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("convert")
  tiny_runs.train(root / "run", root / "prepared")
  lines = [json.dumps({"question": f"what is {i}"}) for i in range(12)]
  (root / "questions.jsonl").write_text("\n".join(lines) + "\n")
  return root / "run"


@pytest.fixture(scope="module")
def exported(run_dir):
  output = run_dir.parent / "exported"
  done = command(
    run_dir,
    "convert",
    "--from=t2tjax",
    "--to=hf",
    f"--input={run_dir}",
    f"--output={output}",
  )
  assert done.returncode == 0, done.stderr
  return output


@pytest.fixture(scope="module")
def imported(run_dir, exported):
  output = run_dir.parent / "imported"
  done = command(
    run_dir, "convert", "--from=hf", f"--input={exported}", f"--output={output}"
  )
  assert done.returncode == 0, done.stderr
  return output


def command(run_dir, module, *arguments):
  return tiny_runs.command(
    module, *arguments, prepared_dir=run_dir.parent / "prepared"
  )


def answers(run_dir, model_file, path, name):
  output = run_dir.parent / name
  done = command(
    run_dir,
    "infer",
    f"--gin_file={model_file}",
    "--gin_file=runs/infer.gin",
    f"--gin.CHECKPOINT_PATH={path}",
    f"--gin.INPUT_PATH={run_dir.parent}/questions.jsonl",
    "--gin.INPUTS='q: {question}'",
    f"--gin.OUTPUT_PATH={output}",
    f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}",
    "--gin.BATCH_SIZE=4",
    "--gin.MODE=predict_with_scores",
  )
  assert done.returncode == 0, done.stderr
  return [json.loads(line) for line in output.read_text().splitlines()]


def finetune(run_dir, model_file, path, name, *more):
  return command(
    run_dir,
    "train",
    f"--gin_file={model_file}",
    "--gin_file=runs/finetune.gin",
    f"--gin.INITIAL_CHECKPOINT_PATH={path}",
    f"--gin.MODEL_DIR={run_dir.parent / name}",
    "--gin.MIXTURE_OR_TASK_NAME=elements_qa",
    f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}",
    "--gin.TRAIN_STEPS=1",
    "--gin.STATS_PERIOD=1",
    "--gin.BATCH_SIZE=4",
    "--gin.EVAL_BATCH_SIZE=4",
    "--gin.EVAL_STEPS=1",
    "--gin.INFER_EVAL_EXAMPLES=4",
    "--gin.DROPOUT_RATE=0.0",
    *more,
  )


def test_an_export_has_config_weights_and_vocabulary(run_dir, exported):
  assert sorted(path.name for path in exported.iterdir()) == [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "spiece.model",
    "tokenizer_config.json",
  ]
  bundle = pathlib.Path(__file__).parents[1] / "tasks" / "bundle"
  assert filecmp.cmp(
    exported / "spiece.model", bundle / "en_es_4k.model", shallow=False
  )
  fields = json.loads((exported / "tokenizer_config.json").read_text())
  assert fields["extra_ids"] == 100


def test_a_run_its_export_and_its_import_answer_alike(
  run_dir, exported, imported
):
  own_file = run_dir / "model.gin"
  expected = answers(run_dir, own_file, run_dir, "a.jsonl")
  assert answers(run_dir, own_file, exported, "b.jsonl") == expected
  scanned = answers(run_dir, imported / "model.gin", imported, "c.jsonl")
  direct = answers(run_dir, imported / "model.gin", exported, "d.jsonl")
  assert scanned == direct
  assert len(expected) == len(scanned) == 12


def test_an_import_is_evaluated_like_a_run(run_dir, imported):
  done = command(
    run_dir,
    "evaluate",
    f"--gin_file={imported}/model.gin",
    "--gin_file=runs/eval.gin",
    f"--gin.CHECKPOINT_PATH={imported}",
    f"--gin.OUTPUT_DIR={run_dir.parent}/evaluation",
    "--gin.MIXTURE_OR_TASK_NAME=elements_qa",
    f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}",
    "--gin.EVAL_STEPS=1",
    "--gin.INFER_EVAL_EXAMPLES=4",
    "--gin.EVAL_BATCH_SIZE=4",
  )
  assert done.returncode == 0, done.stderr


def test_training_starts_from_a_directory_of_transformers(run_dir, exported):
  model_file = run_dir / "model.gin"
  losses = []
  for path in (exported, run_dir / "checkpoint_4"):
    done = finetune(run_dir, model_file, path, f"tuned_{path.name}")
    assert done.returncode == 0, done.stderr
    log = run_dir.parent / f"tuned_{path.name}" / "metrics.jsonl"
    losses.append(
      [
        {k: v for k, v in json.loads(line).items() if "loss" in k}
        for line in log.read_text().splitlines()
      ]
    )
  assert losses[0] == losses[1]
  assert any(losses[0])


def test_another_size_stops_a_start_with_the_bindings(run_dir, exported):
  done = finetune(
    run_dir,
    run_dir / "model.gin",
    exported,
    "wrong",
    "--gin.networks.T5Config.emb_dim=48",
  )
  assert done.returncode == 2
  assert "networks.T5Config.emb_dim = 48; the checkpoint has 32" in done.stderr


def test_another_vocabulary_stops_a_start(run_dir, exported):
  other = run_dir.parent / "other"
  shutil.copytree(exported, other)
  settings = {"tokenizer_class": "ByT5Tokenizer"}
  (other / "tokenizer_config.json").write_text(json.dumps(settings))
  done = command(
    run_dir,
    "evaluate",
    f"--gin_file={run_dir}/model.gin",
    "--gin_file=runs/eval.gin",
    f"--gin.CHECKPOINT_PATH={other}",
    f"--gin.OUTPUT_DIR={run_dir.parent}/none",
    "--gin.MIXTURE_OR_TASK_NAME=elements_qa",
    f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}",
  )
  assert done.returncode == 2
  assert "comes with the vocabulary bytes:125" in done.stderr
