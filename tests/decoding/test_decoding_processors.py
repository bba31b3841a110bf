"""Constraints on decoding against plain Python rules and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import decoding
from t2tjax.decoding import processors

EOS, VOCAB, STEPS = 1, 7, 8


def penalized(logits, read, penalty):
  """Keskar et al. 2019, with transformers' rule for negative logits."""
  logits = logits.copy()
  for token in set(read):
    x = logits[token]
    logits[token] = x * penalty if x < 0 else x / penalty
  return logits


def without_ngrams(logits, read, size):
  logits = logits.copy()
  seen = {tuple(read[i : i + size]) for i in range(len(read) - size + 1)}
  for token in range(len(logits)):
    last = [*read[len(read) - size + 1 :], token] if size > 1 else [token]
    if len(read) >= size - 1 and tuple(last) in seen:
      logits[token] = -np.inf
  return logits


def only(logits, tokens):
  allowed = np.isin(np.arange(len(logits)), list(tokens))
  return np.where(allowed, logits, -np.inf)


def successors(index, read):
  """May follow: the token read last plus 1 or 2; the end after three."""
  more = [2 + (read[-1] + index + i) % 5 for i in (1, 2)]
  return [EOS, *more] if len(read) > 3 else more


# Processor and its plain rule: (logits, tokens read, index of input) -> logits.
RULES = {
  "repetition_penalty": (
    decoding.RepetitionPenalty(1.7),
    lambda x, read, i: penalized(x, read, 1.7),
  ),
  "no_repeat_1": (
    decoding.NoRepeatNGram(1),
    lambda x, read, i: without_ngrams(x, read, 1),
  ),
  "no_repeat_2": (
    decoding.NoRepeatNGram(2),
    lambda x, read, i: without_ngrams(x, read, 2),
  ),
  "no_repeat_3": (
    decoding.NoRepeatNGram(3),
    lambda x, read, i: without_ngrams(x, read, 3),
  ),
  "no_repeat_longer_than_all": (
    decoding.NoRepeatNGram(STEPS + 5),
    lambda x, read, i: x,
  ),
  "min_new_tokens": (
    decoding.MinNewTokens(5, EOS),
    lambda x, read, i: only(x, [0, *range(2, VOCAB)]) if len(read) < 6 else x,
  ),
  "allowed": (
    decoding.AllowedTokens([EOS, 3, 4]),
    lambda x, read, i: only(x, [EOS, 3, 4]),
  ),
  "suppressed": (
    decoding.SuppressedTokens([0, 5]),
    lambda x, read, i: only(x, [1, 2, 3, 4, 6]),
  ),
  "allowed_by_function": (
    decoding.AllowedTokensFn(successors),
    lambda x, read, i: only(x, successors(i, read)),
  ),
  "prefix_of_all": (
    decoding.ForcedPrefix([4, 0, 6]),
    lambda x, read, i: (
      only(x, [(4, 0, 6)[len(read) - 1]]) if len(read) in (1, 3) else x
    ),
  ),
  "prefix_of_each": (
    decoding.ForcedPrefix(np.array([[3, 3, 0], [5, 2, 4], [0, 0, 0]])),
    lambda x, read, i: (
      only(x, [[3, 3, 0], [5, 2, 4], [0, 0, 0]][i][len(read) - 1 :][:1])
      if len(read) <= (2, 3, 0)[i]
      else x
    ),
  ),
}


def tables(seed, num_inputs=3):
  """Next-token logits by (input, last token)."""
  table = np.random.default_rng(seed).normal(size=(num_inputs, VOCAB, VOCAB))
  return (1.5 * table).astype(np.float32)


def decoder(function, inputs=3, num_decodes=1, steps=STEPS, **kwargs):
  """Returns a compiled function of a table."""
  rows = inputs * num_decodes

  @jax.jit
  def run(table):
    return function(
      lambda tokens, position, cache: (table[cache, tokens], cache),
      jnp.repeat(jnp.arange(inputs), num_decodes),
      first_tokens=jnp.zeros((rows,), jnp.int32),
      first_position=jnp.int32(0),
      num_steps=steps,
      limits=jnp.full((rows,), steps, jnp.int32),
      eos_id=EOS,
      num_decodes=num_decodes,
      **kwargs,
    )

  return lambda table: jax.tree.map(np.asarray, run(table))


