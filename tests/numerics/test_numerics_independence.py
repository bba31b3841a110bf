"""What must not move: other examples of a packed row, and what padding is for.

Compared bit for bit: a masked score is a weight of exactly zero.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import networks

SIZES = dict(vocab_size=64, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0]], np.int32)
POSITIONS = np.array([[0, 1, 2, 0, 1, 2, 3, 0]], np.int32)
A, B = SEGMENTS == 1, SEGMENTS == 2


def tokens(seed):
  rng = np.random.default_rng(seed)
  return rng.integers(1, 64, SEGMENTS.shape).astype(np.int32) * (SEGMENTS > 0)


def encoder_decoder(**overrides):
  return networks.EncoderDecoder(
    networks.T5Config(
      num_encoder_layers=2, num_decoder_layers=2, **SIZES, **overrides
    )
  )


def randomized(network, *args):
  """Returns parameters of which all, also biases and scales, are random."""
  shapes = jax.eval_shape(network.init, jax.random.key(0), *args)["params"]
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32),
    nn.unbox(shapes),
  )


VARIANTS = [
  {},
  {"dtype": "bfloat16", "scan_layers": True},
  {"relpos_bias": "per_layer", "remat_policy": "full"},
]


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
@pytest.mark.parametrize("change", ["encoder", "decoder"])
def test_changing_example_a_never_moves_the_logits_of_example_b(
  change, overrides
):
  """Encoder self-attention, cross-attention and decoder self-attention."""
  network = encoder_decoder(**overrides)
  inputs = {"encoder": tokens(0), "decoder": tokens(1)}
  params = randomized(network, *inputs.values())

  @jax.jit
  def logits(encoder, decoder):
    return network.apply(
      {"params": params},
      encoder,
      decoder,
      encoder_segment_ids=SEGMENTS,
      decoder_segment_ids=SEGMENTS,
      encoder_positions=POSITIONS,
      decoder_positions=POSITIONS,
    )

  before = np.asarray(logits(**inputs))
  inputs[change] = np.where(A, inputs[change] % 63 + 1, inputs[change])
  after = np.asarray(logits(**inputs))
  np.testing.assert_array_equal(after[B], before[B])
  assert (after[A] != before[A]).any(axis=-1).all()


@pytest.mark.parametrize("prefix", [False, True])
def test_changing_example_a_never_moves_example_b_of_a_language_model(prefix):
  network = networks.DecoderOnly(
    networks.DecoderOnlyConfig(num_layers=2, **SIZES)
  )
  first = tokens(0)
  params = randomized(network, first)
  seen = np.array([[1, 1, 0, 1, 1, 1, 0, 0]], np.int32) if prefix else None

  @jax.jit
  def logits(decoder):
    return network.apply(
      {"params": params},
      decoder,
      decoder_segment_ids=SEGMENTS,
      decoder_positions=POSITIONS,
      decoder_causal_attention=seen,
    )

  before = np.asarray(logits(first))
  after = np.asarray(logits(np.where(A, first % 63 + 1, first)))
  np.testing.assert_array_equal(after[B], before[B])
  assert (after[A] != before[A]).any(axis=-1).all()


def test_cross_attention_has_no_position_bias():
  """So it does not see an order: only the encoder's own bias gives one."""
  network = encoder_decoder()
  rng = np.random.default_rng(2)
  encoder = rng.permutation(np.arange(1, 9, dtype=np.int32))[None]
  decoder = tokens(1)
  params = randomized(network, encoder, decoder)
  logits = jax.jit(
    lambda params, encoder: network.apply({"params": params}, encoder, decoder)
  )
  order = rng.permutation(8)
  with_bias = logits(params, encoder) - logits(params, encoder[:, order])
  assert np.abs(with_bias).max() > 1e-2
  bias = params["encoder"]["relpos_bias"]
  bias["rel_embedding"] = jnp.zeros_like(bias["rel_embedding"])
  np.testing.assert_allclose(
    logits(params, encoder), logits(params, encoder[:, order]), atol=1e-4
  )
  biases = [
    jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
    if "rel_embedding" in jax.tree_util.keystr(path)
  ]
  assert len(biases) == 2  # One of each stack's self-attention.


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_padding_of_inputs_moves_no_logits(overrides):
  network = encoder_decoder(**overrides)
  encoder, decoder = tokens(0)[:, :7], tokens(1)[:, :7]
  params = randomized(network, encoder, decoder)
  logits = jax.jit(
    lambda encoder: network.apply({"params": params}, encoder, decoder)
  )
  longer = np.pad(encoder, ((0, 0), (0, 5)))
  # Sums over other lengths are added up in another order.
  tolerance = 0.1 if overrides.get("dtype") == "bfloat16" else 1e-4
  np.testing.assert_allclose(
    logits(longer), logits(encoder), atol=tolerance, rtol=tolerance
  )
