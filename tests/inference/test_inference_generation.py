"""Constraints by `generate`, by `predict` and by gin, on a whole model."""

import huggingface_models
import numpy as np
import pytest

import t2tjax
from t2tjax import config, data, decoding, partitioning
from t2tjax.inference import generation

ROWS = [[5, 9, 1], [7, 8, 6, 20, 31, 1], [3, 1]]
STEPS = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  directory = tmp_path_factory.mktemp("hf")
  huggingface_models.make(directory, "t5_1_1")
  return t2tjax.load(directory)


def greedy(model, row, rule):
  """Reads everything again at each step; the rule sees what was read."""
  read = [0]
  while len(read) <= STEPS:
    logits = model.logits([row], [read])[0, -1]
    read.append(int(np.argmax(rule(logits.copy(), read))))
    if read[-1] == 1:
      break
  return read[1:] + [0] * (STEPS + 1 - len(read))


def test_generate_constrains_as_a_loop_over_whole_forward_passes(model):
  def rule(logits, read):
    seen = list(set(read))
    logits[seen] = np.where(
      logits[seen] < 0, logits[seen] * 1.4, logits[seen] / 1.4
    )
    pairs = zip(read, read[1:], strict=False)
    logits[[b for a, b in pairs if a == read[-1]]] = -np.inf
    if len(read) < 6:
      logits[1] = -np.inf
    return logits

  tokens = model.generate(
    ROWS,
    max_new_tokens=STEPS,
    repetition_penalty=1.4,
    no_repeat_ngram_size=2,
    min_new_tokens=5,
  )
  plain = model.generate(ROWS, max_new_tokens=STEPS)
  assert np.any(tokens != plain)
  for row, got in zip(ROWS, tokens, strict=True):
    np.testing.assert_array_equal(got, greedy(model, row, rule))


@pytest.mark.parametrize(
  "settings", [{}, {"num_beams": 3}, {"temperature": 1.0}]
)
def test_each_row_begins_with_its_forced_prefix(model, settings):
  prefix = [[4, 4, 9], [30], []]
  tokens = model.generate(
    ROWS, max_new_tokens=STEPS, forced_prefix=prefix, **settings
  )
  for row, forced in zip(tokens.tolist(), prefix, strict=True):
    assert row[: len(forced)] == forced
  other = model.generate(
    ROWS, max_new_tokens=STEPS, forced_prefix=[[6], [6], [6]], **settings
  )
  assert np.all(other[:, 0] == 6)
  if settings.get("temperature"):
    return
  # Without a prefix it is what it would have been; with one, what follows it.
  free = model.generate(ROWS, max_new_tokens=STEPS, **settings)
  np.testing.assert_array_equal(tokens[2], free[2])
  if not settings:
    want = greedy(
      model,
      ROWS[0],
      lambda logits, read: (
        np.eye(logits.size)[prefix[0][len(read) - 1]]
        if len(read) <= 3
        else logits
      ),
    )
    np.testing.assert_array_equal(tokens[0], want)


def test_a_python_function_allows_tokens_by_input(model):
  asked = set()

  def allowed(index, read):
    asked.add(index)
    return [1, *range(10 * index + 4, 10 * index + 9)]

  tokens = model.generate(
    ROWS,
    max_new_tokens=STEPS,
    num_beams=2,
    num_return_sequences=2,
    prefix_allowed_tokens_fn=allowed,
  )
  assert asked == {0, 1, 2}
  for index, found in enumerate(tokens):
    used = set(found.reshape(-1).tolist()) - {0, 1}
    assert used and used <= set(range(10 * index + 4, 10 * index + 9))
  # Of another batch, another number of rows is asked about.
  asked.clear()
  model.generate(
    ROWS[:2], max_new_tokens=STEPS, prefix_allowed_tokens_fn=allowed
  )
  assert asked == {0, 1}


def test_constraints_hold_on_rows_spread_over_devices(model, tmp_path):
  huggingface_models.make(tmp_path, "t5_1_1")
  spread = t2tjax.load(tmp_path, partitioner=partitioning.Partitioner())
  settings = dict(
    max_new_tokens=STEPS,
    num_beams=2,
    no_repeat_ngram_size=2,
    forced_prefix=[[4], [5], [6]],
    prefix_allowed_tokens_fn=lambda i, read: [1, *range(4 + i, 40, 2)],
  )
  np.testing.assert_array_equal(
    spread.generate(ROWS, **settings), model.generate(ROWS, **settings)
  )


@pytest.mark.parametrize(
  "prefix, message",
  [
    ([[3], [3]], "Unequal numbers of rows: encoder_tokens 3, forced_prefix 2"),
    ([[3], [3], [3] * 9], "forced_prefix is longer than max_new_tokens = 8"),
    ([[3], [3], [400]], "forced_prefix has the id 400"),
  ],
)
def test_a_wrong_prefix_is_refused(model, prefix, message):
  with pytest.raises(ValueError, match=message):
    model.generate(ROWS, max_new_tokens=STEPS, forced_prefix=prefix)


def test_settings_without_constraints_apply_no_processor():
  for settings in ({}, {"num_beams": 2}, {"temperature": 1.0}):
    function = generation.Generation(**settings).decode_fn()
    assert "logits_processors" not in function.keywords


def test_predict_forces_the_beginning_of_every_answer(tmp_path):
  huggingface_models.make(tmp_path, "byt5", vocab_size=384)
  model = t2tjax.load(tmp_path, vocabulary=data.ByteVocabulary(125))
  answers = model.predict(
    ["ab", "a longer text"],
    max_new_tokens=9,
    forced_prefix="Yes, ",
    logits_processors=[decoding.AllowedTokens([ord("x") + 3])],
  )
  assert answers == ["Yes, xxxx"] * 2


def test_gin_binds_processors_to_a_decoding_function(model, tmp_path):
  (tmp_path / "decode.gin").write_text(
    """
from __gin__ import dynamic_registration
from t2tjax import decoding
decoding.greedy_decode.logits_processors = [
    @decoding.RepetitionPenalty(), @decoding.AllowedTokens(),
    @decoding.MinNewTokens(), @decoding.ForcedPrefix()]
decoding.RepetitionPenalty.penalty = 1.2
decoding.AllowedTokens.tokens = [1, 11, 12, 13]
decoding.MinNewTokens.count = 6
decoding.ForcedPrefix.tokens = (12, 13)
"""
  )

  def decode(decode_fn):
    return model.model.with_decode_fn(decode_fn).predict_batch(
      model.params, model._batch(ROWS, [[1]] * 3), max_decode_steps=STEPS
    )

  tokens = config.load(
    decode,
    [str(tmp_path / "decode.gin")],
    ["decode.decode_fn=@decoding.greedy_decode"],
  ).run()
  want = model.generate(
    ROWS,
    max_new_tokens=STEPS,
    forced_prefix=[[12, 13]] * 3,
    repetition_penalty=1.2,
    min_new_tokens=6,
    logits_processors=[decoding.AllowedTokens([1, 11, 12, 13])],
  )
  np.testing.assert_array_equal(tokens[:3], want)
