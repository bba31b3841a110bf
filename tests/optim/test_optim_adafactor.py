"""Adafactor against a float64 reference written from the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax.optim import Adafactor, HParamMap

# Wide enough for the heuristic, transposed shapes, a table too narrow for it,
# a vector, and a tensor of rank three.
SHAPES = {
  "wi": ((130, 160), ("embed", "mlp")),
  "wo": ((160, 130), ("mlp", "embed")),
  "square": ((128, 128), ("embed", "joined_kv")),
  "rel_embedding": ((4, 32), ("heads", "relpos_buckets")),
  "scale": ((130,), ("embed",)),
  "query": ((24, 3, 5), ("embed", "heads", "kv")),
}
AXES = {name: axes for name, (_, axes) in SHAPES.items()}


def random_tree(seed, scale=1.0, shapes=None):
  rng = np.random.default_rng(seed)
  shapes = shapes or {name: shape for name, (shape, _) in SHAPES.items()}
  return {
    name: (scale * rng.standard_normal(shape)).astype(np.float32)
    for name, shape in shapes.items()
  }


class Reference:
  """One tensor's Adafactor in float64, second moment held as a full matrix."""

  def __init__(self, value, rows, columns, **options):
    self.x = value.astype(np.float64)
    self.rows, self.columns = rows, columns
    self.o = dict(
      decay_rate=0.8,
      step_offset=0,
      clipping_threshold=1.0,
      epsilon1=1e-30,
      epsilon2=1e-3,
      relative=True,
      beta1=None,
      weight_decay=0.0,
      max_scale=np.inf,
    )
    self.o.update(options)
    self.r = self.c = self.v = self.m = 0.0

  def step(self, t, g, lr):
    o, g = self.o, g.astype(np.float64)
    beta2 = 1.0 - (t - o["step_offset"] + 1.0) ** -o["decay_rate"]
    square = g**2 + o["epsilon1"]
    if self.rows is None:
      self.v = beta2 * self.v + (1 - beta2) * square
      v = self.v
    else:

      def mean(dims):
        return square.mean(axis=dims, keepdims=True)

      self.r = beta2 * self.r + (1 - beta2) * mean(self.columns)
      self.c = beta2 * self.c + (1 - beta2) * mean(self.rows)
      v = self.r * self.c / self.r.mean()
    u = g / np.sqrt(v)
    if o["clipping_threshold"] is not None:
      u /= max(1.0, np.sqrt((u**2).mean()) / o["clipping_threshold"])
    alpha = lr
    if o["relative"]:
      rms = np.sqrt((self.x**2).mean())
      alpha *= min(max(o["epsilon2"], rms), o["max_scale"])
    u *= alpha
    if o["beta1"] is not None:
      self.m = o["beta1"] * self.m + (1 - o["beta1"]) * u
      u = self.m
    self.x = (1 - o["weight_decay"]) * self.x - u
    return self.x


DIMS = {
  "wi": ((0,), (1,)),
  "wo": ((1,), (0,)),
  "square": ((0,), (1,)),
  "rel_embedding": (None, None),
  "scale": (None, None),
  "query": ((0,), (1, 2)),
}


def assert_follows_reference(optimizer, first_step=0, **options):
  params = random_tree(0, 0.05)
  references = {
    name: Reference(params[name], *DIMS[name], **options) for name in SHAPES
  }
  state = optimizer.init(params, AXES)
  update = jax.jit(lambda *args: optimizer.update(*args[:3], AXES, *args[3:]))
  for t in range(first_step, first_step + 5):
    grads = random_tree(t + 1, 10.0 ** (t - first_step - 3))
    params, state = update(grads, state, params, t, jnp.float32(0.1))
    for name, reference in references.items():
      expected = reference.step(t, grads[name], 0.1)
      np.testing.assert_allclose(
        params[name], expected, rtol=2e-5, atol=2e-7, err_msg=name
      )
  return state


def test_five_updates_equal_the_paper():
  state = assert_follows_reference(Adafactor())
  assert {k: v.shape for k, v in state["query"].items()} == {
    "v_row": (24,),
    "v_col": (3, 5),
  }
  assert set(state["scale"]) == {"v"}


@pytest.mark.parametrize(
  "options",
  [
    dict(beta1=0.9),
    dict(clipping_threshold=None),
    dict(clipping_threshold=0.5, decay_rate=0.6),
    dict(epsilon2=0.2),
    dict(epsilon1=1e-4),
  ],
  ids=str,
)
def test_every_hyperparameter_has_the_papers_meaning(options):
  assert_follows_reference(Adafactor(**options), **options)


def test_steps_can_be_absolute_or_relative_by_name():
  assert_follows_reference(
    Adafactor(multiply_by_parameter_scale=False), relative=False
  )
  assert_follows_reference(
    Adafactor(multiply_by_parameter_scale=HParamMap(((".*", False),))),
    relative=False,
  )


def test_step_offset_restarts_the_second_moment():
  assert_follows_reference(
    Adafactor(step_offset=1000), first_step=1000, step_offset=1000
  )


def test_a_step_before_the_offset_is_no_nan():
  optimizer = Adafactor(step_offset=1000)
  params = random_tree(0)
  new, _ = optimizer.update(
    params, optimizer.init(params, AXES), params, AXES, 3, 0.1
  )
  assert all(np.isfinite(x).all() for x in new.values())


@pytest.mark.parametrize(
  ("rate", "exponent", "effective"),
  [(0.01, None, 0.01), (None, 2.0, 0.01), (0.5, 2.0, 0.005)],
)
def test_weight_decay_follows_rate_and_exponent(rate, exponent, effective):
  assert_follows_reference(
    Adafactor(weight_decay_rate=rate, weight_decay_rate_lr_exponent=exponent),
    weight_decay=effective,
  )


