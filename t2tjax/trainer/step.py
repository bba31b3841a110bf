"""The train step: gradients over microbatches, one update, metrics.

Called by the trainer, which compiles it once; takes functions, no config. May
import: layers 0-4.
"""

from collections.abc import Callable, Mapping
import math
from typing import Protocol

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp

from t2tjax import trees
from t2tjax.layers.sharding import constrain
from t2tjax.optim import LearningRateFn, Optimizer, global_norm
from t2tjax.partitioning import Partitioner
from t2tjax.state import TrainState
from t2tjax.typing import Array, Batch, Params, PyTree

# Metric name -> float32 scalar. Names that end in `_sum` and the counts add up
# over steps and hosts.
Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Trainable(Protocol):
  """The part of a model that the step needs."""

  def loss_normalizer(self, batch: Batch) -> Array:
    """Returns by what the summed loss of a whole batch is divided."""

  def loss_fn(
    self,
    params: Params,
    batch: Batch,
    dropout_key: Array | None,
    normalizer: Array,
  ) -> tuple[Array, Mapping[str, Array]]:
    """Returns the loss, summed / normalizer, and sums that add up."""

  def eval_fn(self, params: Params, batch: Batch) -> Mapping[str, Array]:
    """Returns the sums of a batch without dropout."""


def make_train_step(
  model: Trainable,
  optimizer: Optimizer,
  axes: TrainState,
  learning_rate_fn: LearningRateFn,
  *,
  num_microbatches: int = 1,
  dropout_seed: int = 0,
  weight_metrics: bool = False,
) -> TrainStep:
  """Returns the function that makes one update.

  The loss of a microbatch is divided by the normalizer of the *whole* batch, so
  that the summed gradients are those of one big batch, however unequal the
  lengths. Row r of the batch is in microbatch r % num_microbatches: every
  device then cuts up its own rows, and no row moves.

  The dropout key is a function of (seed, step, microbatch) alone: a resumed run
  draws the same masks, on any mesh. Linen draws one key for all rows, so masks
  do depend on `num_microbatches`; without dropout results do not.

  Args:
    model: gives loss and normalizer.
    optimizer: makes the update.
    axes: the logical axes of the state, from `state.abstract_state`.
    learning_rate_fn: from step to learning rate.
    num_microbatches: parts of the batch, computed in turn to save memory.
    dropout_seed: seed of the dropout masks.
    weight_metrics: also report T5X's metrics of every parameter, as
      `weight_rms/NAME`; see `_weight_metrics`. Costs a pass each.

  Returns:
    `step(state, batch) -> (state, metrics)`: the model's sums, `grad_norm`
    (before clipping), `param_norm` (before the update) and `learning_rate`.
  """
  if num_microbatches < 1:
    raise ValueError(
      f"Trainer.num_microbatches is {num_microbatches}; it must be 1 or more."
    )

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(dropout_seed), state.step)
    normalizer = model.loss_normalizer(batch)
    trainable, frozen = _split_trainable(state.params, optimizer)

    def loss_fn(trainable, batch, index):
      params = _merge(trainable, frozen)
      dropout_key = jax.random.fold_in(key, index)
      return model.loss_fn(params, batch, dropout_key, normalizer)

    gradients = _gradient_fn(loss_fn, trainable, axes.params)
    if num_microbatches == 1:
      grads, sums = gradients(batch, 0)
    else:
      grads, sums = _accumulate(gradients, batch, num_microbatches)
    grads = traverse_util.unflatten_dict(grads, sep="/")

    learning_rate = learning_rate_fn(state.step)
    params, opt_state = optimizer.update(
      grads,
      state.opt_state,
      state.params,
      axes.params,
      state.step,
      learning_rate,
    )
    metrics = {
      **sums,
      "grad_norm": global_norm(grads),
      "param_norm": global_norm(state.params),
      "learning_rate": learning_rate,
    }
    if weight_metrics:
      metrics |= _weight_metrics(state.params, grads, params)
    new_state = TrainState(state.step + 1, params, opt_state)
    return new_state, metrics

  return train_step


def jit_train_step(
  train_step: TrainStep, partitioner: Partitioner, shardings: TrainState
) -> jax.stages.Wrapped:
  """Compiles a train step for a mesh; the state given to it is consumed.

  Args:
    train_step: from `make_train_step`.
    partitioner: gives the mesh; must be active when the step is called.
    shardings: of the state, from `state.state_shardings`.
  """
  return jax.jit(
    train_step,
    in_shardings=(shardings, partitioner.batch_sharding),
    out_shardings=(shardings, partitioner.replicated),
    donate_argnums=0,
  )


def make_eval_step(
  model: Trainable,
) -> Callable[[Params, Batch], Metrics]:
  """Returns the function that computes the sums of one batch."""

  def eval_step(params: Params, batch: Batch) -> Metrics:
    sums = model.eval_fn(params, batch)
    return {name: value.astype(jnp.float32) for name, value in sums.items()}

  return eval_step