def decode(function, table, **kwargs):
  return decoder(function, len(table), **kwargs)(table)


def log_softmax(logits):
  return logits - np.log(np.sum(np.exp(logits)))


def greedy(table, index, rule):
  read, score = [0], 0.0
  while len(read) <= STEPS and read[-1] != EOS:
    logits = table[index, read[-1]]
    token = int(np.argmax(rule(logits, read, index)))
    score += log_softmax(logits)[token]
    read.append(token)
    if token == EOS:
      break
  return read[1:] + [0] * (STEPS + 1 - len(read)), score


def beams(table, index, rule, num_beams, length_penalty):
  """The rules of transformers; what is banned is no candidate."""
  live, finished = [(0.0, [0])], []
  for length in range(1, STEPS + 1):
    found = [
      (score + log_prob, [*read, token])
      for score, read in live
      for token, log_prob in enumerate(
        rule(log_softmax(table[index, read[-1]]), read, index)
      )
      if log_prob > -np.inf
    ]
    found = sorted(found, key=lambda pair: -pair[0])[: 2 * num_beams]
    ended = [
      (score / length**length_penalty, read[1:])
      for score, read in found[:num_beams]
      if read[-1] == EOS or length == STEPS
    ]
    live = [pair for pair in found if pair[1][-1] != EOS][:num_beams]
    finished = sorted(finished + ended, key=lambda pair: -pair[0])[:num_beams]
    if not live or (
      len(finished) == num_beams
      and live[0][0] / length**length_penalty <= finished[-1][0]
    ):
      break
  return finished