def test_parameter_scale_has_an_upper_limit():
  assert_follows_reference(Adafactor(max_parameter_scale=0.02), max_scale=0.02)


def test_unfactored_keeps_the_full_second_moment(monkeypatch):
  monkeypatch.setattr(
    "test_optim_adafactor.DIMS", dict.fromkeys(DIMS, (None, None))
  )
  state = assert_follows_reference(Adafactor(factored=False))
  assert state["wi"]["v"].shape == (130, 160)


def test_global_norm_clip_scales_all_gradients_together():
  params, grads = random_tree(0), random_tree(1)
  norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
  # epsilon1 breaks Adafactor's invariance to the scale of the gradients.
  clipped = Adafactor(global_norm_clip_threshold=0.5, epsilon1=1e-4)
  plain = Adafactor(epsilon1=1e-4)
  state = plain.init(params, AXES)
  scaled = {k: (g * 0.5 / norm).astype(np.float32) for k, g in grads.items()}
  got, _ = clipped.update(grads, state, params, AXES, 3, 0.1)
  expected, _ = plain.update(scaled, state, params, AXES, 3, 0.1)
  for name in params:
    np.testing.assert_allclose(got[name], expected[name], rtol=2e-5, atol=1e-6)
  untouched, _ = plain.update(grads, state, params, AXES, 3, 0.1)
  assert not np.allclose(got["wi"], untouched["wi"], rtol=1e-4)


def test_skip_nan_updates_keeps_what_would_become_nan():
  optimizer = Adafactor(skip_nan_updates=True, beta1=0.9)
  params, grads = random_tree(0), random_tree(1)
  grads["wi"][3, 4] = np.nan
  state = optimizer.init(params, AXES)
  new, new_state = optimizer.update(grads, state, params, AXES, 0, 0.1)
  np.testing.assert_array_equal(new["wi"], params["wi"])
  assert not np.allclose(new["wo"], params["wo"])
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(new_state))


def test_scanned_layers_are_updated_as_unrolled_ones():
  shapes = {name: shape for name, (shape, _) in SHAPES.items()}
  layers = [random_tree(10 + i, 0.05 * (i + 1), shapes) for i in range(3)]

  def stack(trees):
    return jax.tree.map(lambda *x: np.stack(x), *trees)

  axes = {name: ("layers", *names) for name, names in AXES.items()}
  optimizer = Adafactor(beta1=0.5, weight_decay_rate=0.01)
  scanned = stack(layers)
  scanned_state = optimizer.init(scanned, axes)
  states = [optimizer.init(layer, AXES) for layer in layers]
  for t in range(3):
    grads = [random_tree(100 * t + i, 0.1 + i) for i in range(3)]
    scanned, scanned_state = optimizer.update(
      stack(grads), scanned_state, scanned, axes, t, 0.1
    )
    pairs = [
      optimizer.update(g, s, p, AXES, t, 0.1)
      for g, s, p in zip(grads, states, layers, strict=True)
    ]
    layers, states = map(list, zip(*pairs, strict=True))
  for got, expected in ((scanned, layers), (scanned_state, states)):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
      got,
      stack(expected),
    )


def test_state_axes_name_the_dimensions_that_are_kept():
  optimizer = Adafactor(beta1=0.9)
  axes = optimizer.state_axes(random_tree(0), AXES)
  assert axes["wi"] == {
    "v_row": ("embed",),
    "v_col": ("mlp",),
    "m": ("embed", "mlp"),
  }
  assert axes["query"]["v_col"] == ("heads", "kv")
  assert axes["scale"] == {"v": ("embed",), "m": ("embed",)}


def test_factor_map_overrides_the_logical_rules():
  optimizer = Adafactor(
    min_dim_size_to_factor=1,
    factor_map=HParamMap(
      (
        ("query", ("column", "row", "row")),
        ("wi", None),
        (".*", "heuristic"),
      )
    ),
  )
  state = optimizer.init(random_tree(0), AXES)
  assert state["query"]["v_row"].shape == (3, 5)
  assert set(state["wi"]) == {"v"}
  assert set(state["rel_embedding"]) == {"v_row", "v_col"}


def test_bfloat16_parameters_and_momentum_keep_their_dtypes():
  optimizer = Adafactor(beta1=0.9, dtype_momentum="bfloat16")
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), random_tree(0))
  state = optimizer.init(params, AXES)
  new, new_state = optimizer.update(random_tree(1), state, params, AXES, 0, 0.1)

  def dtypes(tree):
    return jax.tree.map(lambda x: x.dtype, tree)

  assert dtypes(new) == dtypes(params)
  assert dtypes(new_state) == dtypes(state)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match="factored is False"):
    Adafactor(factored=False, factor_map=HParamMap(()))
  with pytest.raises(ValueError, match="kinds are row, column, batch, none"):
    Adafactor(logical_factor_rules={"embed": "rows"})
  params = {"a": {"kernel": np.zeros((2, 3, 4), np.float32)}}
  axes = {"a": {"kernel": ("embed", "heads", "bananas")}}
  with pytest.raises(ValueError, match=r"a/kernel .*bananas"):
    Adafactor().init(params, axes)
  axes = {"a": {"kernel": ("embed", "heads", "relpos_buckets")}}
  with pytest.raises(ValueError, match="no dimension can be none"):
    Adafactor().init(params, axes)
  with pytest.raises(ValueError, match=r"no rule for the parameter a/kernel"):
    Adafactor(factor_map=HParamMap((("b/", None),))).init(params, axes)
