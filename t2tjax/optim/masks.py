"""Choosing parameters by name: hyperparameters, freezing, several optimizers.

Called by optimizers, run functions and gin. May import: layer 0, optim.base.
"""

from collections.abc import Sequence
import dataclasses
import re
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp

from t2tjax.optim.base import Optimizer, OptState
from t2tjax.typing import Array, Params, PyTree

# Norm scales, biases and T5's position biases: not weights of a product.
NO_WEIGHT_DECAY = ("(^|/)scale$", "(^|/)bias$", "(^|/)rel_embedding$")


def matches(name: str, patterns: Sequence[str]) -> bool:
  """Whether any regular expression is found in `a/b/kernel`."""
  return any(re.search(pattern, name) for pattern in patterns)


@dataclasses.dataclass(frozen=True)
class HParamMap:
  """A hyperparameter that depends on the parameter's name.

  Attributes:
    rules: `(regular expression, value)` pairs; the first that is found in the
      name counts.
  """

  rules: Sequence[tuple[str, Any]]

  def __getitem__(self, name: str) -> Any:
    for pattern, value in self.rules:
      if re.search(pattern, name):
        return value
    raise ValueError(
      f"HParamMap has no rule for the parameter {name}; its patterns are "
      f"{[pattern for pattern, _ in self.rules]}. Append ('.*', default) to "
      "HParamMap.rules."
    )


def global_norm(tree: PyTree) -> Array:
  """Returns the float32 L2 norm over all arrays of a tree."""
  squares = [
    jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)
  ]
  return jnp.sqrt(sum(squares, jnp.float32(0.0)))


def global_norm_clip(grads: Params, threshold: float | None) -> Params:
  """Scales all gradients so that their global norm is at most `threshold`.

  None and, as in T5X, 0 leave them as they are.
  """
  if not threshold:
    return grads
  # A norm of zero gives 1/0 = inf, of which the minimum is 1.
  scale = jnp.minimum(1.0, threshold / global_norm(grads))
  return jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)


def _select(tree: PyTree, names: set[str]) -> PyTree:
  """Returns the nested dict of the named leaves only."""
  flat = traverse_util.flatten_dict(tree, sep="/")
  return traverse_util.unflatten_dict(
    {k: v for k, v in flat.items() if k in names}, sep="/"
  )


@dataclasses.dataclass(frozen=True)
class MultiOptimizer(Optimizer):
  """Several optimizers, each for the parameters that its pattern finds.

  Attributes:
    rules: `(regular expression, optimizer)` pairs; the first pattern found in
      a name counts. `None` for an optimizer freezes the parameters: no update,
      no state and no gradient.
  """

  rules: Sequence[tuple[str, Optimizer | None]]

  def _group_of(self, name: str) -> int:
    for index, (pattern, _) in enumerate(self.rules):
      if re.search(pattern, name):
        return index
    raise ValueError(
      f"MultiOptimizer has no rule for the parameter {name}; its patterns "
      f"are {[pattern for pattern, _ in self.rules]}. Append ('.*', "
      "optimizer) to MultiOptimizer.rules."
    )

  def _groups(self, params: Params):
    """Yields `(key, optimizer, names)` of the groups that train."""
    names: dict[int, set[str]] = {}
    for name in traverse_util.flatten_dict(params, sep="/"):
      names.setdefault(self._group_of(name), set()).add(name)
    for index, (pattern, optimizer) in enumerate(self.rules):
      if index not in names:
        raise ValueError(
          f"The pattern {pattern!r} of the optimizer's rules decides no "
          "parameter. Correct it or remove its rule."
        )
      if optimizer is not None:
        yield str(index), optimizer, names[index]

  def is_trainable(self, name: str) -> bool:
    """Whether the parameter's group has an optimizer that updates it."""
    optimizer = self.rules[self._group_of(name)][1]
    return optimizer is not None and optimizer.is_trainable(name)

  def init(self, params: Params, axes: PyTree) -> OptState:
    """Returns the state of each group under the index of its rule."""
    return {
      key: optimizer.init(_select(params, names), _select(axes, names))
      for key, optimizer, names in self._groups(params)
    }

  def update(
    self,
    grads: Params,
    opt_state: OptState,
    params: Params,
    axes: PyTree,
    step: Array,
    learning_rate: Array,
  ) -> tuple[Params, OptState]:
    """Updates every group; see `Optimizer.update`."""
    new_params = traverse_util.flatten_dict(params, sep="/")
    new_state = {}
    for key, optimizer, names in self._groups(params):
      updated, new_state[key] = optimizer.update(
        _select(grads, names),
        opt_state[key],
        _select(params, names),
        _select(axes, names),
        step,
        learning_rate,
      )
      new_params |= traverse_util.flatten_dict(updated, sep="/")
    return traverse_util.unflatten_dict(new_params, sep="/"), new_state

  def state_axes(self, params: Params, axes: PyTree) -> PyTree:
    """Returns the axes of each group's state; see `Optimizer.state_axes`."""
    return {
      key: optimizer.state_axes(_select(params, names), _select(axes, names))
      for key, optimizer, names in self._groups(params)
    }


def freeze(optimizer: Optimizer, patterns: Sequence[str]) -> MultiOptimizer:
  """Returns `optimizer` with the parameters of some names left as they are.

  Args:
    optimizer: updates all other parameters.
    patterns: regular expressions, each found in the name of some parameter, as
      `^encoder/` or `token_embedder`.
  """
  return MultiOptimizer((*((p, None) for p in patterns), (".*", optimizer)))
