"""Decoding over a table of transition probabilities, known in full."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import decoding
from t2tjax.decoding import sampling

EOS = 1


def markov(seed, vocab=5):
  """A model whose next token depends on the last one and the row's id."""
  table = np.random.default_rng(seed).normal(size=(3, vocab, vocab)) * 2
  table = jnp.asarray(table, jnp.float32)

  def tokens_to_logits(tokens, position, cache):
    steps = cache["steps"] + 1
    return table[cache["row"], tokens], {"row": cache["row"], "steps": steps}

  return table, tokens_to_logits


def decode(function, tokens_to_logits, row_ids, steps=6, limits=None, **kwargs):
  rows = len(row_ids)
  num_decodes = kwargs.pop("num_decodes", 1)
  if limits is None:
    limits = [steps] * rows
  cache = {
    "row": jnp.repeat(jnp.asarray(row_ids), num_decodes),
    "steps": jnp.zeros((rows * num_decodes,), jnp.int32),
  }
  return function(
    tokens_to_logits,
    cache,
    first_tokens=jnp.zeros((rows * num_decodes,), jnp.int32),
    first_position=jnp.int32(0),
    num_steps=steps,
    limits=jnp.repeat(jnp.asarray(limits, jnp.int32), num_decodes),
    eos_id=EOS,
    num_decodes=num_decodes,
    **kwargs,
  )


def reference_greedy(table, row, steps):
  token, tokens, score = 0, [], 0.0
  log_probs = jax.nn.log_softmax(table, axis=-1)
  for _ in range(steps):
    logits = np.asarray(table[row, token])
    score += float(log_probs[row, token, logits.argmax()])
    token = int(logits.argmax())
    tokens.append(token)
    if token == EOS:
      break
  return tokens + [0] * (steps - len(tokens)), score


@pytest.mark.parametrize("seed", range(4))
def test_greedy_equals_a_python_loop(seed):
  table, step = markov(seed)
  decoded = decode(decoding.greedy_decode, step, [0, 1, 2])
  for row in range(3):
    tokens, score = reference_greedy(table, row, 6)
    np.testing.assert_array_equal(decoded.tokens[row, 0], tokens)
    np.testing.assert_allclose(decoded.scores[row, 0], score, rtol=1e-5)


def test_the_loop_ends_when_all_rows_have_ended():
  calls = []

  def step(tokens, position, cache):
    jax.debug.callback(lambda p: calls.append(int(p)), position)
    # Row i ends after i + 1 tokens.
    ends = (position >= jnp.arange(3))[:, None]
    return jnp.where(ends, jnp.eye(4)[EOS], jnp.eye(4)[2]), cache

  decoded = decode(decoding.greedy_decode, step, [0, 1, 2], steps=50)
  jax.effects_barrier()
  assert calls == [0, 1, 2]
  np.testing.assert_array_equal(
    decoded.tokens[:, 0, :4], [[1, 0, 0, 0], [2, 1, 0, 0], [2, 2, 1, 0]]
  )


def test_each_row_has_its_own_limit():
  def step(tokens, position, cache):
    return jnp.tile(jnp.eye(4)[2], (3, 1)), cache

  decoded = decode(decoding.greedy_decode, step, [0, 1, 2], limits=[0, 2, 9])
  np.testing.assert_array_equal(
    decoded.tokens[:, 0], [[0] * 6, [2, 2, 0, 0, 0, 0], [2] * 6]
  )
  assert decoded.scores[0, 0] == 0


def test_temperature_zero_is_greedy():
  _, step = markov(1)
  want = decode(decoding.greedy_decode, step, [0, 1, 2])
  got = decode(decoding.temperature_sample, step, [0, 1, 2], temperature=0)
  np.testing.assert_array_equal(got.tokens, want.tokens)
  top1 = decode(
    decoding.temperature_sample, step, [0, 1, 2], topk=1, key=jax.random.key(0)
  )
  np.testing.assert_array_equal(top1.tokens, want.tokens)


def test_samples_follow_the_distribution_of_whole_sequences():
  table, step = markov(2, vocab=3)
  count = 20_000
  temperature = 1.7
  decoded = jax.jit(
    lambda key: decode(
      decoding.temperature_sample,
      step,
      [0],
      steps=3,
      num_decodes=count,
      temperature=temperature,
      key=key,
    )
  )(jax.random.key(0))
  probs = np.asarray(jax.nn.softmax(table[0] / temperature, axis=-1))
  drawn = [tuple(t) for t in np.asarray(decoded.tokens[0]).tolist()]
  chi2 = 0.0
  # A token 0 is not the end, so that different draws may look alike.
  merged = {}
  for sequence in itertools.product(range(3), repeat=3):
    p, last, tokens, ended = 1.0, 0, [], False
    for token in sequence:
      if ended:
        break
      p, last = p * probs[last, token], token
      tokens.append(token)
      ended = token == EOS
    merged.setdefault(tuple(tokens), p)
  padded = {}
  for tokens, p in merged.items():
    name = tokens + (0,) * (3 - len(tokens))
    padded[name] = padded.get(name, 0.0) + p
  np.testing.assert_allclose(sum(padded.values()), 1.0, rtol=1e-5)
  for name, p in padded.items():
    chi2 += (drawn.count(name) - count * p) ** 2 / (count * p)
  degrees = len(padded) - 1
  assert chi2 < degrees + 5 * np.sqrt(2 * degrees)


