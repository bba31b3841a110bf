"""Loading models of every kind, and what they say when something is missing."""

import json

import huggingface_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs

import t2tjax
from t2tjax import (
  checkpoint,
  convert,
  data,
  decoding,
  networks,
  partitioning,
)
from t2tjax.inference import loaded

ROWS = [[5, 9, 1], [7, 8, 6, 20, 31, 1], [3, 1]]
# Logits within 2e-5 of their range, about 10.
_CLOSE = dict(rtol=0, atol=1e-4)
TARGETS = [[4, 1], [11, 12, 13, 1], [2, 9, 8, 7, 1]]


@pytest.fixture(scope="module")
def hf_directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp("hf")
  huggingface_models.make(directory, "t5_1_1")
  return directory


@pytest.fixture(scope="module")
def model(hf_directory):
  return t2tjax.load(hf_directory)


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
  prepared = tmp_path_factory.mktemp("prepared")
  directory = tmp_path_factory.mktemp("run") / "model"
  tiny_runs.train(directory, prepared)
  return directory


def pad(rows, length, value=0):
  return np.array([row + [value] * (length - len(row)) for row in rows])


def reference_loss(model, rows, targets):
  """From logits of one row at a time, none of it padded."""
  total, count = 0.0, 0
  for row, target in zip(rows, targets, strict=True):
    logits = model.model.module.apply(
      {"params": model.params},
      jnp.array([row]),
      jnp.array([[0, *target[:-1]]]),
    )
    log_probs = jax.nn.log_softmax(logits[0])
    total -= float(sum(log_probs[i, t] for i, t in enumerate(target)))
    count += len(target)
  return total / count


def test_a_loaded_model_says_what_it_is(model, hf_directory):
  text = repr(model)
  assert str(hf_directory) in text and "Hugging Face t5" in text
  assert "EncoderDecoder: 2 + 2 layers, embedding 16" in text
  assert "no vocabulary" in text
  assert isinstance(model.config, networks.T5Config)


def test_logits_do_not_depend_on_how_rows_are_padded(model):
  read = [[0, *row[:-1]] for row in TARGETS]
  ragged = model.logits(ROWS, read)
  assert ragged.shape == (3, 5, 40) and ragged.dtype == np.float32
  wide = model.logits(pad(ROWS, 33), pad(read, 5))
  np.testing.assert_allclose(wide, ragged, **_CLOSE)
  want = model.model.module.apply(
    {"params": model.params}, jnp.array([ROWS[1]]), jnp.array([read[1]])
  )
  np.testing.assert_allclose(ragged[1, :4], want[0], **_CLOSE)
  alone = model.logits([ROWS[0]], [read[0]])
  np.testing.assert_allclose(alone[0], ragged[0, :2], **_CLOSE)


def test_loss_is_the_mean_over_real_targets(model):
  want = reference_loss(model, ROWS, TARGETS)
  np.testing.assert_allclose(model.loss(ROWS, TARGETS), want, rtol=1e-5)
  ignored = pad(TARGETS, 9, -100)
  np.testing.assert_allclose(model.loss(ROWS, ignored), want, rtol=1e-5)
  np.testing.assert_allclose(
    model.loss(pad(ROWS, 20), pad(TARGETS, 9)), want, rtol=1e-5
  )


def test_generated_rows_are_alike_alone_and_in_a_batch(model):
  for settings in ({}, {"num_beams": 3}, {"num_beams": 2, "alpha": 0.6}):
    together = model.generate(ROWS, max_new_tokens=9, **settings)
    assert together.shape == (3, 9)
    for i, row in enumerate(ROWS):
      alone = model.generate([row], max_new_tokens=9, **settings)
      np.testing.assert_array_equal(alone[0], together[i])


def test_generate_gives_as_many_rows_as_asked_best_first(model):
  tokens, scores = model.generate(
    ROWS,
    max_new_tokens=6,
    num_beams=4,
    num_return_sequences=3,
    return_scores=True,
  )
  assert tokens.shape == (3, 3, 6) and scores.shape == (3, 3)
  assert np.all(np.diff(scores) <= 0)
  samples = model.generate(
    ROWS, max_new_tokens=6, temperature=1.0, num_return_sequences=2, seed=3
  )
  again = model.generate(
    ROWS, max_new_tokens=6, temperature=1.0, num_return_sequences=2, seed=3
  )
  np.testing.assert_array_equal(samples, again)
  other = model.generate(
    ROWS, max_new_tokens=6, temperature=1.0, num_return_sequences=2, seed=4
  )
  assert np.any(samples != other)


