"""Optax transformations as optimizers: AdamW, Lion, AdamW with RMS scaling.

Called by the train step; `OptaxOptimizer` takes any other transformation. May
import: layer 0, optim.base, optim.masks.
"""

import abc
from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
import optax

from t2tjax import trees
from t2tjax.optim import masks
from t2tjax.optim.base import Optimizer, OptState
from t2tjax.typing import Array, LogicalAxes, Params, PyTree


class _OptaxBacked(Optimizer):
  """An optimizer whose state is that of an optax transformation."""

  # Whether updates are added as they are: they then contain the (negative)
  # learning rate.
  applies_learning_rate: bool = False

  @abc.abstractmethod
  def build(self, axes: PyTree) -> optax.GradientTransformation:
    """Returns the transformation for parameters with these axes."""

  def init(self, params: Params, axes: PyTree) -> OptState:
    """Returns the transformation's state."""
    return self.build(axes).init(params)

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
    del step  # Transformations count for themselves.
    updates, new_state = self.build(axes).update(grads, opt_state, params)
    factor = 1.0 if self.applies_learning_rate else -learning_rate
    new_params = jax.tree.map(
      lambda p, u: (p + factor * u).astype(p.dtype), params, updates
    )
    return new_params, new_state

  def state_axes(self, params: Params, axes: PyTree) -> PyTree:
    """Returns the parameters' axes for copies of their tree, else no axes."""
    transformation = self.build(axes)
    state = jax.eval_shape(transformation.init, params)
    unnamed = lambda array: (None,) * len(array.shape)  # noqa: E731

    def copied(array, param, logical_axes):
      if isinstance(array, optax.MaskedNode):
        return array
      same = array.shape == param.shape
      return logical_axes if same else unnamed(array)

    return optax.tree.map_params(
      transformation,
      copied,
      state,
      params,
      axes,
      transform_non_params=unnamed,
      is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )


@dataclasses.dataclass(frozen=True)
class OptaxOptimizer(_OptaxBacked):
  """Any optax transformation.

  Attributes:
    transformation: for example `optax.chain(optax.clip(1.0),
      optax.scale_by_adam())`, whose result is multiplied by minus the step's
      learning rate.
    applies_learning_rate: True for complete optimizers such as
      `optax.sgd(0.1)`, which bring their own learning rate; that of the trainer
      is then only shown.
  """

  transformation: optax.GradientTransformation
  applies_learning_rate: bool = False

  def build(self, axes: PyTree) -> optax.GradientTransformation:
    """Returns the transformation itself."""
    del axes
    return self.transformation


@dataclasses.dataclass(frozen=True)
class AdamW(_OptaxBacked):
  """Adam with decoupled weight decay (arXiv:1711.05101).

  Attributes:
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second moment.
    weight_decay: parameters shrink by this times the learning rate.
    no_weight_decay: regular expressions of names that do not shrink.
    global_norm_clip_threshold: gradients are scaled to at most this norm.
    mu_dtype: dtype of the first moment; the parameter's by default.
  """

  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 0.01
  no_weight_decay: Sequence[str] = masks.NO_WEIGHT_DECAY
  global_norm_clip_threshold: float | None = None
  mu_dtype: str | None = None

  def build(self, axes: PyTree) -> optax.GradientTransformation:
    """Returns clipping, Adam's direction and weight decay."""
    del axes
    return optax.chain(
      *_clip(self.global_norm_clip_threshold),
      optax.scale_by_adam(self.b1, self.b2, self.eps, mu_dtype=self.mu_dtype),
      *_decay(self.weight_decay, self.no_weight_decay),
    )


@dataclasses.dataclass(frozen=True)
class RMSScaledAdamW(_OptaxBacked):
  """AdamW whose step is relative to the size of each tensor, as in nanoT5.

  Adam's direction is multiplied by max(`eps2`, RMS of the parameter), which
  makes learning rates of Adafactor's order fit and trains T5 from scratch.

  Attributes:
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second moment.
    eps2: smallest scale.
    weight_decay: parameters shrink by this times the learning rate.
    no_weight_decay: regular expressions of names that do not shrink.
    global_norm_clip_threshold: gradients are scaled to at most this norm.
    mu_dtype: dtype of the first moment; the parameter's by default.
  """

  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-6
  eps2: float = 1e-3
  weight_decay: float = 0.0
  no_weight_decay: Sequence[str] = masks.NO_WEIGHT_DECAY
  global_norm_clip_threshold: float | None = 1.0
  mu_dtype: str | None = None

  def build(self, axes: PyTree) -> optax.GradientTransformation:
    """Returns clipping, Adam's direction, RMS scaling and weight decay."""
    return optax.chain(
      *_clip(self.global_norm_clip_threshold),
      optax.scale_by_adam(self.b1, self.b2, self.eps, mu_dtype=self.mu_dtype),
      scale_by_parameter_rms(self.eps2, axes),
      *_decay(self.weight_decay, self.no_weight_decay),
    )


@dataclasses.dataclass(frozen=True)
class Lion(_OptaxBacked):
  """Lion: the sign of an interpolated momentum (arXiv:2302.06675).

  Attributes:
    b1: weight of the momentum in the direction of a step.
    b2: decay of the momentum.
    weight_decay: parameters shrink by this times the learning rate.
    no_weight_decay: regular expressions of names that do not shrink.
    global_norm_clip_threshold: gradients are scaled to at most this norm.
    mu_dtype: dtype of the momentum; the parameter's by default.
  """

  b1: float = 0.9
  b2: float = 0.99
  weight_decay: float = 0.1
  no_weight_decay: Sequence[str] = masks.NO_WEIGHT_DECAY
  global_norm_clip_threshold: float | None = None
  mu_dtype: str | None = None

  def build(self, axes: PyTree) -> optax.GradientTransformation:
    """Returns clipping, Lion's direction and weight decay."""
    del axes
    return optax.chain(
      *_clip(self.global_norm_clip_threshold),
      optax.scale_by_lion(self.b1, self.b2, mu_dtype=self.mu_dtype),
      *_decay(self.weight_decay, self.no_weight_decay),
    )


def scale_by_parameter_rms(
  eps: float, axes: PyTree
) -> optax.GradientTransformation:
  """Multiplies each update by max(eps, RMS) of its parameter.

  Args:
    eps: smallest scale.
    axes: logical axes; along `layers` every layer is a tensor of its own.
  """

  def scaled(param: Array, update: Array, logical_axes: LogicalAxes) -> Array:
    dims = tuple(i for i, axis in enumerate(logical_axes) if axis != "layers")
    square = jnp.square(param.astype(jnp.float32))
    rms = jnp.sqrt(jnp.mean(square, axis=dims, keepdims=True))
    return update * jnp.maximum(rms, eps)

  return optax.stateless(
    lambda updates, params: jax.tree.map(scaled, params, updates, axes)
  )


def _clip(threshold: float | None) -> list[optax.GradientTransformation]:
  if threshold is None:
    return []
  return [
    optax.stateless(lambda grads, _: masks.global_norm_clip(grads, threshold))
  ]


def _decay(
  rate: float, no_weight_decay: Sequence[str]
) -> list[optax.GradientTransformation]:
  """Returns weight decay for all names that no pattern is found in."""
  if not rate:
    return []

  def decayed(updates, params):
    return trees.map_named(
      lambda name, param, update: (
        update
        if masks.matches(name, no_weight_decay)
        else update + rate * param
      ),
      params,
      updates,
    )

  return [optax.stateless(decayed)]
