import numpy as np
import pytest

from t2tjax.data import counter_random, objectives

SENTINELS = [999 - i for i in range(100)]
DENOISERS = [
  objectives.SpanCorruption(),
  objectives.SpanCorruption(noise_density=0.5, mean_span_length=3.0),
  objectives.SpanCorruption(
    noise_density=0.15, mean_span_length=32.0, mode_token=5
  ),
]
OBJECTIVES = [
  *DENOISERS,
  objectives.PrefixLM(),
  objectives.PrefixLM(min_fraction=0.25, max_fraction=0.75, mode_token=7),
  objectives.CausalLM(),
  objectives.ul2(regular_token=3, sequential_token=4, extreme_token=5),
]


def keys(count, seed=0):
  return counter_random.keys_of(seed, np.arange(count))


def rebuilt(inputs, targets):
  """Puts the spans of the targets back in place of the sentinels."""
  spans, current = {}, None
  for token in targets:
    if token in SENTINELS:
      current = spans.setdefault(int(token), [])
    else:
      current.append(int(token))
  tokens = []
  for token in inputs:
    tokens += spans.pop(int(token)) if token in SENTINELS else [int(token)]
  assert not spans
  return tokens


@pytest.mark.parametrize("objective", DENOISERS)
def test_the_original_can_be_rebuilt_from_inputs_and_targets(objective):
  for key in keys(30):
    tokens = np.arange(10, 10 + 3 + int(key % np.uint64(300)))
    inputs, targets = objective.apply(tokens, key, SENTINELS)
    if objective.mode_token is not None:
      assert inputs[0] == objective.mode_token
      inputs = inputs[1:]
    assert rebuilt(inputs, targets) == tokens.tolist()
    marks = [t for t in inputs if t in SENTINELS]
    assert marks == SENTINELS[: len(marks)]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_lengths_are_known_before_tokens_are_read(objective):
  sizes = np.arange(2, 402)
  inputs, targets = objective.lengths(sizes, keys(400))
  for size, key, a, b in zip(sizes, keys(400), inputs, targets, strict=True):
    found = objective.apply(np.arange(10, 10 + size), key, SENTINELS)
    assert (len(found[0]), len(found[1])) == (a, b)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_longest_chunk_fits_and_the_next_longer_does_not(objective):
  limits = (512, 114)
  chunk = objective.chunk_length(*limits)
  many = keys(5000)
  for size, fits in ((chunk, True), (chunk + 1, False)):
    lengths = objective.lengths(np.full(5000, size), many)
    within = all(
      (n + 1 <= limit).all() for n, limit in zip(lengths, limits, strict=True)
    )
    # CausalLM has no inputs, so only targets decide.
    assert within == fits


def test_t5_pretraining_chunks_have_their_published_size():
  # 512 inputs of 15 percent noise come from 568 tokens, with 114 targets.
  objective = objectives.SpanCorruption()
  assert objective.chunk_length(512, 114) == 568
  inputs, targets = objective.lengths(np.array(568), None)
  assert (inputs + 1, targets + 1) == (512, 114)


def test_noise_is_spread_evenly_over_the_chunk():
  objective = objectives.SpanCorruption()
  hits = np.zeros(200)
  for key in keys(2000):
    _, targets = objective.apply(np.arange(200), key, SENTINELS)
    hits[[t for t in targets if t not in SENTINELS]] += 1
  # The first token is never masked, since a kept piece comes first.
  assert hits[0] == 0
  middle = hits[20:180] / 2000
  assert abs(middle.mean() - 0.15) < 0.01 and middle.std() < 0.03


def test_mixtures_draw_denoisers_by_rate():
  mixture = objectives.DenoiserMixture(
    objectives=(
      objectives.CausalLM(),
      objectives.PrefixLM(min_fraction=1.0, mode_token=3),
    ),
    rates=(3.0, 1.0),
  )
  inputs, _ = mixture.lengths(np.full(8000, 10), keys(8000))
  assert abs((inputs == 0).mean() - 0.75) < 0.02


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_specs_rebuild_the_objective(objective):
  again = objectives.from_spec(objective.spec())
  key = keys(1)[0]
  for a, b in zip(
    objective.apply(np.arange(50), key, SENTINELS),
    again.apply(np.arange(50), key, SENTINELS),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)


def test_the_seqio_preprocessor_fills_lengths_and_can_be_undone():
  import seqio
  import tensorflow as tf

  vocabulary = seqio.PassThroughVocabulary(1000)
  vocabulary._extra_ids = 100
  feature = seqio.Feature(vocabulary)
  lengths = {"inputs": 64, "targets": 32}
  step = objectives.as_seqio_preprocessor(objectives.SpanCorruption())
  documents = [np.arange(i * 7, i * 7 + 7) % 800 for i in range(60)]
  dataset = tf.data.Dataset.from_generator(
    lambda: iter([{"targets": d} for d in documents]),
    output_signature={"targets": tf.TensorSpec((None,), tf.int32)},
  )
  found = list(
    step(
      dataset,
      sequence_length=lengths,
      output_features={"inputs": feature, "targets": feature},
    ).as_numpy_iterator()
  )
  assert len(found[0]["inputs"]) + 1 == 64
  for example in found:
    marks = [t for t in example["inputs"] if t >= 1000]
    assert marks == [1099 - i for i in range(len(marks))]
    assert marks == [t for t in example["targets"] if t >= 1000]
  kept = [t for e in found for f in ("inputs", "targets") for t in e[f]]
  assert sorted(t for t in kept if t < 1000) == sorted(
    np.concatenate(documents)
  )
