"""Adafactor (arXiv:1804.04235) with T5X's rules for factoring and scaling.

Called by the train step. May import: layer 0, optim.base, optim.masks.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t2tjax import trees
from t2tjax.optim.base import Optimizer, OptState
from t2tjax.optim.masks import HParamMap, global_norm_clip
from t2tjax.typing import Array, LogicalAxes, Params, PyTree

# Columns from which a mean over rows is slow on CPU.
_WIDE = 8192

_KINDS = ("row", "column", "batch", "none")


def standard_logical_factor_rules() -> dict[str, str]:
  """Returns which logical axes are rows, columns, or batches of parameters."""
  return {
    "vocab": "column",
    "embed": "row",
    "mlp": "column",
    "heads": "column",
    "kv": "column",
    "joined_kv": "column",
    "relpos_buckets": "none",
    "lora_rank": "row",
    "layers": "batch",
    "stack": "batch",
  }


@dataclasses.dataclass(frozen=True)
class FactorPlan:
  """How one parameter is treated.

  Attributes:
    mean_dims: dimensions of one tensor: all but those that stack layers.
    row_dims: dimensions that `v_row` keeps; empty if not factored.
    column_dims: dimensions that `v_col` keeps; empty if not factored.
  """

  mean_dims: tuple[int, ...]
  row_dims: tuple[int, ...] = ()
  column_dims: tuple[int, ...] = ()

  @property
  def factored(self) -> bool:
    """Whether row and column means replace the full second moment."""
    return bool(self.row_dims)


@dataclasses.dataclass(frozen=True)
class Adafactor(Optimizer):
  """Adafactor as T5X trains T5 with it.

  The second moment of a matrix is kept as the outer product of its row and
  column means. What is a row and what a column is decided per parameter:

  1. `factor_map`, if given, names the kind of every dimension;
  2. else `logical_factor_rules` do by logical axis. Dimensions of kind batch
     (stacked layers) are set aside, so that a scanned layer is updated exactly
     as an unrolled one. If at most two dimensions remain, the larger is the
     column, and both must have `min_dim_size_to_factor`; with more, all must
     be rows or columns, and parameters with only one kind are not factored.

  Attributes:
    factored: False keeps the full second moment of everything.
    multiply_by_parameter_scale: makes steps relative to the RMS of the
      parameter; an `HParamMap` of booleans decides by name.
    beta1: momentum; None keeps none and saves its memory.
    decay_rate: the second moment decays by 1 - t ** -decay_rate.
    step_offset: step at which t is 1; earlier steps count as 1 (in T5X, their
      updates are NaN).
    clipping_threshold: largest RMS of an update before scaling, or None.
    weight_decay_rate: parameters shrink by this fraction per step.
    weight_decay_rate_lr_exponent: multiplies the weight decay rate (1 if it is
      None) by the learning rate to this power.
    min_dim_size_to_factor: see above.
    epsilon1: added to squared gradients.
    epsilon2: smallest parameter scale.
    max_parameter_scale: largest parameter scale, or None.
    dtype_momentum: dtype in which momentum is kept.
    factor_map: `HParamMap` to tuples of `row`, `column`, `batch`, `none`, or
      to `heuristic` for rule 2 or None for no factoring.
    logical_factor_rules: kinds by logical axis name; T5X's by default.
    global_norm_clip_threshold: gradients are scaled to at most this norm; None
      or 0 leaves them as they are.
    skip_nan_updates: elements whose update is NaN stay as they were.
    stacked_as_t5x: updates stacked (scanned) layers as T5X does, also where
      that is not the update of unrolled ones: matrices are factored whatever
      their size, and without `factored` all layers share one scale and one
      clipping. With dimensions of at least `min_dim_size_to_factor`, as all
      but the tiniest models have, only the latter differs.
  """

  factored: bool = True
  multiply_by_parameter_scale: bool | HParamMap = True
  beta1: float | None = None
  decay_rate: float = 0.8
  step_offset: int = 0
  clipping_threshold: float | None = 1.0
  weight_decay_rate: float | None = None
  weight_decay_rate_lr_exponent: float | None = None
  min_dim_size_to_factor: int = 128
  epsilon1: float = 1e-30
  epsilon2: float = 1e-3
  max_parameter_scale: float | None = None
  dtype_momentum: str = "float32"
  factor_map: HParamMap | None = None
  logical_factor_rules: Mapping[str, str] | None = None
  global_norm_clip_threshold: float | None = None
  skip_nan_updates: bool = False
  stacked_as_t5x: bool = False

  def __post_init__(self):
    if not self.factored and self.factor_map is not None:
      raise ValueError(
        "Adafactor.factor_map is given but Adafactor.factored is False; "
        "remove one of the two."
      )
    for axis, kind in (self.logical_factor_rules or {}).items():
      if kind not in _KINDS:
        raise ValueError(
          f"Adafactor.logical_factor_rules gives {axis!r} the kind {kind!r}; "
          f"kinds are {', '.join(_KINDS)}."
        )

  # ---- Which dimensions are what ------------------------------------------

  def plan(
    self, name: str, shape: tuple[int, ...], logical_axes: LogicalAxes
  ) -> FactorPlan:
    """Returns how the parameter of this name, shape and axes is treated."""
    if not self.factored:
      if self.stacked_as_t5x:
        return FactorPlan(tuple(range(len(shape))))
      kinds = self._kinds_by_axis(name, logical_axes)
      return FactorPlan(_dims(kinds, "row", "column", "none"))
    rule: Any = "heuristic"
    if self.factor_map is not None:
      rule = self.factor_map[name]
    if rule is None:
      return FactorPlan(tuple(range(len(shape))))
    explicit = rule != "heuristic"
    kinds = rule if explicit else self._kinds_by_axis(name, logical_axes)
    if len(kinds) != len(shape) or set(kinds) - set(_KINDS):
      raise ValueError(
        f"The factor rule {kinds} for parameter {name} of shape {shape} needs "
        f"one of {', '.join(_KINDS)} per dimension."
      )
    mean_dims = _dims(kinds, "row", "column", "none")
    stacked = len(mean_dims) < len(shape)
    by_size = not (stacked and (explicit or self.stacked_as_t5x))
    if len(mean_dims) <= 2 and by_size:
      return self._heuristic_plan(shape, mean_dims)
    if not {"row", "column"} <= set(kinds):
      return FactorPlan(mean_dims)
    if "none" in kinds and not explicit:
      raise ValueError(
        f"Parameter {name} {logical_axes} has the factor rule {kinds}: with "
        "rows and columns, no dimension can be none. Correct "
        "Adafactor.logical_factor_rules."
      )
    return FactorPlan(mean_dims, _dims(kinds, "row"), _dims(kinds, "column"))

  def _kinds_by_axis(
    self, name: str, logical_axes: LogicalAxes
  ) -> tuple[str, ...]:
    rules = self.logical_factor_rules
    if rules is None:
      rules = standard_logical_factor_rules()
    kinds = tuple(
      "none" if axis is None else rules.get(axis, "unknown")
      for axis in logical_axes
    )
    if "unknown" in kinds and kinds.count("batch") + 2 < len(kinds):
      raise ValueError(
        f"Parameter {name} has the logical axes {logical_axes}, of which "
        "Adafactor.logical_factor_rules does not know all. Add the missing "
        f"ones as one of {', '.join(_KINDS)}."
      )
    return tuple("none" if kind == "unknown" else kind for kind in kinds)

  def _heuristic_plan(
    self, shape: tuple[int, ...], mean_dims: tuple[int, ...]
  ) -> FactorPlan:
    if len(mean_dims) < 2:
      return FactorPlan(mean_dims)
    row, column = (
      mean_dims[i] for i in np.argsort([shape[d] for d in mean_dims])
    )
    if shape[row] < self.min_dim_size_to_factor:
      return FactorPlan(mean_dims)
    return FactorPlan(mean_dims, (row,), (column,))

  # ---- State --------------------------------------------------------------

  def init(self, params: Params, axes: PyTree) -> OptState:
    """Returns zeros: `v_row` and `v_col`, or `v`; and `m` with momentum."""

    def accumulators(name, param, logical_axes):
      shape = tuple(param.shape)
      plan = self.plan(name, shape, logical_axes)
      state = {
        key: jnp.zeros([shape[d] for d in dims], jnp.float32)
        for key, dims in _kept_dims(plan, len(shape)).items()
      }
      if self.beta1 is not None:
        state["m"] = jnp.zeros(shape, self.dtype_momentum)
      return state

    return trees.map_named(accumulators, params, axes)

  def state_axes(self, params: Params, axes: PyTree) -> PyTree:
    """Returns the axes of each accumulator: those of the kept dimensions."""

    def accumulator_axes(name, param, logical_axes):
      plan = self.plan(name, tuple(param.shape), logical_axes)
      state = {
        key: tuple(logical_axes[d] for d in dims)
        for key, dims in _kept_dims(plan, len(param.shape)).items()
      }
      if self.beta1 is not None:
        state["m"] = logical_axes
      return state

    return trees.map_named(accumulator_axes, params, axes)

  # ---- Update -------------------------------------------------------------

  def update(
    self,
    grads: Params,
    opt_state: OptState,
    params: Params,
    axes: PyTree,
    step: Array,
    learning_rate: Array,
  ) -> tuple[Params, OptState]:
    """Applies one update; see `Optimizer.update`."""
    grads = global_norm_clip(grads, self.global_norm_clip_threshold)
    age = jnp.maximum(step - self.step_offset, 0).astype(jnp.float32) + 1.0
    decay = 1.0 - age**-self.decay_rate

    def updated(name, param, grad, state, logical_axes):
      return self._update_parameter(
        name, param, grad, state, logical_axes, decay, learning_rate
      )

    results = trees.map_named(updated, params, grads, opt_state, axes)
    return (
      jax.tree.map(lambda _, result: result[0], params, results),
      jax.tree.map(lambda _, result: result[1], params, results),
    )

  def _update_parameter(
    self,
    name: str,
    param: Array,
    grad: Array,
    state: dict[str, Array],
    logical_axes: LogicalAxes,
    decay: Array,
    learning_rate: Array,
  ) -> tuple[Array, dict[str, Array]]:
    plan = self.plan(name, param.shape, logical_axes)
    grad = grad.astype(jnp.float32)
    value = param.astype(jnp.float32)
    factors, new_state = self._second_moment(plan, grad, state, decay)

    # All per-tensor scalars go into a small factor first, and small factors are
    # computed once, not again for every element they are broadcast to: the one
    # pass that writes the parameter has two products and a subtraction.
    scale = learning_rate * self._parameter_scale(name, plan, value)
    if plan.factored:
      factors = jax.lax.optimization_barrier(factors)
    if self.clipping_threshold is not None:
      update = grad
      for factor in factors:
        update = update * factor
      rms = jnp.sqrt(_mean(jnp.square(update), plan.mean_dims))
      scale = scale / jnp.maximum(1.0, rms / self.clipping_threshold)
    small = factors[0] * scale
    if plan.factored:
      small = jax.lax.optimization_barrier(small)
    update = grad * small
    for factor in factors[1:]:
      update = update * factor

    if self.beta1 is not None:
      update = self.beta1 * state["m"] + (1.0 - self.beta1) * update
      new_state["m"] = update.astype(self.dtype_momentum)
    weight_decay = self._weight_decay(learning_rate)
    if weight_decay is not None:
      value = (1.0 - weight_decay) * value
    new_param = (value - update).astype(param.dtype)

    if self.skip_nan_updates:
      new_param = jnp.where(jnp.isnan(new_param), param, new_param)
      new_state = {
        key: jnp.where(jnp.isnan(new), state[key], new)
        for key, new in new_state.items()
      }
    return new_param, new_state

  def _second_moment(
    self,
    plan: FactorPlan,
    grad: Array,
    state: dict[str, Array],
    decay: Array,
  ) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Returns what the gradient is multiplied with, and the new averages.

    The factors broadcast against the gradient; their product is 1 / sqrt(v).
    """
    square = jnp.square(grad)
    if not plan.factored:
      moment = decay * state["v"] + (1.0 - decay) * (square + self.epsilon1)
      return (jax.lax.rsqrt(moment),), {"v": moment}
    fresh = {
      "v_row": _mean(square, plan.column_dims),
      "v_col": _mean(square, plan.row_dims),
    }
    moments = {
      key: decay * jnp.expand_dims(state[key], removed)
      + (1.0 - decay) * (fresh[key] + self.epsilon1)
      for key, removed in (
        ("v_row", plan.column_dims),
        ("v_col", plan.row_dims),
      )
    }
    row_mean = _mean(moments["v_row"], plan.row_dims)
    factors = (
      jax.lax.rsqrt(moments["v_row"] / row_mean),
      jax.lax.rsqrt(moments["v_col"]),
    )
    return factors, {
      "v_row": jnp.squeeze(moments["v_row"], plan.column_dims),
      "v_col": jnp.squeeze(moments["v_col"], plan.row_dims),
    }

  def _parameter_scale(
    self, name: str, plan: FactorPlan, value: Array
  ) -> Array | float:
    relative = self.multiply_by_parameter_scale
    if isinstance(relative, HParamMap):
      relative = relative[name]
    if not relative:
      return 1.0
    scale = jnp.sqrt(_mean(jnp.square(value), plan.mean_dims))
    scale = jnp.maximum(scale, self.epsilon2)
    if self.max_parameter_scale is not None:
      scale = jnp.minimum(scale, self.max_parameter_scale)
    return scale

  def _weight_decay(self, learning_rate: Array) -> Array | float | None:
    rate = self.weight_decay_rate
    exponent = self.weight_decay_rate_lr_exponent
    if not exponent:
      return rate
    return (rate or 1.0) * learning_rate**exponent


def _dims(kinds: tuple[str, ...], *wanted: str) -> tuple[int, ...]:
  return tuple(dim for dim, kind in enumerate(kinds) if kind in wanted)


def _kept_dims(plan: FactorPlan, rank: int) -> dict[str, tuple[int, ...]]:
  """Returns the dimensions of each second-moment accumulator."""
  if not plan.factored:
    return {"v": tuple(range(rank))}
  return {
    "v_row": tuple(d for d in range(rank) if d not in plan.column_dims),
    "v_col": tuple(d for d in range(rank) if d not in plan.row_dims),
  }


def _mean(x: Array, dims: tuple[int, ...]) -> Array:
  plain = lambda x: jnp.mean(x, axis=dims, keepdims=True)  # noqa: E731
  if dims != (0,) or x.ndim != 2 or x.shape[1] < _WIDE:
    return plain(x)
  # XLA's CPU reduction walks down each column of a wide matrix and misses the
  # cache every time; the product with ones does not (10x on [256, 32128]).
  by_product = lambda x: jnp.full((1, x.shape[0]), 1.0 / x.shape[0]) @ x  # noqa: E731
  return jax.lax.platform_dependent(x, cpu=by_product, default=plain)
