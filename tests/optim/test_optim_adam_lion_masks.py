"""AdamW, its RMS-scaled form, Lion, the optax adapter and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t2tjax import optim

PARAMS = {
  "encoder": {
    "wi": {"kernel": np.full((4, 6), 0.5, np.float32)},
    "norm": {"scale": np.ones((4,), np.float32)},
  },
  "decoder": {"wo": {"kernel": np.full((6, 4), -2.0, np.float32)}},
}
AXES = {
  "encoder": {
    "wi": {"kernel": ("embed", "mlp")},
    "norm": {"scale": ("embed",)},
  },
  "decoder": {"wo": {"kernel": ("mlp", "embed")}},
}


def gradients(seed):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda p: rng.standard_normal(p.shape).astype(np.float32), PARAMS
  )


def train(optimizer, num_steps=4, learning_rate=0.1, params=PARAMS):
  state = optimizer.init(params, AXES)
  for t in range(num_steps):
    params, state = optimizer.update(
      gradients(t), state, params, AXES, t, jnp.float32(learning_rate)
    )
  return params, state


def train_optax(transformation, num_steps=4, params=PARAMS):
  state = transformation.init(params)
  for t in range(num_steps):
    updates, state = transformation.update(gradients(t), state, params)
    params = optax.apply_updates(params, updates)
  return params


def assert_trees_close(got, expected, rtol=1e-5, atol=1e-6):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
    got,
    expected,
  )


DECAYED = {
  "encoder": {"wi": {"kernel": True}, "norm": {"scale": False}},
  "decoder": {"wo": {"kernel": True}},
}


def test_adamw_equals_optax_and_spares_norms_from_decay():
  got, _ = train(optim.AdamW(b2=0.95, eps=1e-3, weight_decay=0.3))
  expected = train_optax(
    optax.adamw(0.1, b2=0.95, eps=1e-3, weight_decay=0.3, mask=DECAYED)
  )
  assert_trees_close(got, expected)


def test_adamw_clips_the_global_norm():
  got, _ = train(
    optim.AdamW(eps=1.0, weight_decay=0.0, global_norm_clip_threshold=0.1)
  )
  expected = train_optax(
    optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1, eps=1.0))
  )
  assert_trees_close(got, expected)


def test_lion_equals_optax():
  got, _ = train(optim.Lion(weight_decay=0.3))
  expected = train_optax(
    optax.lion(0.1, b2=0.99, weight_decay=0.3, mask=DECAYED)
  )
  assert_trees_close(got, expected)


def test_rms_scaled_adamw_takes_steps_in_proportion_to_each_tensor():
  options = dict(weight_decay=0.0, eps=1e-6, global_norm_clip_threshold=None)
  plain, _ = train(optim.AdamW(**options), num_steps=1)
  scaled, _ = train(optim.RMSScaledAdamW(**options), num_steps=1)

  def change(new):
    return jax.tree.map(np.subtract, new, PARAMS)

  rms = jax.tree.map(lambda p: np.sqrt((p**2).mean()), PARAMS)
  assert_trees_close(
    change(scaled), jax.tree.map(np.multiply, rms, change(plain))
  )


def test_rms_scaled_adamw_moves_a_tensor_of_zeros():
  zeros = jax.tree.map(np.zeros_like, PARAMS)
  optimizer = optim.RMSScaledAdamW(eps2=0.01, eps=0.0)
  new, _ = train(optimizer, num_steps=1, params=zeros)
  # The first step of Adam is the sign of the gradient.
  expected = jax.tree.map(lambda g: -0.1 * 0.01 * np.sign(g), gradients(0))
  assert_trees_close(new, expected)


@pytest.mark.parametrize(
  "optimizer",
  [optim.AdamW(), optim.RMSScaledAdamW(), optim.Lion(), optim.Adafactor()],
  ids=lambda o: type(o).__name__,
)
def test_scanned_layers_are_updated_as_unrolled_ones(optimizer):
  rng = np.random.default_rng(0)
  layers = [
    (0.1 + i) * rng.standard_normal((4, 6)).astype(np.float32) for i in range(3)
  ]
  grads = rng.standard_normal((3, 4, 6)).astype(np.float32)
  # One global norm: clipping is not what is compared.
  grads *= 0.1
  unrolled = {f"layers_{i}": x for i, x in enumerate(layers)}
  axes = dict.fromkeys(unrolled, ("embed", "mlp"))
  grads_by_layer = dict(zip(unrolled, grads, strict=True))
  one, _ = optimizer.update(
    grads_by_layer, optimizer.init(unrolled, axes), unrolled, axes, 0, 0.1
  )
  stacked, axes = (
    {"layers": np.stack(layers)},
    {"layers": ("layers", "embed", "mlp")},
  )
  other, _ = optimizer.update(
    {"layers": grads}, optimizer.init(stacked, axes), stacked, axes, 0, 0.1
  )
  np.testing.assert_allclose(
    other["layers"], np.stack(list(one.values())), rtol=1e-6
  )


@pytest.mark.parametrize(
  "optimizer",
  [
    optim.AdamW(mu_dtype="bfloat16"),
    optim.RMSScaledAdamW(),
    optim.Lion(mu_dtype="bfloat16"),
    optim.Adafactor(beta1=0.9),
    optim.OptaxOptimizer(optax.adafactor(), applies_learning_rate=True),
    optim.OptaxOptimizer(optax.MultiSteps(optax.adam(0.1), 2)),
    optim.freeze(optim.AdamW(), ["encoder"]),
  ],
  ids=lambda o: type(o).__name__,
)
def test_state_axes_have_a_name_for_every_dimension_of_the_state(optimizer):
  params, state = train(optimizer)
  axes = optimizer.state_axes(PARAMS, AXES)
  fits = jax.tree.map(lambda x, names: x.ndim == len(names), state, axes)
  assert all(jax.tree.leaves(fits))
  before = optimizer.init(PARAMS, AXES)

  def dtypes(tree):
    return jax.tree.map(lambda x: jnp.asarray(x).dtype, tree)

  assert dtypes(before) == dtypes(state)
  assert dtypes(PARAMS) == dtypes(params)


def test_optax_state_has_the_axes_of_the_parameters():
  axes = optim.Lion().state_axes(PARAMS, AXES)
  assert axes[0].mu == AXES
  assert axes[0].count == ()


def test_optax_optimizer_takes_the_steps_learning_rate():
  direction = optim.OptaxOptimizer(optax.identity())
  new, _ = train(direction, num_steps=1, learning_rate=0.25)
  expected = jax.tree.map(lambda p, g: p - 0.25 * g, PARAMS, gradients(0))
  assert_trees_close(new, expected)


def test_complete_optax_optimizer_keeps_its_own_learning_rate():
  complete = optim.OptaxOptimizer(optax.sgd(0.5), applies_learning_rate=True)
  new, _ = train(complete, num_steps=1, learning_rate=123.0)
  expected = jax.tree.map(lambda p, g: p - 0.5 * g, PARAMS, gradients(0))
  assert_trees_close(new, expected)


def test_frozen_parameters_stay_and_have_no_state():
  optimizer = optim.freeze(optim.Adafactor(), ["^encoder/"])
  new, state = train(optimizer)
  assert_trees_close(new["encoder"], PARAMS["encoder"], rtol=0, atol=0)
  assert not np.allclose(
    new["decoder"]["wo"]["kernel"], PARAMS["decoder"]["wo"]["kernel"]
  )
  assert set(state["1"]) == {"decoder"}
  assert not optimizer.is_trainable("encoder/wi/kernel")
  assert optimizer.is_trainable("decoder/wo/kernel")


def test_multi_optimizer_gives_each_group_its_own_rule():
  sgd = optim.OptaxOptimizer(optax.identity())
  optimizer = optim.MultiOptimizer((("scale$", sgd), (".*", optim.AdamW())))
  new, _ = train(optimizer)
  alone, _ = train(sgd)
  adam, _ = train(optim.AdamW())
  assert_trees_close(new["encoder"]["norm"], alone["encoder"]["norm"])
  assert_trees_close(new["encoder"]["wi"], adam["encoder"]["wi"])


def test_patterns_that_decide_nothing_are_mistakes():
  with pytest.raises(ValueError, match="'enocder' .* decides no parameter"):
    optim.freeze(optim.AdamW(), ["enocder"]).init(PARAMS, AXES)
  with pytest.raises(ValueError, match=r"no rule for the parameter decoder/wo"):
    optim.MultiOptimizer((("encoder", optim.AdamW()),)).init(PARAMS, AXES)


def test_clipping_leaves_small_and_zero_gradients_alone():
  small = {"a": np.float32([3e-3, 4e-3]), "b": np.zeros((2,), np.float32)}
  assert_trees_close(optim.global_norm_clip(small, 1.0), small, atol=0)
  zero = {"a": np.zeros((2,), np.float32)}
  assert_trees_close(optim.global_norm_clip(zero, 1.0), zero, atol=0)
  large = {"a": np.float32([3, 4])}
  assert_trees_close(optim.global_norm_clip(large, 1.0), {"a": [0.6, 0.8]})
