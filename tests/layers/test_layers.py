"""Dense, norm, MLP, dropout, embedding and masks against numpy."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax.layers import masks, reductions, sharding
from t2tjax.layers.dense import Dense, matmul
from t2tjax.layers.dropout import Dropout
from t2tjax.layers.embedding import Embedding
from t2tjax.layers.mlp import Mlp
from t2tjax.layers.norm import LayerNorm
from t2tjax.layers.sharding import constrain

RULES = (("embed", "fsdp"), ("mlp", "model"), ("batch", "fsdp"))


def _normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _mesh():
  return jax.make_mesh(
    (4, 2), ("fsdp", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )


@pytest.mark.parametrize("sizes", [(4, 6), (6, 4)])
def test_matmul_gradients_equal_those_of_the_plain_product(sizes):
  x, kernel = _normal(2, 3, sizes[0]), _normal(*sizes)
  cotangent = _normal(2, 3, sizes[1], seed=1)
  ours = jax.vjp(matmul, x, kernel)
  plain = jax.vjp(lambda x, kernel: x @ kernel, x, kernel)
  np.testing.assert_array_equal(ours[0], plain[0])
  for a, b in zip(ours[1](cotangent), plain[1](cotangent), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_adds_its_product():
  sizes = dict(in_features=4, features=6, kernel_axes=("embed", "mlp"))
  plain = Dense(**sizes)
  adapted = Dense(**sizes, lora_rank=2, lora_alpha=3.0)
  x = _normal(2, 3, 4)
  params = nn.unbox(adapted.init(jax.random.key(0), x))["params"]
  frozen = {"params": {"kernel": params["kernel"]}}
  np.testing.assert_array_equal(
    adapted.apply({"params": params}, x), plain.apply(frozen, x)
  )
  params["lora_b"] = _normal(2, 6)
  merged = params["kernel"] + params["lora_a"] @ params["lora_b"] * (3.0 / 2)
  np.testing.assert_allclose(
    adapted.apply({"params": params}, x), x @ merged, rtol=1e-4, atol=1e-5
  )


def test_dense_is_initialised_alike_when_sharded():
  layer = Dense(in_features=8, features=6, kernel_axes=("embed", "mlp"))
  x = jnp.ones((4, 2, 8))
  expected = nn.unbox(layer.init(jax.random.key(0), x))["params"]["kernel"]
  with jax.set_mesh(_mesh()), nn.logical_axis_rules(RULES):
    variables = jax.jit(lambda: nn.unbox(layer.init(jax.random.key(0), x)))()
  np.testing.assert_allclose(variables["params"]["kernel"], expected, rtol=1e-6)


def test_constraints_reach_the_program_only_under_a_mesh():
  def double(x):
    return constrain(x * 2, ("batch", "length", "mlp"))

  x = jnp.ones((4, 3, 6))
  assert "sharding_constraint" not in jax.jit(double).lower(x).as_text()
  with jax.set_mesh(_mesh()), nn.logical_axis_rules(RULES):
    program = jax.jit(double).lower(x).as_text()
  assert "sharding_constraint" in program
  assert '[{"fsdp"}, {}, {"model"}]' in program


def test_shards_of_an_axis_are_counted_from_rules_and_mesh():
  assert sharding.num_shards("batch") == 1
  rules = (("batch", ("fsdp", "model")), ("mlp", "model"), ("kv", None))
  with jax.set_mesh(_mesh()), nn.logical_axis_rules(rules):
    shards = [sharding.num_shards(a) for a in ("batch", "mlp", "kv", "heads")]
  assert shards == [8, 2, 1, 1]


def test_constraint_with_a_missing_name_is_refused():
  with jax.set_mesh(_mesh()), nn.logical_axis_rules(RULES):
    with pytest.raises(ValueError, match="one name per dimension"):
      constrain(jnp.ones((4, 3)), ("batch",))


def test_norm_divides_by_the_root_mean_square_in_fp32():
  x = _normal(2, 3, 16) * 1e4
  scale = _normal(16, seed=1)
  expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale
  variables = {"params": {"scale": scale}}
  np.testing.assert_allclose(
    LayerNorm().apply(variables, x), expected, rtol=1e-5
  )
  low = LayerNorm(dtype="bfloat16").apply(variables, x.astype(jnp.bfloat16))
  assert low.dtype == jnp.bfloat16
  np.testing.assert_allclose(low.astype("float32"), expected, rtol=0.03)


@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")])
def test_mlp_multiplies_its_activations(activations):
  mlp = Mlp(emb_dim=4, mlp_dim=6, activations=activations)
  x = _normal(2, 3, 4)
  params = nn.unbox(mlp.init(jax.random.key(0), x))["params"]
  if activations == ("relu",):
    assert set(params) == {"wi", "wo"}
    hidden = np.maximum(x @ params["wi"]["kernel"], 0)
  else:
    assert set(params) == {"wi_0", "wi_1", "wo"}
    z = np.asarray(x @ params["wi_0"]["kernel"])
    tanh = np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))
    hidden = 0.5 * z * (1 + tanh) * (x @ params["wi_1"]["kernel"])
  expected = hidden @ params["wo"]["kernel"]
  actual = mlp.apply({"params": params}, x)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_dropout_drops_whole_features_of_a_sequence():
  x = jnp.ones((64, 5, 32))
  rngs = {"dropout": jax.random.key(0)}
  y = np.asarray(Dropout(0.25).apply({}, x, enable_dropout=True, rngs=rngs))
  np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
  np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
  assert abs((y == 0).mean() - 0.25) < 0.05
  assert Dropout(0.25).apply({}, x, enable_dropout=False) is x


def test_embedding_looks_rows_up_and_its_gradient_counts_them():
  layer = Embedding(vocab_size=7, features=3)
  table = _normal(7, 3)
  tokens = jnp.asarray([[1, 1, 6]])

  def embed(table):
    return layer.apply({"params": {"embedding": table}}, tokens)

  np.testing.assert_array_equal(embed(table)[0], table[[1, 1, 6]])
  gradient = jax.grad(lambda table: embed(table).sum())(table)
  np.testing.assert_array_equal(gradient[:, 0], [0, 2, 0, 0, 0, 0, 1])


def test_an_id_outside_the_vocabulary_is_not_silent():
  layer = Embedding(vocab_size=7, features=3)
  variables = {"params": {"embedding": _normal(7, 3)}}
  assert np.isnan(layer.apply(variables, jnp.asarray([[7]]))).all()


def test_masks_say_who_sees_whom():
  tokens = jnp.asarray([[5, 6, 0]])
  np.testing.assert_array_equal(
    masks.padding_mask(tokens), [[[[True, True, False]]]]
  )
  segments = jnp.asarray([[1, 1, 2, 0]])
  np.testing.assert_array_equal(
    masks.segment_mask(segments, segments)[0, 0],
    np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool),
  )
  np.testing.assert_array_equal(
    masks.causal_mask(3)[0, 0], np.tril(np.ones((3, 3), bool))
  )
  np.testing.assert_array_equal(
    masks.prefix_mask(jnp.asarray([[1, 1, 0]]))[0, 0],
    np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool),
  )


def test_sums_over_a_leading_axis_and_their_use_as_bias_gradient():
  x, bias = _normal(5, 2, 3, 4), _normal(1, 2, 3, 4, seed=1)
  np.testing.assert_allclose(
    jax.jit(reductions.sum_leading_axis)(x), x.sum(0), rtol=1e-5, atol=1e-6
  )
  y, pull = jax.vjp(jax.checkpoint(reductions.add_bias), x, bias)
  np.testing.assert_array_equal(y, x + bias)
  x_gradient, bias_gradient = pull(jnp.asarray(x))
  np.testing.assert_array_equal(x_gradient, x)
  np.testing.assert_allclose(bias_gradient, x.sum(0)[None], rtol=1e-4)
