"""What must hold for the decoder-only network, as properties."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import networks, trees

CONFIG = networks.DecoderOnlyConfig(
  vocab_size=40, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_layers=2
)
BATCH, LENGTH = 2, 8


def _network(**overrides):
  return networks.DecoderOnly(dataclasses.replace(CONFIG, **overrides))


def _tokens():
  tokens = np.random.default_rng(0).integers(1, 40, (BATCH, LENGTH))
  tokens[:, 0] = 0
  return tokens.astype("int32")


@functools.cache
def _params(network):
  return nn.unbox(jax.jit(network.init)(jax.random.key(0), _tokens())["params"])


def _apply(network, params, *args, **kwargs):
  # Compiled as a whole: much quicker than one operation at a time.
  apply = jax.jit(lambda p: network.apply({"params": p}, *args, **kwargs))
  return apply(params)


def _dependencies(**kwargs):
  """Returns whether changing input j moves the logits of position i."""
  network = _network()
  params = _params(network)
  tokens = _tokens()[:1]

  @jax.jit
  def logits_of(tokens):
    return _apply(network, params, tokens, **kwargs)

  base = logits_of(tokens)
  moved = []
  for j in range(LENGTH):
    changed = tokens.copy()
    changed[0, j] = (changed[0, j] + 1) % 40
    moved.append(np.abs(logits_of(changed) - base).max(-1)[0] > 0)
  return np.stack(moved, axis=1)


def test_parameters_have_the_names_of_t5x():
  names = {name for name, _ in trees.named_leaves(_params(_network()))}
  layer = {
    *(f"self_attention/{n}/kernel" for n in ("query", "key", "value", "out")),
    *(f"mlp/{n}/kernel" for n in ("wi_0", "wi_1", "wo")),
    "pre_self_attention_layer_norm/scale",
    "pre_mlp_layer_norm/scale",
  }
  assert names == {
    "decoder/token_embedder/embedding",
    "decoder/relpos_bias/rel_embedding",
    "decoder/decoder_norm/scale",
    "decoder/logits_dense/kernel",
    *(f"decoder/layers_{i}/{n}" for i in range(2) for n in layer),
  }


def test_a_causal_model_sees_the_past_only():
  np.testing.assert_array_equal(
    _dependencies(), np.tril(np.ones((LENGTH, LENGTH), bool))
  )


def test_a_prefix_sees_itself_in_both_directions():
  prefix = np.zeros((1, LENGTH), "int32")
  prefix[0, :4] = 1
  expected = np.tril(np.ones((LENGTH, LENGTH), bool))
  expected[:4, :4] = True
  np.testing.assert_array_equal(
    _dependencies(decoder_causal_attention=prefix), expected
  )


def test_packed_prefixes_do_not_see_each_other():
  segments = np.array([[1, 1, 1, 2, 2, 2, 2, 0]], "int32")
  prefix = np.array([[1, 1, 0, 1, 1, 0, 0, 0]], "int32")
  seen = _dependencies(
    decoder_causal_attention=prefix, decoder_segment_ids=segments
  )
  assert not seen[:3, 3:].any()
  assert not seen[3:7, :3].any()
  assert seen[0, 1] and seen[3, 4] and not seen[4, 5]


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_prefill_and_steps_give_the_logits_of_teacher_forcing(
  scan_layers, bidirectional
):
  network = _network(scan_layers=scan_layers)
  params = _params(network)
  tokens = _tokens()
  lengths = np.array([3, 5])  # of the prompts
  prefix = (np.arange(LENGTH) < lengths[:, None]).astype("int32")
  attention = prefix if bidirectional else None
  expected = _apply(network, params, tokens, decoder_causal_attention=attention)
  logits, cache = _apply(
    network,
    params,
    (tokens * prefix)[:, :5],
    LENGTH,
    decoder_causal_attention=None if attention is None else attention[:, :5],
    method="prefill",
  )
  for row, length in enumerate(lengths):
    np.testing.assert_allclose(
      logits[row, :length], expected[row, :length], rtol=1e-4, atol=1e-5
    )
  step = jax.jit(functools.partial(network.apply, method="decode_step"))
  for t in range(3):
    position = lengths + t
    logits, cache = step(
      {"params": params},
      cache,
      tokens[np.arange(BATCH), position],
      jnp.asarray(position),
    )
    np.testing.assert_allclose(
      logits, expected[np.arange(BATCH), position], rtol=1e-4, atol=1e-5
    )


def test_decoding_from_an_empty_cache_gives_the_logits_of_teacher_forcing():
  network = _network(logits_via_embedding=True, relpos_bias="per_layer")
  params = _params(network)
  tokens = _tokens()
  expected = _apply(network, params, tokens)
  cache = _apply(network, params, BATCH, LENGTH, method="init_cache")
  step = jax.jit(functools.partial(network.apply, method="decode_step"))
  for t in range(LENGTH):
    logits, cache = step({"params": params}, cache, tokens[:, t], jnp.int32(t))
    np.testing.assert_allclose(logits, expected[:, t], rtol=1e-4, atol=1e-5)


def test_a_prompt_longer_than_the_cache_is_refused():
  network = _network()
  with pytest.raises(ValueError, match="max_decode_length = 4"):
    _apply(network, _params(network), _tokens(), 4, method="prefill")
