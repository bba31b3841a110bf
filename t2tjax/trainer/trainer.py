"""How one optimizer step is made, as gin configures it.

Called by `train`. May import: layers 0 to 4, `trainer.step`.
"""

from collections.abc import Callable
import dataclasses

import jax

from t2tjax.trainer import step
from t2tjax.typing import PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer:
  """Settings of the train step.

  Attributes:
    learning_rate_fn: step -> learning rate; see `optim` for schedules.
    num_microbatches: parts a batch is cut into to save memory. The result does
      not depend on it.
    weight_metrics: also report the RMS of every parameter and its gradient.
  """

  learning_rate_fn: Callable[[jax.Array], jax.Array]
  num_microbatches: int = 1
  weight_metrics: bool = False

  def make_train_step(self, model, axes: PyTree, dropout_seed: int) -> Callable:
    """Returns `(state, batch) -> (state, metrics)`, not yet jitted."""
    return step.make_train_step(
        model,
        model.optimizer_def,
        axes,
        self.learning_rate_fn,
        num_microbatches=self.num_microbatches,
        dropout_seed=dropout_seed,
        weight_metrics=self.weight_metrics,
    )
