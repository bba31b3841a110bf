"""The train step, and what surrounds it in a run.

Called by the run functions. May import: layers 0 to 4 and `evaluation`.
"""

from t2tjax.trainer.finish import finish
from t2tjax.trainer.overview import show_overview
from t2tjax.trainer.preemption import (
  EXIT_CODE_PREEMPTED,
  Preempted,
  PreemptionGuard,
)
from t2tjax.trainer.run_directory import prepare_run_directory
from t2tjax.trainer.run_log import DivergedError, RunLog
from t2tjax.trainer.start import (
  abstract_state,
  check_task_vocabularies,
  initial_state,
  run_metadata,
  use_compilation_cache,
)
from t2tjax.trainer.stopping import (
  EarlyStopping,
  Stop,
  StopCondition,
  StopIfNotFinite,
  read_history,
)
from t2tjax.trainer.trainer import Trainer
from t2tjax.trainer.validation import Validation, open_eval_data
from t2tjax.trainer.writers import MetricWriter

__all__ = [
  "EXIT_CODE_PREEMPTED",
  "DivergedError",
  "EarlyStopping",
  "MetricWriter",
  "Preempted",
  "PreemptionGuard",
  "RunLog",
  "Stop",
  "StopCondition",
  "StopIfNotFinite",
  "Trainer",
  "Validation",
  "abstract_state",
  "check_task_vocabularies",
  "finish",
  "initial_state",
  "open_eval_data",
  "prepare_run_directory",
  "read_history",
  "run_metadata",
  "show_overview",
  "use_compilation_cache",
]