def test_decodes_come_best_first_with_their_model_score():
  table, step = markov(3)
  decoded = decode(
    decoding.temperature_sample,
    step,
    [0, 2],
    num_decodes=5,
    temperature=2.0,
    topk=3,
    key=jax.random.key(1),
  )
  assert np.all(np.diff(decoded.scores, axis=-1) <= 0)
  log_probs = np.asarray(jax.nn.log_softmax(table, axis=-1))
  for i, row in enumerate([0, 2]):
    for tokens, score in zip(
      decoded.tokens[i].tolist(), decoded.scores[i].tolist(), strict=True
    ):
      want, last = 0.0, 0
      for token in tokens:
        want, last = want + log_probs[row, last, token], token
        if token == EOS:
          break
      np.testing.assert_allclose(score, want, rtol=1e-4)


def test_rescaled_scores_are_those_of_the_distribution_drawn_from():
  table, step = markov(3)
  decoded = decode(
    decoding.temperature_sample,
    step,
    [1],
    num_decodes=4,
    temperature=0.7,
    topk=2,
    rescale_log_probs=True,
    key=jax.random.key(1),
  )
  logits = np.asarray(table[1], np.float64) / 0.7
  for tokens, score in zip(
    decoded.tokens[0].tolist(), decoded.scores[0].tolist(), strict=True
  ):
    want, last = 0.0, 0
    for token in tokens:
      two = np.sort(logits[last])[-2:]
      assert logits[last, token] in two
      want += logits[last, token] - np.log(np.exp(two).sum())
      last = token
      if token == EOS:
        break
    np.testing.assert_allclose(score, want, rtol=1e-4)


def test_what_a_row_draws_does_not_depend_on_the_size_of_the_batch():
  _, step = markov(4)
  key = jax.random.key(3)
  alone = decode(decoding.temperature_sample, step, [2], key=key)
  among = decode(decoding.temperature_sample, step, [2, 0, 1], key=key)
  np.testing.assert_array_equal(alone.tokens[0], among.tokens[0])


def test_topk_and_topp_keep_what_numpy_keeps():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(40, 11)).astype(np.float32) * 2
  for k in (1, 3, 10, 11, 50):
    kept = np.asarray(sampling.keep_topk(jnp.asarray(logits), k)) > -1e8
    for row in range(40):
      want = set(np.argsort(-logits[row])[:k].tolist())
      assert set(np.flatnonzero(kept[row]).tolist()) == want
  for p in (1e-6, 0.3, 0.9, 1.0):
    kept = np.asarray(sampling.keep_topp(jnp.asarray(logits), p)) > -1e8
    for row in range(40):
      probs = np.exp(logits[row]) / np.exp(logits[row]).sum()
      order = np.argsort(-probs)
      size = 11 if p == 1 else np.searchsorted(np.cumsum(probs[order]), p) + 1
      assert set(np.flatnonzero(kept[row]).tolist()) == set(
        order[:size].tolist()
      )


@pytest.mark.parametrize("vocab", [3, 256, 257, 1000])
def test_draws_follow_the_softmax_of_the_logits(vocab):
  rng = np.random.default_rng(vocab)
  logits = jnp.asarray(rng.normal(size=(2, vocab)) * 2, jnp.float32)
  logits = logits.at[:, 0].set(-1e9)
  count = 40_000
  keys = jax.random.split(jax.random.key(0), (count, 2))
  drawn = np.asarray(
    jax.jit(jax.vmap(lambda k: sampling.draw(k, logits)))(keys)
  )
  probs = np.asarray(jax.nn.softmax(logits, axis=-1), np.float64)
  for row in range(2):
    counts = np.bincount(drawn[:, row], minlength=vocab)
    assert counts.size == vocab and counts[0] == 0
    often = count * probs[row] > 5
    expected = np.append(
      count * probs[row][often], count * probs[row][~often].sum() + 1e-9
    )
    found = np.append(counts[often], counts[~often].sum())
    chi2 = np.sum((found - expected) ** 2 / np.maximum(expected, 1))
    assert chi2 < often.sum() + 5 * np.sqrt(2 * often.sum())


def test_minp_keeps_what_has_the_share_of_the_most_probable():
  rng = np.random.default_rng(1)
  logits = rng.normal(size=(40, 11)).astype(np.float32) * 2
  probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  for p in (0.0, 0.1, 0.5, 1.0):
    kept = np.asarray(sampling.keep_minp(jnp.asarray(logits), p)) > -1e8
    share = probs / probs.max(-1, keepdims=True)
    np.testing.assert_array_equal(kept, share >= p * (1 - 1e-6))


@pytest.mark.parametrize(
  "settings, message",
  [
    (dict(temperature=-1.0), "temperature = -1.0 must be 0"),
    (dict(topk=-1), "topk = -1 must be 0"),
    (dict(topp=1.5), "topp = 1.5 must be between"),
    (dict(minp=-0.5), "minp = -0.5 must be between"),
  ],
)
def test_wrong_settings_name_the_binding(settings, message):
  _, step = markov(0)
  with pytest.raises(ValueError, match=message):
    decode(decoding.temperature_sample, step, [0], **settings)
  with pytest.raises(ValueError, match="num_decodes = 2"):
    decode(decoding.greedy_decode, step, [0], num_decodes=2)


def test_first_argmax_is_numpys_argmax_ties_included():
  rng = np.random.default_rng(0)
  logits = rng.integers(-3, 4, size=(50, 9)).astype(np.float32)
  np.testing.assert_array_equal(
    sampling.first_argmax(jnp.asarray(logits)), logits.argmax(-1)
  )
  logits[3, 4] = np.nan
  assert 0 <= int(sampling.first_argmax(jnp.asarray(logits))[3]) < 9