def test_a_shape_is_compiled_once(hf_directory):
  fresh = t2tjax.load(hf_directory)
  for rows in (ROWS, pad(ROWS, 16), ROWS[:3]):
    fresh.loss(rows, TARGETS)
  assert fresh._programs["loss"]._cache_size() == 1


def test_devices_change_nothing(model, hf_directory):
  spread = t2tjax.load(
    hf_directory,
    partitioner=partitioning.Partitioner(
      preset="tensor", mesh_shape={"data": 4, "model": 2}
    ),
  )
  np.testing.assert_allclose(
    spread.loss(ROWS, TARGETS), model.loss(ROWS, TARGETS), rtol=1e-5
  )
  for settings in ({}, {"num_beams": 4}, {"num_beams": 4, "alpha": 0.6}):
    np.testing.assert_array_equal(
      spread.generate(ROWS, max_new_tokens=8, **settings),
      model.generate(ROWS, max_new_tokens=8, **settings),
    )


def test_bfloat16_halves_the_parameters(hf_directory, model):
  half = t2tjax.load(hf_directory, dtype="bfloat16")
  leaves = jax.tree.leaves(half.params)
  assert {leaf.dtype.name for leaf in leaves} == {"bfloat16"}
  assert half.config.dtype == "bfloat16"
  assert half.logits(ROWS, [[0]] * 3).dtype == np.float32


def test_a_t5x_checkpoint_gives_the_same_logits(tmp_path, hf_directory, model):
  convert.convert(
    source_format="hf",
    target_format="t5x",
    input_path=str(hf_directory),
    output_path=str(tmp_path / "t5x"),
  )
  loaded = t2tjax.load(tmp_path / "t5x")
  assert "T5X" in repr(loaded)
  tokens, shifted = [[5, 6, 7, 1], [9, 1]], [[0, 4, 5], [0, 8, 2]]
  np.testing.assert_array_equal(
    loaded.logits(tokens, shifted), model.logits(tokens, shifted)
  )


def test_without_a_vocabulary_texts_are_refused_and_it_says_why(model):
  with pytest.raises(ValueError, match=r"load\(\.\.\., vocabulary=FILE\)"):
    model.predict(["a"])
  with pytest.raises(ValueError, match="Methods on\n? ?tokens work"):
    model.score(["a"], ["b"])


def test_byt5_speaks_text_without_a_file(tmp_path):
  huggingface_models.make(tmp_path, "byt5", vocab_size=384)
  model = t2tjax.load(tmp_path, vocabulary=data.ByteVocabulary(125))
  answers = model.predict(["ab", "a longer text"], max_new_tokens=5)
  tokens = model.generate(
    [[100, 101, 1], [*(ord(c) + 3 for c in "a longer text"), 1]],
    max_new_tokens=5,
  )
  assert answers == [data.ByteVocabulary().decode(row) for row in tokens]
  (score,) = model.score(["ab"], ["c"])
  want = -model.loss([[100, 101, 1]], [[102, 1]]) * 2
  np.testing.assert_allclose(score, want, rtol=1e-5)
  assert model.predict([]) == []


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda m: m.loss(ROWS, TARGETS[:2]), "encoder_tokens 3, target_tokens 2"),
    (lambda m: m.loss([[40]], [[1]]), "has the id 40; the network has ids 0"),
    (lambda m: m.loss([[3]], [[-100]]), "no real target"),
    (lambda m: m.logits([[0.5]], [[0]]), "must be integers"),
    (lambda m: m.generate([]), "encoder_tokens has no rows"),
    (lambda m: m.generate([[1]], num_beams=0), "num_beams = 0"),
    (lambda m: m.generate([[1]], top_k=3), "set temperature"),
    (
      lambda m: m.generate([[1]], num_beams=2, temperature=1.0),
      "set one of them",
    ),
    (
      lambda m: m.generate([[1]], num_return_sequences=2),
      "needs num_beams of at least that",
    ),
    (lambda m: m.predict("text"), "Give a list of texts"),
  ],
)
def test_mistakes_name_the_argument(model, call, message):
  with pytest.raises(ValueError, match=message):
    call(model)


