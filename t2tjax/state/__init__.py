"""The training state: abstract, initialised on the mesh, and its shardings.

Called by trainer, checkpointing and the run functions.
"""

from t2tjax.state.train_state import (
  TrainState,
  abstract_params,
  abstract_state,
  init_state,
  state_shardings,
)

__all__ = [
  "TrainState",
  "abstract_params",
  "abstract_state",
  "init_state",
  "state_shardings",
]