@pytest.mark.parametrize("name", RULES)
def test_greedy_under_a_constraint_equals_a_python_loop(name):
  processor, rule = RULES[name]
  run = decoder(decoding.greedy_decode, logits_processors=[processor])
  for seed in range(3):
    table = tables(seed)
    decoded = run(table)
    for i in range(3):
      tokens, score = greedy(table, i, rule)
      np.testing.assert_array_equal(decoded.tokens[i, 0], tokens)
      np.testing.assert_allclose(decoded.scores[i, 0], score, rtol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_beam_search_under_a_constraint_equals_a_python_loop(name):
  processor, rule = RULES[name]
  table = tables(5)
  decoded = decode(
    decoding.beam_search,
    table,
    num_decodes=3,
    length_penalty=1.0,
    logits_processors=(processor,),
  )
  for i in range(3):
    want = beams(table, i, rule, 3, 1.0)
    assert want
    for (score, tokens), got, got_score in zip(
      want, decoded.tokens[i], decoded.scores[i], strict=False
    ):
      np.testing.assert_array_equal(got[: len(tokens)], tokens)
      assert not got[len(tokens) :].any()
      np.testing.assert_allclose(got_score, score, rtol=1e-5)
    # Fewer sequences than beams may keep to the constraint.
    assert np.all(decoded.scores[i, len(want) :] == -np.inf)


def test_processors_are_applied_in_their_order():
  chain = ["repetition_penalty", "no_repeat_2", "min_new_tokens", "suppressed"]
  table = tables(9)

  def rule(logits, read, index):
    for name in chain:
      logits = RULES[name][1](logits, read, index)
    return logits

  decoded = decode(
    decoding.greedy_decode,
    table,
    logits_processors=[RULES[name][0] for name in chain],
  )
  for i in range(3):
    np.testing.assert_array_equal(
      decoded.tokens[i, 0], greedy(table, i, rule)[0]
    )


def test_samples_keep_to_the_constraints_and_follow_the_rest():
  table = tables(2, num_inputs=1)
  allowed = [EOS, 2, 6]
  count = 20_000
  decoded = decode(
    decoding.temperature_sample,
    table,
    num_decodes=count,
    steps=1,
    temperature=1.3,
    key=jax.random.key(0),
    logits_processors=[decoding.AllowedTokens(allowed)],
  )
  logits = np.full(VOCAB, -np.inf)
  logits[allowed] = table[0, 0, allowed] / 1.3
  probs = np.exp(log_softmax(logits))
  found = np.bincount(decoded.tokens[0, :, 0], minlength=VOCAB) / count
  np.testing.assert_allclose(found, probs, atol=5 * np.sqrt(0.25 / count))
  assert not np.any(found[probs == 0])
  zero = decode(
    decoding.temperature_sample,
    table,
    temperature=0.0,
    logits_processors=[RULES["no_repeat_2"][0]],
  )
  want = greedy(table, 0, RULES["no_repeat_2"][1])[0]
  np.testing.assert_array_equal(zero.tokens[0, 0], want)


def test_each_sample_has_its_own_history():
  decoded = decode(
    decoding.temperature_sample,
    tables(3),
    num_decodes=20,
    temperature=3.0,
    key=jax.random.key(1),
    logits_processors=[
      decoding.NoRepeatNGram(2),
      decoding.MinNewTokens(4, EOS),
      decoding.SuppressedTokens([0]),
    ],
  )
  for tokens in decoded.tokens.reshape(-1, STEPS).tolist():
    tokens = [token for token in tokens if token]
    pairs = list(zip([0, *tokens], tokens, strict=False))
    assert len(set(pairs)) == len(pairs)
    assert len(tokens) > 4


def test_a_forced_token_wins_over_a_ban():
  decoded = decode(
    decoding.greedy_decode,
    tables(0),
    logits_processors=[
      decoding.NoRepeatNGram(1),
      decoding.ForcedPrefix([3, 3, 3]),
    ],
  )
  assert np.all(decoded.tokens[:, 0, :3] == 3)
  searched = decode(
    decoding.beam_search,
    tables(0),
    num_decodes=2,
    logits_processors=[
      decoding.SuppressedTokens([3]),
      decoding.ForcedPrefix([3, 4]),
    ],
  )
  assert np.all(searched.tokens[:, 0, :2] == [3, 4])
  assert not np.any(searched.tokens[:, :, 2:] == 3)


def test_a_dead_end_gives_up_the_beam_or_pads():
  table = tables(0)
  nothing = [decoding.AllowedTokensFn(lambda i, read: [4][: 2 - len(read)])]
  tokens = decode(decoding.greedy_decode, table, logits_processors=nothing)
  np.testing.assert_array_equal(tokens.tokens[0, 0], [4] + [0] * (STEPS - 1))
  searched = decode(
    decoding.beam_search, table, num_decodes=2, logits_processors=nothing
  )
  assert np.all(searched.scores == -np.inf)


def test_inputs_that_only_fill_up_the_batch_are_not_asked_about():
  asked = set()

  def allowed(index, read):
    asked.add((index, read[0]))
    return [4, EOS]

  decode(
    decoding.greedy_decode,
    tables(0),
    logits_processors=[decoding.AllowedTokensFn(allowed, num_inputs=2)],
  )
  jax.effects_barrier()
  assert asked == {(0, 0), (1, 0)}


def test_without_processors_the_program_has_nothing_of_them(monkeypatch):
  def refuse(*args):
    raise AssertionError("a history was made for nobody")

  monkeypatch.setattr(processors.jnp, "concatenate", refuse)
  logits = jnp.ones((2, 3))
  assert processors.apply((), logits, None, None, None, num_decodes=1) is logits


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: decoding.RepetitionPenalty(0.0), "penalty = 0.0 must be positive"),
    (lambda: decoding.NoRepeatNGram(0), "size = 0 must be at least 1"),
    (lambda: decoding.AllowedTokens(()), "tokens is empty"),
    (
      lambda: decode(
        decoding.greedy_decode,
        tables(0),
        logits_processors=[decoding.AllowedTokens([VOCAB])],
      ),
      "AllowedTokens.tokens has the id 7; the network has ids 0 to 6",
    ),
  ],
)
def test_wrong_settings_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
