"""Which dtype every number has when activations are bf16."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import BATCH_SPEC, tiny_model

from t2tjax import models, networks, optim
from t2tjax.layers.relative_position import relative_position_buckets
from t2tjax.state import abstract_state
from t2tjax.trainer.step import make_train_step

ROOT = pathlib.Path(__file__).parents[2]
FP32 = jnp.dtype("float32")


def equations(jaxpr):
  """Yields every equation of a program, those of its inner ones included."""
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else (value,):
        inner = getattr(inner, "jaxpr", inner)
        if hasattr(inner, "eqns"):
          yield from equations(inner)


def decoder_only_model(**overrides):
  sizes = dict(vocab_size=64, emb_dim=16, num_heads=8, head_dim=4, mlp_dim=32)
  encoder_decoder = tiny_model()
  return models.DecoderOnlyModel(
    module=networks.DecoderOnly(
      networks.DecoderOnlyConfig(num_layers=1, **sizes, **overrides)
    ),
    vocabulary=encoder_decoder.output_vocabulary,
    optimizer_def=None,
    z_loss=1e-3,
    label_smoothing=0.1,
  )


DECODER_SPEC = {
  name: spec for name, spec in BATCH_SPEC.items() if name.startswith("decoder")
} | {"decoder_causal_attention": jax.ShapeDtypeStruct((16, 8), np.int32)}


@pytest.fixture(params=[tiny_model, decoder_only_model], ids=["t5", "lm"])
def family(request):
  spec = BATCH_SPEC if request.param is tiny_model else DECODER_SPEC
  return request.param, spec


def traced_step(make_model, spec, optimizer=None, **overrides):
  """Returns the train step's program, its new state and its metrics."""
  model = make_model(dtype="bfloat16", dropout_rate=0.1, **overrides)
  optimizer = optimizer or optim.Adafactor(min_dim_size_to_factor=8)
  state, axes = abstract_state(model, optimizer, spec)
  step = make_train_step(model, optimizer, axes, lambda s: 0.1 + 0.0 * s)
  program, shapes = jax.make_jaxpr(step, return_shape=True)(state, spec)
  return program.jaxpr, state, *shapes


@pytest.mark.parametrize(
  "layout",
  [{}, {"scan_layers": True}, {"scan_layers": True, "remat_policy": "full"}],
  ids=["unrolled", "scanned", "scanned and rematerialised"],
)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_exponentials_logarithms_and_roots_of_a_bf16_step_are_fp32(
  family, tied, layout
):
  """Attention softmax, normalisers of the loss, norm statistics, optimizer."""
  program, *_ = traced_step(*family, logits_via_embedding=tied, **layout)
  seen = {
    (equation.primitive.name, var.aval.dtype)
    for equation in equations(program)
    for var in equation.invars
    if equation.primitive.name in ("exp", "log", "rsqrt", "sqrt")
    and jnp.issubdtype(var.aval.dtype, jnp.floating)
  }
  assert {name for name, _ in seen} >= {"exp", "log", "rsqrt"}
  assert {dtype for _, dtype in seen} == {FP32}, seen


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_logits_of_a_bf16_step_are_fp32_products(family, tied):
  program, *_ = traced_step(*family, logits_via_embedding=tied)
  readouts = [
    equation
    for equation in equations(program)
    if equation.primitive.name == "dot_general"
    and 64 in equation.outvars[0].aval.shape  # the vocabulary
    and len(equation.outvars[0].aval.shape) == 3
  ]
  assert readouts
  for equation in readouts:
    dtypes = {v.aval.dtype for v in (*equation.invars, *equation.outvars)}
    assert dtypes == {FP32}, equation


def test_most_products_of_a_bf16_step_are_bf16(family):
  """What is fp32 above is so by choice, not because all is."""
  program, *_ = traced_step(*family)
  products = [
    equation.invars[0].aval.dtype.name
    for equation in equations(program)
    if equation.primitive.name == "dot_general"
  ]
  assert products.count("bfloat16") > products.count("float32")


@pytest.mark.parametrize(
  "optimizer",
  [
    optim.Adafactor(min_dim_size_to_factor=8, beta1=0.9),
    optim.AdamW(),
    optim.RMSScaledAdamW(),
    optim.Lion(),
  ],
  ids=lambda o: type(o).__name__,
)
@pytest.mark.parametrize("scan_layers", [False, True])
def test_master_parameters_and_optimizer_state_stay_fp32_under_bf16(
  optimizer, scan_layers
):
  _, before, after, metrics = traced_step(
    tiny_model, BATCH_SPEC, optimizer, scan_layers=scan_layers
  )
  floating = [
    leaf.dtype
    for leaf in jax.tree.leaves((after.params, after.opt_state, metrics))
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
  assert set(floating) == {FP32}
  describe = lambda leaf: (leaf.shape, leaf.dtype)  # noqa: E731
  assert jax.tree.map(describe, after) == jax.tree.map(describe, before)


def _exact_bucket(distance, bidirectional, num_buckets=32, max_distance=128):
  """Returns the bucket of `memory - query`, by fp64 arithmetic."""
  bucket = 0
  if bidirectional:
    num_buckets //= 2
    bucket = num_buckets if distance > 0 else 0
    distance = abs(distance)
  else:
    distance = max(-distance, 0)
  exact = num_buckets // 2
  if distance < exact:
    return bucket + distance
  coarse = np.log(distance / exact) / np.log(max_distance / exact)
  return bucket + min(exact + int(coarse * exact), num_buckets - 1)


@pytest.mark.parametrize(
  "distance, bidirectional",
  [(45, True), (-45, True), (90, True), (-90, True), (-76, False)]
  + [(-112, False)],
)
def test_buckets_are_right_at_the_distances_where_bf16_errs(
  distance, bidirectional
):
  found = relative_position_buckets(
    np.array(distance),
    bidirectional=bidirectional,
    num_buckets=32,
    max_distance=128,
  )
  assert int(found) == _exact_bucket(distance, bidirectional)


def test_only_t5_1_0_ties_its_readout():
  for family in (ROOT / "gin_configs" / "models").glob("*/family.gin"):
    tied = re.search(r"logits_via_embedding = (\w+)", family.read_text())
    assert tied is not None, family
    assert (tied[1] == "True") == (family.parent.name == "t5_1_0"), family
