"""TrainState: everything that a train step reads and replaces.

Called by trainer, checkpointing and the run functions. May import: layers 0-2.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from t2tjax.optim import Optimizer, OptState
from t2tjax.partitioning import Partitioner
from t2tjax.typing import Array, LogicalAxes, Params, PyTree

# Feature name -> abstract array [batch, length].
BatchSpec = Mapping[str, jax.ShapeDtypeStruct]


class TrainState(struct.PyTreeNode):
  """Parameters, optimizer state and the number of updates behind them.

  Attributes:
    step: int32 scalar; in states of shapes, axes or shardings, one of those.
    params: parameters, without the boxes of their logical axes.
    opt_state: what the optimizer keeps.
  """

  step: Any
  params: Params
  opt_state: OptState


class Initializable(Protocol):
  """The part of a model that the state needs."""

  def init_params(self, key: Array, batch_spec: BatchSpec) -> Any:
    """Returns parameters in boxes that name their logical axes."""


def abstract_state(
  model: Initializable, optimizer: Optimizer, batch_spec: BatchSpec
) -> tuple[TrainState, TrainState]:
  """Returns the shapes and the logical axes of a state; allocates nothing.

  Args:
    model: initialises the parameters.
    optimizer: initialises its state.
    batch_spec: features of a batch.

  Returns:
    A `TrainState` of `ShapeDtypeStruct`s, and one of `LogicalAxes`.
  """
  params, axes = abstract_params(model, batch_spec)
  abstract = TrainState(
    step=jax.ShapeDtypeStruct((), jnp.int32),
    params=params,
    opt_state=jax.eval_shape(lambda p: optimizer.init(p, axes), params),
  )
  return abstract, TrainState(
    step=(), params=axes, opt_state=optimizer.state_axes(params, axes)
  )


def abstract_params(
  model: Initializable, batch_spec: BatchSpec
) -> tuple[Params, PyTree]:
  """Returns shapes and logical axes of the parameters; allocates nothing."""
  boxed = jax.eval_shape(
    lambda key: model.init_params(key, batch_spec), jax.random.key(0)
  )
  axes = jax.tree.map(_axes_of, boxed, is_leaf=_is_box)
  return unbox(boxed), axes


def state_shardings(
  partitioner: Partitioner, abstract: TrainState, axes: TrainState
) -> TrainState:
  """Returns a `TrainState` of `NamedSharding`s, checked to divide evenly."""
  return partitioner.shardings(axes, abstract)


def init_state(
  model: Initializable,
  optimizer: Optimizer,
  batch_spec: BatchSpec,
  partitioner: Partitioner,
  *,
  seed: int = 0,
) -> TrainState:
  """Initialises a state directly in its shards.

  No device ever holds a whole array that the rules cut, and the numbers do not
  depend on the mesh.

  Args:
    model: initialises the parameters.
    optimizer: initialises its state.
    batch_spec: features of a batch.
    partitioner: gives mesh and rules.
    seed: seed of the parameters.
  """
  abstract, axes = abstract_state(model, optimizer, batch_spec)

  def init(key: Array) -> TrainState:
    params = unbox(model.init_params(key, batch_spec))
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(params, axes.params),
    )

  with partitioner.activate():
    return jax.jit(
      init, out_shardings=state_shardings(partitioner, abstract, axes)
    )(jax.random.key(seed))


def unbox(boxed: PyTree) -> PyTree:
  """Returns the arrays inside boxes of logical axes.

  Unlike `nn.meta.unbox` it puts no constraint on them: the caller of the jitted
  initialiser says where they go.
  """
  return jax.tree.map(
    lambda leaf: leaf.unbox(apply_constraint=False) if _is_box(leaf) else leaf,
    boxed,
    is_leaf=_is_box,
  )


def _is_box(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


def _axes_of(leaf: Any) -> LogicalAxes:
  return tuple(leaf.names) if _is_box(leaf) else (None,) * leaf.ndim
