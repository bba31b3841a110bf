"""Attention against numpy, and its cache against the whole sequence."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from t2tjax.layers import masks
from t2tjax.layers.attention import Attention, empty_cache

EMBED, HEADS, HEAD_DIM = 8, 2, 4


def _layer(**kwargs):
  return Attention(emb_dim=EMBED, num_heads=HEADS, head_dim=HEAD_DIM, **kwargs)


def _normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _params(layer, x):
  return nn.unbox(layer.init(jax.random.key(0), x, x))["params"]


def _numpy_attention(params, x, memory, mask, bias):
  out = np.zeros_like(x)
  for b in range(x.shape[0]):
    for h in range(HEADS):
      columns = slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
      query = x[b] @ params["query"]["kernel"][:, columns]
      key = memory[b] @ params["key"]["kernel"][:, columns]
      value = memory[b] @ params["value"]["kernel"][:, columns]
      scores = np.asarray(query @ key.T + bias[0, h])  # no 1/sqrt(head_dim)
      scores = np.where(mask[b, 0], scores, -np.inf)
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      out[b] += weights @ value @ params["out"]["kernel"][columns]
  return out


def test_attention_equals_numpy_head_by_head():
  x, memory = _normal(2, 3, EMBED), _normal(2, 5, EMBED, seed=1)
  bias = _normal(1, HEADS, 3, 5, seed=2)
  mask = np.ones((2, 1, 3, 5), bool)
  mask[0, 0, :, 3:] = False
  params = _params(_layer(), x)
  actual = _layer().apply({"params": params}, x, memory, mask=mask, bias=bias)
  expected = _numpy_attention(params, x, memory, mask, bias)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_query_kernels_start_smaller_by_the_root_of_the_head_dim():
  layer = Attention(emb_dim=256, num_heads=4, head_dim=64)
  params = _params(layer, jnp.ones((1, 1, 256)))
  for name, expected in [("query", 1 / 16 / 8), ("key", 1 / 16)]:
    std = float(jnp.std(params[name]["kernel"]))
    np.testing.assert_allclose(std, expected, rtol=0.02)


def test_softmax_is_fp32_under_bf16_activations():
  x = _normal(2, 3, EMBED)
  layer = _layer(dtype="bfloat16")
  params = _params(layer, x)
  program = (
    jax.jit(lambda x: layer.apply({"params": params}, x, x)).lower(x).as_text()
  )
  assert "exponential" in program
  for line in program.splitlines():
    if "exponential" in line:
      assert "f32" in line and "bf16" not in line
  assert layer.apply({"params": params}, x, x).dtype == jnp.bfloat16


def test_cached_steps_equal_causal_attention():
  x = _normal(3, 6, EMBED)
  layer = _layer()
  params = {"params": _params(layer, x)}
  whole = layer.apply(params, x, x, mask=masks.causal_mask(6))
  cache = empty_cache(3, HEADS, 6, HEAD_DIM, "float32")
  for t in range(6):
    # One position for all rows, or one per row.
    position = jnp.full((1 if t % 2 else 3,), t)
    out, cache = layer.apply(
      params, x[:, t : t + 1], cache, position, bias=None, method="step"
    )
    np.testing.assert_allclose(out[:, 0], whole[:, t], rtol=1e-4, atol=1e-5)


def test_rows_that_share_a_memory_attend_as_if_each_had_its_own():
  x, memory = _normal(6, 1, EMBED), _normal(2, 5, EMBED, seed=1)
  mask = masks.padding_mask(jnp.asarray([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]))
  layer = _layer()
  params = {"params": _params(layer, x)}
  projected = layer.apply(params, memory, method="project_memory")
  shared = layer.apply(params, x, projected, mask=mask, method="attend_memory")
  own = layer.apply(
    params, x, np.repeat(memory, 3, 0), mask=np.repeat(mask, 3, 0)
  )
  np.testing.assert_allclose(shared, own, rtol=1e-4, atol=1e-5)
