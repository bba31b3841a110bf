"""Bucketed batches give what plain batches do, in the order of the inputs."""

import json

import jax
import numpy as np
import pytest

from t2tjax import data, inference, models, networks, partitioning
from t2tjax.data import layouts
from t2tjax.evaluation import evaluator
from t2tjax.inference import texts
from t2tjax.state import train_state

VOCABULARY = data.ByteVocabulary()
LENGTHS = {"inputs": 48, "targets": 12}
SIZES = dict(
  vocab_size=VOCABULARY.vocab_size,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=32,
)


def make_model(kind):
  if kind == "encoder_decoder":
    config = networks.T5Config(
      **SIZES, num_encoder_layers=1, num_decoder_layers=1
    )
    return models.EncoderDecoderModel(
      module=networks.EncoderDecoder(config),
      input_vocabulary=VOCABULARY,
      output_vocabulary=VOCABULARY,
      optimizer_def=None,
    )
  config = networks.DecoderOnlyConfig(**SIZES, num_layers=1)
  return models.DecoderOnlyModel(
    module=networks.DecoderOnly(config),
    vocabulary=VOCABULARY,
    optimizer_def=None,
    inputs_bidirectional_attention=True,
  )


@pytest.fixture(scope="module", params=["encoder_decoder", "decoder_only"])
def trained(request):
  model = make_model(request.param)
  spec = layouts.make_layout(request.param, LENGTHS, pack=False).batch_spec(2)
  boxed = model.init_params(jax.random.key(0), spec)
  return model, train_state.unbox(boxed)


def random_inputs(count):
  rng = np.random.default_rng(1)
  return [
    {
      name: np.append(rng.integers(3, 250, rng.integers(1, most)), 1).astype(
        np.int32
      )
      for name, most in LENGTHS.items()
    }
    for _ in range(count)
  ]


def run(trained, inputs, mode, num_devices=1):
  model, params = trained
  partitioner = partitioning.Partitioner(devices=jax.devices()[:num_devices])
  with partitioner.activate():
    text_model = inference.TextModel(
      model,
      params,
      partitioner,
      mode=mode,
      batch_size=4,
      feature_lengths=LENGTHS,
    )
    groups = [("a", inputs[:7]), ("none", []), ("b", inputs[7:])]
    found = dict(text_model.run(groups))
  assert list(found) == ["a", "none", "b"] and found["none"] == []
  return found["a"] + found["b"]


def plain_batch(model, inputs):
  layout = layouts.make_layout(model.feature_layout, LENGTHS, pack=False)
  return layout.assemble([[tokens] for tokens in inputs])


def test_predictions_are_those_of_plain_batches(trained):
  model, params = trained
  inputs = random_inputs(11)
  tokens, aux = model.predict_batch_with_aux(
    params, plain_batch(model, inputs), max_decode_steps=LENGTHS["targets"]
  )
  found = run(trained, inputs, "predict_with_scores")
  expected = evaluator.decode(VOCABULARY, np.asarray(tokens))
  assert [line["prediction"] for line in found] == expected
  np.testing.assert_allclose(
    [line["score"] for line in found], aux["scores"], rtol=1e-4
  )
  assert run(trained, inputs, "predict") == [
    {"prediction": t} for t in expected
  ]


@pytest.mark.parametrize("num_devices", [1, 4])
def test_scores_are_those_of_the_evaluator(trained, num_devices):
  model, params = trained
  inputs = random_inputs(11)
  expected = model.score_batch(params, plain_batch(model, inputs))
  found = run(trained, inputs, "score", num_devices)
  np.testing.assert_allclose(
    [line["score"] for line in found], expected, rtol=1e-4
  )


def test_a_length_goes_to_the_next_power_of_two_up_to_the_longest():
  found = [texts.bucket(n, 100) for n in (1, 16, 17, 33, 64, 65, 100)]
  assert found == [16, 16, 32, 64, 64, 100, 100]


def read(path, content, *, targets=False, **settings):
  path.write_bytes(content)
  source = inference.FileInputs(path=str(path), **settings)
  model = make_model("encoder_decoder")
  good, bad = [], []
  for line in source.lines():
    try:
      good.append(source.parse(line, model, targets=targets))
    except ValueError as error:
      bad.append((line.place["line"], str(error)))
  return good, bad


@pytest.mark.parametrize(
  "line, reason",
  [
    (b"{", "not JSON"),
    (b"[1]", "not a JSON object"),
    (b"", "is empty"),
    (b'{"x": "a"}', "column 'inputs' is missing"),
    (b'{"inputs": null}', "holds NoneType"),
    (b'{"inputs": "  "}', "the inputs are empty"),
    (b'{"inputs": "\xff"}', "not UTF-8"),
    (b'{"inputs": "\\ud800"}', "half a character"),
    (b'{"inputs": ' + b"9" * 5000 + b"}", "out of range"),
    (b"[" * 100_000, "deeply"),
  ],
)
def test_a_bad_line_is_set_aside_with_its_number_and_reason(
  tmp_path, line, reason
):
  content = b'{"inputs": "a"}\n' + line + b'\n{"inputs": "b"}\n'
  good, bad = read(tmp_path / "in.jsonl", content)
  assert [found.fields["inputs"] for found in good] == ["a", "b"]
  ((number, told),) = bad
  assert number == 2 and reason in told


def test_tables_and_text_are_read_by_the_ending_of_their_names(tmp_path):
  good, bad = read(
    tmp_path / "in.csv", b'\xef\xbb\xbfinputs,n\n"a\nb",1\nc\nd,2\n', keep=["n"]
  )
  assert [f.fields for f in good] == [
    {"line": 2, "n": "1", "inputs": "a\nb"},
    {"line": 5, "n": "2", "inputs": "d"},
  ]
  assert [number for number, _ in bad] == [4]
  good, _ = read(
    tmp_path / "in.tsv", b"q\tinputs\nx\ty\n", inputs="{q} {inputs}"
  )
  assert good[0].fields["inputs"] == "x y"
  good, bad = read(tmp_path / "in.txt", b"one\r\n\ntwo", inputs="q: {inputs}")
  assert [f.fields["inputs"] for f in good] == ["q: one", "q: two"]
  assert len(bad) == 1
  with pytest.raises(ValueError, match="FileInputs.format"):
    read(tmp_path / "in.xyz", b"a")


def test_a_misspelt_column_is_told_before_the_work_starts(tmp_path):
  path = tmp_path / "in.jsonl"
  path.write_text('{"question": "a"}\n' * 3)
  source = inference.FileInputs(path=str(path), inputs="quest")
  with pytest.raises(ValueError, match="INPUTS"):
    source.check(targets=False)
  with pytest.raises(ValueError, match="TARGETS"):
    source.check(targets=True)


def test_a_job_joins_only_whole_and_only_its_own_chunks(tmp_path):
  job = inference.Job(tmp_path / "out.jsonl", {"mode": "predict"})
  job.open()
  job.write(1, [{"n": 2}], [], 0)
  assert job.join(2) is None and not job.output.exists()
  job.write(0, [{"n": 0}, {"n": 1}], [{"line": 3, "reason": "x"}], 1)
  counts = {"predictions": 3, "rejected": 1, "truncated": 1}
  assert job.join(2) == counts == job.join(2)
  lines = job.output.read_text().splitlines()
  assert [json.loads(line)["n"] for line in lines] == [0, 1, 2]
  with pytest.raises(ValueError, match="another mode"):
    inference.Job(tmp_path / "out.jsonl", {"mode": "score"}).open()
