"""Task metrics, baselines, and the evaluator that decodes and scores.

Called by the run functions; may import layers 0 to 4. Exports are loaded when
asked for: the task files need `metrics` and `postprocessors`, not JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from t2tjax.evaluation.baselines import Floor, floor
  from t2tjax.evaluation.evaluator import Evaluator
  from t2tjax.evaluation.measuring import Measured, ResultsFile
  from t2tjax.evaluation.results import EvalResult, Sample

_HOMES = {
  "Measured": "measuring",
  "ResultsFile": "measuring",
  "EvalResult": "results",
  "Evaluator": "evaluator",
  "Floor": "baselines",
  "Sample": "results",
  "floor": "baselines",
}
__all__ = [
  "EvalResult",
  "Evaluator",
  "Floor",
  "Measured",
  "ResultsFile",
  "Sample",
  "floor",
]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
  return getattr(home, name)
