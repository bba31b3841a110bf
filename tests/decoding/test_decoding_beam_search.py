"""Beam search against plain loops of the published rules and all sequences."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import decoding
from t2tjax.decoding.beam_search import top_k

EOS = 1


def markov(seed, vocab=11, sharpness=1.5, eos=0.0):
  """Next-token logits by (id of the input, last token)."""
  table = np.random.default_rng(seed).normal(size=(4, vocab, vocab))
  table *= sharpness
  table[:, :, EOS] += eos
  return table.astype(np.float32)


@functools.partial(jax.jit, static_argnames=("beams", "steps", "rule"))
def jitted_search(table, row_ids, limits, beams, steps, rule):
  rows = jnp.repeat(row_ids, beams)

  def tokens_to_logits(tokens, position, cache):
    # The cache keeps what was read, so that a wrong gather is seen.
    read = jax.lax.dynamic_update_slice_in_dim(
      cache["read"], tokens[:, None], position, axis=1
    )
    before = jnp.sum(read, axis=1)[:, None] % 3
    logits = table[cache["row"], tokens] + before * table[0, 0][None]
    return logits, {"row": cache["row"], "read": read}

  return decoding.beam_search(
    tokens_to_logits,
    {"row": rows, "read": jnp.zeros((rows.shape[0], steps), jnp.int32)},
    first_tokens=jnp.zeros(rows.shape, jnp.int32),
    first_position=jnp.int32(0),
    num_steps=steps,
    limits=jnp.repeat(limits, beams),
    eos_id=EOS,
    num_decodes=beams,
    **dict(rule),
  )


def search(table, row_ids, beams, steps, limits=None, **rule):
  if limits is None:
    limits = [steps] * len(row_ids)
  decoded = jitted_search(
    table,
    np.array(row_ids),
    np.array(limits),
    beams,
    steps,
    tuple(rule.items()),
  )
  return jax.tree.map(np.asarray, decoded)


def log_probs(table, row, prefix):
  last = prefix[-1] if prefix else 0
  before = sum(prefix) % 3
  logits = table[row, last].astype(np.float64) + before * table[0, 0]
  return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def extended(table, row, live):
  """All continuations of the live beams by a token, the best first."""
  found = []
  for score, prefix in live:
    for token, log_prob in enumerate(log_probs(table, row, prefix)):
      found.append((score + log_prob, [*prefix, token]))
  return sorted(found, key=lambda pair: -pair[0])


def t5x_rule(table, row, beams, steps, alpha):
  """One input, in the terms of T5X's decoding.beam_search."""

  def penalty(length):
    return ((5 + length) / 6) ** alpha

  live, finished = [(0.0, [])], []
  for length in range(1, steps + 1):
    best = extended(table, row, live)[: 2 * beams]
    ended = [(s / penalty(length), p) for s, p in best if p[-1] == EOS]
    live = [(s, p) for s, p in best if p[-1] != EOS][:beams]
    finished = sorted(finished + ended, key=lambda f: -f[0])[:beams]
    if len(finished) == beams and finished[-1][0] > live[0][0] / penalty(
      steps + 1
    ):
      break
  return finished or live


def transformers_rule(table, row, beams, steps, length_penalty, early_stopping):
  """One input, in the terms of transformers' GenerationMixin._beam_search."""
  live, finished, improvable = [(0.0, [])], [], True
  for length in range(1, steps + 1):
    best = extended(table, row, live)[: 2 * beams]
    full = len(finished) == beams and early_stopping is True
    hits = [p[-1] == EOS or length == steps for _, p in best]
    ended = [
      (s / length**length_penalty, p)
      for (s, p), hit in list(zip(best, hits, strict=True))[:beams]
      if hit and not full and improvable
    ]
    live = [b for b, hit in zip(best, hits, strict=True) if not hit][:beams]
    finished = sorted(finished + ended, key=lambda f: -f[0])[:beams]
    if length == steps or (early_stopping is True and len(finished) == beams):
      break
    at = length
    if early_stopping == "never" and length_penalty > 0:
      at = steps
    worst = finished[-1][0] if len(finished) == beams else -1e9
    improvable = improvable and live[0][0] / at**length_penalty > worst
    if not improvable:
      break
  return finished


def assert_found(decoded, index, want):
  steps = decoded.tokens.shape[-1]
  for rank, (score, tokens) in enumerate(want):
    padded = tokens + [0] * (steps - len(tokens))
    assert decoded.tokens[index, rank].tolist() == padded
    np.testing.assert_allclose(decoded.scores[index, rank], score, rtol=1e-4)
  assert not np.any(decoded.tokens[index, len(want) :])
  assert np.all(np.isneginf(decoded.scores[index, len(want) :]))


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_beams_and_scores_are_those_of_t5x_rule(alpha, beams):
  for seed, eos in itertools.product(range(4), (-3.0, 0.0, 1.5)):
    table = markov(seed, eos=eos)
    decoded = search(table, [0, 1, 2, 3], beams, 9, alpha=alpha)
    for row in range(4):
      assert_found(decoded, row, t5x_rule(table, row, beams, 9, alpha))


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [-0.5, 0.0, 1.0, 2.5])
def test_beams_and_scores_are_those_of_transformers_rule(
  length_penalty, early_stopping
):
  beams = 3
  for seed, eos in itertools.product(range(3), (-3.0, 0.0, 1.5)):
    table = markov(seed, eos=eos)
    rule = dict(length_penalty=length_penalty, early_stopping=early_stopping)
    decoded = search(table, [0, 1, 2, 3], beams, 9, **rule)
    for row in range(4):
      assert_found(
        decoded, row, transformers_rule(table, row, beams, 9, **rule)
      )


