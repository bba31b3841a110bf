"""AdamW, and AdamW whose step is relative to the size of each tensor.

Called by the train step. May import: layer 0, optim.base, optim.masks.
"""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp

from t2tjax import trees
from t2tjax.optim import masks
from t2tjax.optim.base import Optimizer, OptState
from t2tjax.typing import Array, LogicalAxes, Params, PyTree


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
  """Adam with decoupled weight decay (arXiv:1711.05101).

  It equals `optax.adamw`; here the moments are plain trees like the parameters,
  and the learning rate is that of the step.

  Attributes:
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second moment.
    weight_decay: parameters shrink by this times the learning rate.
    no_weight_decay: regular expressions of names that do not shrink.
    global_norm_clip_threshold: gradients are scaled to at most this norm.
    mu_dtype: dtype in which the mean of gradients is kept.
  """

  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 0.01
  no_weight_decay: Sequence[str] = masks.NO_WEIGHT_DECAY
  global_norm_clip_threshold: float | None = None
  mu_dtype: str = "float32"

  def init(self, params: Params, axes: PyTree) -> OptState:
    """Returns zero moments and the count of updates."""
    del axes

    def zeros(dtype):
      return jax.tree.map(lambda p: jnp.zeros(p.shape, dtype), params)

    return {
      "count": jnp.zeros((), jnp.int32),
      "mu": zeros(self.mu_dtype),
      "nu": zeros(jnp.float32),
    }

  def state_axes(self, params: Params, axes: PyTree) -> PyTree:
    """Returns the parameters' axes for both moments."""
    del params
    return {"count": (), "mu": axes, "nu": axes}

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
    del step  # Bias is that of this state's age, as after a fresh start.
    grads = masks.global_norm_clip(grads, self.global_norm_clip_threshold)
    count = opt_state["count"] + 1
    # Computed once, not again in the loop over every parameter's elements.
    mu_scale, nu_scale = jax.lax.optimization_barrier(
      (
        learning_rate / (1.0 - jnp.float32(self.b1) ** count),
        1.0 / (1.0 - jnp.float32(self.b2) ** count),
      )
    )

    def updated(name, param, grad, mu, nu, logical_axes):
      value, grad = param.astype(jnp.float32), grad.astype(jnp.float32)
      mu = self.b1 * mu.astype(jnp.float32) + (1.0 - self.b1) * grad
      nu = self.b2 * nu + (1.0 - self.b2) * jnp.square(grad)
      scale = mu_scale * self._tensor_scale(value, logical_axes)
      change = scale * mu / (jnp.sqrt(nu_scale * nu) + self.eps)
      if self.weight_decay and not masks.matches(name, self.no_weight_decay):
        change = change + learning_rate * self.weight_decay * value
      return (value - change).astype(param.dtype), mu.astype(self.mu_dtype), nu

    results = trees.map_named(
      updated, params, grads, opt_state["mu"], opt_state["nu"], axes
    )
    new_params, mu, nu = (
      jax.tree.map(lambda _, result, i=i: result[i], params, results)
      for i in range(3)
    )
    return new_params, {"count": count, "mu": mu, "nu": nu}

  def _tensor_scale(
    self, value: Array, logical_axes: LogicalAxes
  ) -> Array | float:
    del value, logical_axes
    return 1.0


@dataclasses.dataclass(frozen=True)
class RMSScaledAdamW(AdamW):
  """AdamW whose step is relative to the size of each tensor, as in nanoT5.

  Adam's direction is multiplied by max(`eps2`, RMS of the parameter), so that
  learning rates of Adafactor's order fit and T5 trains from scratch. Weight
  decay is not scaled. Stacked layers are tensors of their own.

  Attributes:
    eps: see `AdamW`.
    weight_decay: see `AdamW`.
    global_norm_clip_threshold: see `AdamW`.
    eps2: smallest scale.
  """

  eps: float = 1e-6
  weight_decay: float = 0.0
  global_norm_clip_threshold: float | None = 1.0
  eps2: float = 1e-3

  def _tensor_scale(
    self, value: Array, logical_axes: LogicalAxes
  ) -> Array | float:
    dims = tuple(i for i, axis in enumerate(logical_axes) if axis != "layers")
    rms = jnp.sqrt(jnp.mean(jnp.square(value), axis=dims, keepdims=True))
    return jax.lax.optimization_barrier(jnp.maximum(rms, self.eps2))