def test_what_is_no_model_is_refused(tmp_path, hf_directory):
  with pytest.raises(ValueError, match="has no model.gin"):
    t2tjax.load(tmp_path)
  with pytest.raises(ValueError, match="there is no directory"):
    t2tjax.load(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="dtype"):
    t2tjax.load(hf_directory, dtype="int3")
  with pytest.raises(AttributeError, match="no attribute 'lod'"):
    t2tjax.lod  # noqa: B018


def test_a_run_predicts_as_infer_would_and_scores_its_own_answer(run_directory):
  model = t2tjax.load(run_directory)
  assert model.step == 4 and "checkpoint_4" in repr(model)
  texts = ["question: What is the symbol of iron?", "question: Who?"]
  answers = model.predict(texts, max_new_tokens=8)
  vocabulary = model.model.output_vocabulary
  rows = [[*vocabulary.encode(text), 1] for text in texts]
  tokens = model.generate(rows, max_new_tokens=8)
  assert answers == [vocabulary.decode(row.tolist()) for row in tokens]
  scores = model.score(texts, ["iron", "nobody"])
  for row, target, score in zip(rows, ["iron", "nobody"], scores, strict=True):
    target = [*vocabulary.encode(target), 1]
    want = -model.loss([row], [target]) * len(target)
    np.testing.assert_allclose(score, want, rtol=1e-4)
  beams = model.predict(texts, max_new_tokens=8, num_beams=3)
  tokens = model.generate(rows, max_new_tokens=8, num_beams=3)
  assert beams == [vocabulary.decode(row.tolist()) for row in tokens]


def test_one_checkpoint_of_a_run_is_loaded_by_its_directory(run_directory):
  model = t2tjax.load(run_directory / "checkpoint_2")
  assert model.step == 2


def test_a_decoder_only_run_generates_after_its_prompt(tmp_path):
  config = networks.DecoderOnlyConfig(
    vocab_size=384,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_layers=1,
  )
  tokens = jnp.ones((1, 4), jnp.int32)
  params = networks.DecoderOnly(config).init(jax.random.key(0), tokens)
  params = jax.tree.map(
    lambda box: box.value * 2,
    params["params"],
    is_leaf=lambda x: hasattr(x, "value"),
  )
  with checkpoint.Checkpointer(
    tmp_path, checkpoint.SaveCheckpointConfig()
  ) as saver:
    saver.save(3, {"step": jnp.int32(3), "params": params})
  model = t2tjax.load(tmp_path, config=config, vocabulary=data.ByteVocabulary())
  prompts = [[50, 60, 70], [80, 1]]
  made = model.generate(prompts, max_new_tokens=4)
  for prompt, row in zip(prompts, made, strict=True):
    read = [0, *prompt]
    for token in row:
      logits = model.logits(None, [read])
      assert token == logits[0, -1].argmax()
      read.append(int(token))
  beams = model.generate(prompts, max_new_tokens=4, num_beams=3)
  assert beams.shape == (2, 4)
  with pytest.raises(ValueError, match="has no encoder"):
    model.logits(prompts, prompts)
  assert len(model.predict(["ab"], max_new_tokens=3)) == 1


def test_without_settings_a_model_decodes_as_it_was_configured(hf_directory):
  model = t2tjax.load(hf_directory)
  search = loaded.Generation(num_beams=4).decode_fn()
  configured = model.model.with_decode_fn(search)
  batch = model._batch(ROWS, [[1]] * 3)
  tokens = configured.predict_batch(model.params, batch, max_decode_steps=6)
  want = model.generate(ROWS, max_new_tokens=6, num_beams=4)
  np.testing.assert_array_equal(tokens[:3], want)
  assert model.model._decode_fn is decoding.greedy_decode
  assert json.dumps(np.asarray(tokens).tolist())
