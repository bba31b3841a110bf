"""Exported directories answer as the model does, without t2tjax."""

import json
import os
import pathlib
import subprocess
import sys

import huggingface_models
import jax.export
import numpy as np
import pytest

import t2tjax
from t2tjax import data, export, models, networks, partitioning
from t2tjax.data import layouts
from t2tjax.export import __main__ as command
from t2tjax.export import functions
from t2tjax.inference import loaded as loaded_lib

TEXTS = ["gold", "What is the symbol of iron?", "", "a b c", "helium " * 3]
TARGETS = ["Au", "Fe", "nothing at all", "", "He"]
SMALL = {"input_lengths": [32, 64], "target_lengths": [16]}

_CLIENT = """
import importlib.util, json, sys
where, calls = sys.argv[1], json.loads(sys.argv[2])
spec = importlib.util.spec_from_file_location("predict", where + "/predict.py")
predict = importlib.util.module_from_spec(spec)
spec.loader.exec_module(predict)
model = predict.load(where)
found = [
  getattr(model, name)(*arguments, **settings)
  for name, arguments, settings in calls
]
found = [x if isinstance(x, list) else x.tolist() for x in found]
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"t2tjax", "flax", "tensorflow"}, loaded
print(json.dumps(found))
"""


def answers(directory, *calls):
  """Calls the loader in a process that never sees t2tjax."""
  done = subprocess.run(
    [sys.executable, "-c", _CLIENT, str(directory), json.dumps(calls)],
    capture_output=True,
    text=True,
    cwd="/",
    env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """Reads bytes; random, so that its answers are long."""
  directory = tmp_path_factory.mktemp("hf")
  huggingface_models.make(directory, "t5_1_1", vocab_size=300)
  return t2tjax.load(directory, vocabulary=data.ByteVocabulary())


def test_greedy_predictions_and_scores_are_those_of_the_model(model, tmp_path):
  directory = export.export(model, tmp_path / "out", max_new_tokens=9, **SMALL)
  *found, scores = answers(
    directory,
    *(("predict", [TEXTS], {"batch_size": size}) for size in (1, 3, 8)),
    ("score", [TEXTS, TARGETS], {}),
  )
  want = model.predict(TEXTS, max_new_tokens=9)
  assert len(set(want)) > 1
  for texts in found:
    assert texts == want
  np.testing.assert_allclose(scores, model.score(TEXTS, TARGETS), rtol=1e-5)


@pytest.mark.parametrize(
  "settings",
  [
    {"num_beams": 3},
    {"num_beams": 2, "alpha": 0.6},
    {"temperature": 1.0, "top_k": 20},
  ],
  ids=["beams", "beams of T5X", "sampling"],
)
def test_beams_and_samples_are_those_of_the_model(model, tmp_path, settings):
  directory = export.export(
    model,
    tmp_path / "out",
    max_new_tokens=6,
    input_lengths=[32],
    target_lengths=[],
    **settings,
  )
  calls = [("predict", [TEXTS], {"seed": 3, "batch_size": n}) for n in (2, 32)]
  for (_, _, how), found in zip(calls, answers(directory, *calls), strict=True):
    assert found == model.predict(TEXTS, max_new_tokens=6, **settings, **how)


def test_a_decoder_only_model_answers_alike(tmp_path):
  config = networks.DecoderOnlyConfig(
    vocab_size=300,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_layers=2,
  )
  model = models.DecoderOnlyModel(
    module=networks.DecoderOnly(config),
    vocabulary=data.ByteVocabulary(),
    optimizer_def=None,
    inputs_bidirectional_attention=True,
  )
  spec = layouts.make_layout(
    "decoder_only", {"inputs": 8, "targets": 8}, pack=False
  ).batch_spec(1)
  params = jax.tree.map(
    lambda leaf: leaf.unbox(),
    model.init_params(jax.random.key(1), spec),
    is_leaf=lambda leaf: hasattr(leaf, "unbox"),
  )
  loaded = loaded_lib.LoadedModel(
    model,
    params,
    partitioning.Partitioner(devices=jax.local_devices()[:1]),
    path="random",
    step=0,
    description="random",
  )
  directory = export.export(loaded, tmp_path / "out", max_new_tokens=5, **SMALL)
  texts, scores = answers(
    directory, ("predict", [TEXTS], {}), ("score", [TEXTS, TARGETS], {})
  )
  assert texts == loaded.predict(TEXTS, max_new_tokens=5)
  np.testing.assert_allclose(scores, loaded.score(TEXTS, TARGETS), rtol=1e-5)


def test_the_command_exports_a_sentencepiece_model_for_all_platforms(
  tmp_path, capsys
):
  source, output = tmp_path / "hf", tmp_path / "out"
  source.mkdir()
  vocabulary = data.SentencePieceVocabulary("bundle/en_es_4k.model")
  rows = vocabulary.vocab_size + 100
  huggingface_models.make(source, "t5_1_1", vocab_size=rows)
  arguments = [
    f"--input={source}",
    f"--output={output}",
    f"--vocabulary={vocabulary.path}",
    "--input_lengths=32",
    "--target_lengths=16",
    "--max_new_tokens=7",
  ]
  command.main(t2tjax.load, arguments)
  assert "Written to" in capsys.readouterr().out
  for file in (output / "functions").iterdir():
    function = jax.export.deserialize(bytearray(file.read_bytes()))
    assert set(function.platforms) == {"cpu", "cuda", "tpu"}
    assert str(function.in_avals[-2].shape[0]) == "batch" or (
      str(function.in_avals[-1].shape[0]) == "batch"
    )
  model = t2tjax.load(source, vocabulary=vocabulary.path)
  done = subprocess.run(
    [sys.executable, output / "predict.py", *TEXTS[:2]],
    capture_output=True,
    text=True,
    check=True,
    cwd="/",
    timeout=300,
  )
  want = model.predict(TEXTS[:2], max_new_tokens=7)
  assert done.stdout == "".join(text + "\n" for text in want)
  (scores,) = answers(output, ("score", [TEXTS, TARGETS], {}))
  np.testing.assert_allclose(scores, model.score(TEXTS, TARGETS), rtol=1e-5)
  # What is there stays.
  with pytest.raises(SystemExit):
    command.main(t2tjax.load, arguments)
  assert "exists already" in capsys.readouterr().err


def test_mistakes_are_said_and_nothing_is_left(model, tmp_path):
  output = tmp_path / "out"
  with pytest.raises(ValueError, match="at least 1"):
    export.export(model, output, input_lengths=[])
  with pytest.raises(ValueError, match="set one of them"):
    export.export(model, output, num_beams=2, temperature=1.0)
  source = tmp_path / "hf"
  source.mkdir()
  huggingface_models.make(source, "t5_1_1")
  with pytest.raises(ValueError, match="--vocabulary"):
    export.export(t2tjax.load(source), output)
  assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_the_loader_is_short():
  loader = pathlib.Path(functions.__file__).with_name("predict.py")
  assert len(loader.read_text().splitlines()) < 100
