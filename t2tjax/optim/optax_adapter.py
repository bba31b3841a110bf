"""Optax transformations as optimizers, and Lion built on one.

Called by the train step; `OptaxOptimizer` takes any other transformation. May
import: layer 0, optim.base, optim.masks.
"""

import abc
from collections.abc import Sequence
import dataclasses

import jax
import optax

from t2tjax import trees
from t2tjax.optim import masks
from t2tjax.optim.base import Optimizer, OptState
from t2tjax.typing import Array, Params, PyTree


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