def check_microbatches(
  batch_size: int, num_microbatches: int, num_batch_shards: int
) -> None:
  """Raises ValueError unless every device can cut up its own rows.

  Args:
    batch_size: rows of the global batch.
    num_microbatches: parts to cut it into.
    num_batch_shards: devices along the batch, `partitioner.num_batch_shards`.
  """
  if batch_size % (num_microbatches * num_batch_shards):
    raise ValueError(
      f"Trainer.num_microbatches = {num_microbatches} does not divide the "
      f"{batch_size / num_batch_shards:g} rows that each of {num_batch_shards} "
      f"parts of the batch of {batch_size} has. Choose a number that does, or "
      "a DatasetConfig.batch_size that is a multiple of "
      f"{num_microbatches * num_batch_shards}."
    )


def _gradient_fn(
  loss_fn: Callable, trainable: dict[str, Array], axes: PyTree
) -> Callable[[Batch, Array | int], tuple[PyTree, PyTree]]:
  """Returns `(batch, index) -> (gradients by name, sums)`, in float32."""
  axes_by_name = traverse_util.flatten_dict(axes, sep="/")

  def gradients(batch, index):
    grads, sums = jax.grad(loss_fn, has_aux=True)(trainable, batch, index)
    # Constrained here, gradients of sharded parameters are scattered while they
    # are summed over the devices.
    grads = {
      name: constrain(grad.astype(jnp.float32), axes_by_name[name])
      for name, grad in grads.items()
    }
    return grads, {name: x.astype(jnp.float32) for name, x in sums.items()}

  return gradients


def _accumulate(
  gradients: Callable[[Batch, Array | int], tuple[PyTree, PyTree]],
  batch: Batch,
  num_microbatches: int,
) -> tuple[PyTree, PyTree]:
  """Sums `gradients(microbatch, index)` over the microbatches."""
  num_rows = next(iter(batch.values())).shape[0]
  check_microbatches(num_rows, num_microbatches, _num_batch_shards())

  def deal(feature: Array) -> Array:
    rows = feature.reshape(-1, num_microbatches, *feature.shape[1:])
    dealt = jnp.swapaxes(rows, 0, 1)
    return constrain(dealt, (None, "batch") + (None,) * (feature.ndim - 1))

  def add(total, microbatch):
    index, features = microbatch
    return jax.tree.map(jnp.add, total, gradients(features, index)), None

  dealt = jax.tree.map(deal, dict(batch))
  first = jax.tree.map(lambda x: x[0], dealt)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(gradients, first, jnp.int32(0)),
  )
  indices = jnp.arange(num_microbatches)
  total, _ = jax.lax.scan(add, zeros, (indices, dealt))
  return total


def _num_batch_shards() -> int:
  """Returns into how many parts the current mesh and rules cut a batch."""
  rules = nn.get_logical_axis_rules()
  mesh = jax.sharding.get_abstract_mesh()
  if not rules or mesh.empty:
    return 1
  spec = nn.logical_to_mesh_axes(("batch",), rules) or (None,)
  axes = (spec[0],) if isinstance(spec[0], str) else spec[0] or ()
  return math.prod(mesh.shape[axis] for axis in axes)


def _split_trainable(
  params: Params, optimizer: Optimizer
) -> tuple[dict[str, Array], dict[str, Array]]:
  """Returns the parameters by name: those to differentiate, and the rest."""
  trainable: dict[str, Array] = {}
  frozen: dict[str, Array] = {}
  for name, value in traverse_util.flatten_dict(params, sep="/").items():
    group = trainable if optimizer.is_trainable(name) else frozen
    group[name] = value
  return trainable, frozen


def _merge(trainable: dict[str, Array], frozen: dict[str, Array]) -> Params:
  return traverse_util.unflatten_dict({**trainable, **frozen}, sep="/")


def _weight_metrics(params: Params, grads: Params, new: Params) -> Metrics:
  """Returns T5X's metrics of weights, under its names.

  After the update: `weight_rms/NAME` and `weight_max/NAME`. Of the update:
  `weight_gradient_rms/NAME`, `weight_update_rms/NAME`,
  `weight_update_divided_by_weight_rms/NAME`, and, of all parameters together,
  `weight_gradient_norm`.
  """
  in_fp32 = lambda x: x.astype(jnp.float32)  # noqa: E731
  params, new = jax.tree.map(in_fp32, (params, new))
  change = jax.tree.map(jnp.subtract, new, params)
  # T5X divides by zero where a weight is zero; such weights count as unmoved.
  relative = jax.tree.map(
    lambda d, w: jnp.where(w == 0, 0.0, d / jnp.where(w == 0, 1.0, w)),
    change,
    params,
  )

  def rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))

  metrics = {
    f"{prefix}/{name}": measure(leaf)
    for prefix, measure, tree in (
      ("weight_rms", rms, new),
      ("weight_max", lambda x: jnp.max(jnp.abs(x)), new),
      ("weight_gradient_rms", rms, grads),
      ("weight_update_rms", rms, change),
      ("weight_update_divided_by_weight_rms", rms, relative),
    )
    for name, leaf in trees.named_leaves(tree)
  }
  return metrics | {"weight_gradient_norm": global_norm(grads)}