def test_the_stopping_rules_differ_and_are_told_apart():
  found = {}
  for early_stopping in (True, False, "never"):
    rule = dict(length_penalty=2.5, early_stopping=early_stopping)
    found[early_stopping] = [
      search(markov(seed), [0, 1, 2, 3], 3, 9, **rule).tokens.tolist()
      for seed in range(4)
    ]
  assert found[True] != found[False] != found["never"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [{"alpha": 0.7}, {"length_penalty": 0.9}])
def test_with_enough_beams_it_finds_the_best_of_all_sequences(seed, rule):
  vocab, steps, beams = 3, 4, 40
  table = markov(seed, vocab)
  decoded = search(
    table,
    [0, 2],
    beams,
    steps,
    **rule,
    **({} if "alpha" in rule else {"early_stopping": "never"}),
  )
  for index, row in enumerate((0, 2)):
    found = {}
    for tokens in itertools.product(range(vocab), repeat=steps):
      prefix, score = [], 0.0
      while not prefix or (prefix[-1] != EOS and len(prefix) < steps):
        score += log_probs(table, row, prefix)[tokens[len(prefix)]]
        prefix.append(tokens[len(prefix)])
      if "length_penalty" in rule:
        found[tuple(prefix)] = score / len(prefix) ** rule["length_penalty"]
      elif prefix[-1] == EOS:
        found[tuple(prefix)] = score / ((5 + len(prefix)) / 6) ** rule["alpha"]
    want = sorted(found, key=found.get, reverse=True)[:beams]
    assert_found(decoded, index, [(found[p], list(p)) for p in want])


@pytest.mark.parametrize("rule", [{}, {"length_penalty": 1.0}])
def test_an_input_decodes_alone_as_it_does_in_a_batch(rule):
  table = markov(7, eos=1.0)
  together = search(table, [0, 1, 2, 3], 3, 12, **rule)
  reversed_ = search(table, [3, 2, 1, 0], 3, 12, **rule)
  for row in range(4):
    alone = search(table, [row], 3, 12, **rule)
    np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
    np.testing.assert_array_equal(
      together.tokens[row], reversed_.tokens[3 - row]
    )


@pytest.mark.parametrize("rule", [{}, {"length_penalty": 1.0}])
def test_each_input_has_its_own_limit(rule):
  table = markov(9, eos=-1.0)
  decoded = search(table, [0, 1, 2, 3], 2, 8, [0, 2, 5, 8], **rule)
  assert not np.any(decoded.tokens[0])
  assert decoded.scores[0, 0] == 0
  for row, limit in enumerate([2, 5, 8], 1):
    alone = search(table, [row], 2, limit, **rule)
    np.testing.assert_array_equal(
      decoded.tokens[row, :, :limit], alone.tokens[0]
    )
    assert not np.any(decoded.tokens[row, :, limit:])


def test_the_loop_ends_when_no_beam_can_improve():
  calls = []

  def step(tokens, position, cache):
    jax.debug.callback(lambda p: calls.append(int(p)), position)
    return jnp.tile(jnp.array([[0.0, 9.0, 1.0, 2.0]]), (2, 1)), cache

  decoding.beam_search(
    step,
    {},
    first_tokens=jnp.zeros((2,), jnp.int32),
    first_position=jnp.int32(0),
    num_steps=50,
    limits=jnp.full((2,), 50),
    eos_id=EOS,
    num_decodes=2,
  )
  jax.effects_barrier()
  assert 1 < len(calls) < 5


def test_one_beam_of_transformers_rule_is_greedy():
  table = markov(3, eos=0.5)
  step = jnp.asarray(table)
  rows = jnp.arange(4)
  greedy = decoding.greedy_decode(
    lambda tokens, position, cache: (step[rows, tokens], cache),
    {},
    first_tokens=jnp.zeros((4,), jnp.int32),
    first_position=jnp.int32(0),
    num_steps=9,
    limits=jnp.full((4,), 9),
    eos_id=EOS,
    num_decodes=1,
  )
  one = decoding.beam_search(
    lambda tokens, position, cache: (step[rows, tokens], cache),
    {},
    first_tokens=jnp.zeros((4,), jnp.int32),
    first_position=jnp.int32(0),
    num_steps=9,
    limits=jnp.full((4,), 9),
    eos_id=EOS,
    num_decodes=1,
    length_penalty=0.0,
  )
  np.testing.assert_array_equal(one.tokens, greedy.tokens)
  np.testing.assert_allclose(one.scores, greedy.scores, rtol=1e-5)


@pytest.mark.parametrize("size", [50, 3000, 32128])
def test_top_k_over_blocks_is_that_of_lax_ties_included(size):
  rng = np.random.default_rng(size)
  smooth = rng.normal(size=(6, size)).astype(np.float32)
  tied = rng.integers(0, 5, size=(6, size)).astype(np.float32)
  rare = tied * (rng.random(size=(6, size)) < 0.002)
  for x in (smooth, tied, rare):
    x = jnp.asarray(x, jnp.float32)
    got = jax.jit(functools.partial(top_k, k=8))(x)
    for found, want in zip(got, jax.lax.top_k(x, 8), strict=True):
      np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
  "settings, message",
  [
    (dict(early_stopping=True), "set beam_search.length_penalty"),
    (dict(length_penalty=1.0, early_stopping="no"), "must be True, False or"),
  ],
)
def test_wrong_settings_name_the_binding_of_beam_search(settings, message):
  with pytest.raises(ValueError, match=message):
    search(markov(0), [0], 2, 3, **settings)
