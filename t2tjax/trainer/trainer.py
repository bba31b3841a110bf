"""How one optimizer step is made, as gin configures it.

Called by `train`. May import: layers 0 to 4, `trainer.step`.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax

from t2tjax import optim
from t2tjax import state as state_lib
from t2tjax.partitioning import Partitioner
from t2tjax.trainer import step
from t2tjax.typing import PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer:
  """Settings of the train step.

  Attributes:
    learning_rate_fn: step -> learning rate; see `optim` for schedules.
    num_microbatches: parts a batch is cut into to save memory. The result does
      not depend on it, but for the dropout masks that are drawn.
    weight_metrics: also report T5X's weight metrics of every parameter, as
      `weight_rms/NAME`; see `step.make_train_step`.
    dropout_seed: seed of the dropout masks; None takes `train.random_seed`,
      which also seeds fresh parameters. The data have a seed of their own.
  """

  learning_rate_fn: optim.LearningRateFn
  num_microbatches: int = 1
  weight_metrics: bool = False
  dropout_seed: int | None = None

  def check(self, batch_size: int, partitioner: Partitioner) -> None:
    """Raises ValueError unless a batch can be cut into the microbatches."""
    step.check_microbatches(
      batch_size, self.num_microbatches, partitioner.num_batch_shards
    )

  def compile_train_step(
    self,
    model: Any,
    partitioner: Partitioner,
    axes: state_lib.TrainState,
    abstract: state_lib.TrainState,
    batch_spec: Mapping[str, jax.ShapeDtypeStruct],
    *,
    random_seed: int,
  ) -> step.TrainStep:
    """Returns the compiled `step(state, batch) -> (state, metrics)`.

    Args:
      model: gives the loss and the optimizer.
      partitioner: active, gives the mesh.
      axes: logical axes of the state.
      abstract: the state's shapes and shardings; the state given to the step
        is consumed.
      batch_spec: features of the global batch.
      random_seed: of the run; seeds the dropout masks too, unless they have
        a seed of their own.
    """
    dropout_seed = self.dropout_seed
    train_step = step.make_train_step(
      model,
      model.optimizer_def,
      axes,
      self.learning_rate_fn,
      num_microbatches=self.num_microbatches,
      dropout_seed=random_seed if dropout_seed is None else dropout_seed,
      weight_metrics=self.weight_metrics,
    )
    shardings: PyTree = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    jitted = step.jit_train_step(train_step, partitioner, shardings)
    return jitted.lower(abstract, dict(batch_spec)).compile()
