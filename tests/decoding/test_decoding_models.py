"""Cached decoding of both models against re-reading everything each step."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import decoding, models, networks

VOCABULARY = types.SimpleNamespace(vocab_size=24, eos_id=1)
SIZES = dict(vocab_size=24, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32)
STEPS = 9


def encoder_decoder(scan_layers=False, **kwargs):
  config = networks.T5Config(
    num_encoder_layers=1, num_decoder_layers=2, scan_layers=scan_layers, **SIZES
  )
  return models.EncoderDecoderModel(
    module=networks.EncoderDecoder(config),
    input_vocabulary=VOCABULARY,
    output_vocabulary=VOCABULARY,
    optimizer_def=None,
    **kwargs,
  )


def decoder_only(**kwargs):
  config = networks.DecoderOnlyConfig(num_layers=2, **SIZES)
  return models.DecoderOnlyModel(
    module=networks.DecoderOnly(config),
    vocabulary=VOCABULARY,
    optimizer_def=None,
    **kwargs,
  )


def init(model, batch):
  """Random parameters, large enough that the argmax depends on the inputs."""
  spec = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}
  abstract = nn.unbox(
    jax.eval_shape(lambda key: model.init_params(key, spec), jax.random.key(0))
  )
  rng = np.random.default_rng(3)

  def draw(leaf):
    if leaf.ndim < 2:
      return jnp.ones(leaf.shape)
    scale = 2.0 / np.sqrt(leaf.shape[-2])
    return jnp.asarray(rng.normal(size=leaf.shape) * scale, jnp.float32)

  return jax.tree.map(draw, abstract)


def inputs_batch(seqs, input_length, target_length=STEPS):
  batch = np.zeros((len(seqs), input_length), np.int32)
  for row, seq in enumerate(seqs):
    batch[row, : len(seq)] = seq
  return {
    "encoder_input_tokens": batch,
    "decoder_input_tokens": np.zeros((len(seqs), target_length), np.int32),
  }


def prompt_batch(seqs, length):
  batch = {
    n: np.zeros((len(seqs), length), np.int32)
    for n in ("decoder_input_tokens", "decoder_causal_attention")
  }
  for row, seq in enumerate(seqs):
    batch["decoder_input_tokens"][row, 1 : len(seq) + 1] = seq
    batch["decoder_causal_attention"][row, : len(seq) + 1] = 1
  # Targets behind the prompt must not matter.
  batch["decoder_input_tokens"][batch["decoder_causal_attention"] == 0] = 7
  return batch


@pytest.fixture(scope="module")
def seqs():
  rng = np.random.default_rng(0)
  return [rng.integers(2, 24, size=n).tolist() for n in (3, 6, 1, 5)]


def naive_encoder_decoder(model, params, seq, steps):
  forward = jax.jit(lambda p, i, d: model.module.apply({"params": p}, i, d))
  read, tokens, score = [0], [], 0.0
  for _ in range(steps):
    row = np.zeros((1, steps), np.int32)
    row[0, : len(read)] = read
    logits = np.asarray(forward(params, np.array([seq], np.int32), row))
    logits = logits[0, len(read) - 1]
    token = int(logits.argmax())
    score += float(jax.nn.log_softmax(logits)[token])
    tokens.append(token)
    read.append(token)
    if token == VOCABULARY.eos_id:
      break
  return tokens + [0] * (steps - len(tokens)), score


def naive_decoder_only(forward, params, seq, steps, bidirectional):
  read, tokens = [0, *seq], []
  length = 16  # The same for all, so that it is compiled once.
  prefix = np.zeros((1, length), np.int32)
  if bidirectional:
    prefix[0, : len(read)] = 1
  for _ in range(steps):
    row = np.zeros((1, length), np.int32)
    row[0, : len(read)] = read
    logits = np.asarray(forward(params, row, prefix))[0, len(read) - 1]
    tokens.append(int(logits.argmax()))
    read.append(tokens[-1])
    if tokens[-1] == VOCABULARY.eos_id:
      break
  return tokens + [0] * (steps - len(tokens))


@pytest.mark.parametrize("scan_layers", [False, True])
def test_greedy_equals_argmax_without_a_cache(seqs, scan_layers):
  model = encoder_decoder(scan_layers)
  batch = inputs_batch(seqs, 6)
  params = init(model, batch)
  tokens, aux = jax.jit(model.predict_batch_with_aux)(params, batch)
  assert len({tuple(t) for t in tokens.tolist()}) > 1
  for row in (0, 2):  # Each length compiles anew: no padding here.
    want, score = naive_encoder_decoder(model, params, seqs[row], STEPS)
    np.testing.assert_array_equal(tokens[row], want)
    np.testing.assert_allclose(aux["scores"][row], score, rtol=1e-4)


def test_greedy_does_not_change_with_padding_or_the_rest_of_the_batch(seqs):
  model = encoder_decoder()
  batch = inputs_batch(seqs, 6)
  params = init(model, batch)
  predict = jax.jit(model.predict_batch)
  want = predict(params, batch)
  np.testing.assert_array_equal(predict(params, inputs_batch(seqs, 17)), want)
  order = [2, 0, 3, 1]
  shuffled = inputs_batch([seqs[i] for i in order], 6)
  np.testing.assert_array_equal(
    predict(params, shuffled), want[jnp.array(order)]
  )
  with_empty_rows = inputs_batch([*seqs, [], []], 8)
  got = predict(params, with_empty_rows)
  np.testing.assert_array_equal(got[:4], want)
  assert not np.any(got[4:])
  longer = jax.jit(
    lambda p, b: model.predict_batch(p, b, max_decode_steps=STEPS + 6)
  )(params, batch)
  np.testing.assert_array_equal(longer[:, :STEPS], want)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_prompted_greedy_equals_argmax_without_a_cache(seqs, bidirectional):
  model = decoder_only(inputs_bidirectional_attention=bidirectional)
  batch = prompt_batch(seqs, 8)
  params = init(model, batch)
  tokens = jax.jit(
    lambda p, b: model.predict_batch(p, b, max_decode_steps=STEPS)
  )(params, batch)
  assert len({tuple(t) for t in tokens.tolist()}) > 1
  forward = jax.jit(
    lambda p, d, a: model.module.apply(
      {"params": p}, d, decoder_causal_attention=a
    )
  )
  for row, seq in enumerate(seqs):
    want = naive_decoder_only(forward, params, seq, STEPS, bidirectional)
    np.testing.assert_array_equal(tokens[row], want)
  padded = prompt_batch([seqs[1], [], seqs[0]], 13)
  padded["decoder_causal_attention"][1] = 0
  got = jax.jit(lambda p, b: model.predict_batch(p, b, max_decode_steps=STEPS))(
    params, padded
  )
  np.testing.assert_array_equal(got[0], tokens[1])
  np.testing.assert_array_equal(got[2], tokens[0])
  # Without a bound, prompt and answer share the row.
  shared = jax.jit(model.predict_batch)(params, batch)
  for row, seq in enumerate(seqs):
    room = 8 - len(seq)
    np.testing.assert_array_equal(shared[row, :room], tokens[row, :room])
    assert not np.any(shared[row, room:])


def test_several_samples_share_the_encoded_input(seqs):
  for model, batch in [
    (
      encoder_decoder(decode_fn=decoding.temperature_sample),
      inputs_batch(seqs, 6),
    ),
    (
      decoder_only(decode_fn=decoding.temperature_sample),
      prompt_batch(seqs, 12),
    ),
  ]:
    params = init(model, batch)
    sample = jax.jit(
      lambda p, b, k, model=model: model.predict_batch_with_aux(
        p, b, k, num_decodes=3, return_all_decodes=True, max_decode_steps=5
      )
    )
    tokens, aux = sample(params, batch, jax.random.key(0))
    assert tokens.shape == (4, 3, 5) and aux["scores"].shape == (4, 3)
    assert np.all(np.diff(aux["scores"], axis=1) <= 0)
    # The score of a sample is what the model gives it by teacher forcing.
    if model.feature_layout == "encoder_decoder":
      for i in range(3):
        targets = np.asarray(tokens[:, i])
        ends = np.cumsum(targets == 1, axis=1) - (targets == 1)
        forced = {
          "encoder_input_tokens": batch["encoder_input_tokens"],
          "decoder_target_tokens": targets,
          "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
          "decoder_loss_weights": (ends == 0).astype(np.float32),
        }
        np.testing.assert_allclose(
          model.score_batch(params, forced), aux["scores"][:, i], rtol=1e-4
        )


def test_one_shape_is_compiled_once(seqs):
  model = encoder_decoder()
  predict = jax.jit(model.predict_batch)
  batch = inputs_batch(seqs, 6)
  params = init(model, batch)
  predict(params, batch)
  predict(params, inputs_batch(seqs[::-1], 6))
  assert predict._cache_size() == 1


def test_a_batch_that_does_not_say_where_its_prompt_ends_is_refused(seqs):
  model = decoder_only()
  batch = prompt_batch(seqs, 8)
  params = init(model, batch)
  del batch["decoder_causal_attention"]
  with pytest.raises(ValueError, match="decoder_causal_attention"):
    model.predict_batch(params, batch)
  with pytest.raises(ValueError, match="max_decode_steps = 0"):
    model.predict_batch(params, prompt_batch(seqs, 8), max_decode_steps=0)
