"""What an optimizer is: three functions over parameter trees.

Called by every optimizer, by state and by the train step. May import: layer 0.
"""

import abc

from t2tjax.typing import Array, Params, PyTree

# Accumulators: a tree of arrays whose form is the optimizer's own.
OptState = PyTree


class Optimizer(abc.ABC):
  """Hyperparameters of an optimizer and the functions that use them.

  `axes` is always a tree like the parameters with a tuple of logical axis
  names at each leaf; it is static and decides, for example, which axis holds
  stacked layers.
  """

  @abc.abstractmethod
  def init(self, params: Params, axes: PyTree) -> OptState:
    """Returns the state before the first update; works under `eval_shape`."""

  @abc.abstractmethod
  def update(
    self,
    grads: Params,
    opt_state: OptState,
    params: Params,
    axes: PyTree,
    step: Array,
    learning_rate: Array,
  ) -> tuple[Params, OptState]:
    """Applies one update.

    Args:
      grads: gradients in float32, of the trainable parameters.
      opt_state: what `init` or the last update returned.
      params: parameters; dtypes are kept.
      axes: logical axes of `params`.
      step: int32 number of updates before this one.
      learning_rate: float32 scalar.

    Returns:
      New parameters and new state, of unchanged structure and dtypes.
    """

  @abc.abstractmethod
  def state_axes(self, params: Params, axes: PyTree) -> PyTree:
    """Returns the logical axes of every array of the state.

    Args:
      params: arrays or `ShapeDtypeStruct`s.
      axes: logical axes of `params`.
    """

  def is_trainable(self, name: str) -> bool:
    """Whether `update` may change the parameter `a/b/kernel`.

    The train step computes no gradient for the others.
    """
    del name
    return True
