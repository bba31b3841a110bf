"""`seqio.Evaluator` and its loggers, as a T5X configuration names them.

Their parameters are settings of our evaluator; so that reading them costs no
import of seqio, the importer answers `seqio.<name>` with these. May import:
layers 0 to 6.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import os
from typing import Any

from t2tjax import evaluation
from t2tjax.compat.t5x import notices


class Logger:
  """A place that results go to."""

  def __init__(self, output_dir: str | None = None):
    """Takes seqio's parameter; the run function decides the directory."""


class PyLoggingLogger(Logger):
  """The terminal, which always shows results."""


class TensorBoardLogger(Logger):
  """Event files, which are always written."""


class JSONLogger(Logger):
  """Predictions as JSON lines."""

  def __init__(
    self,
    output_dir: str | None = None,
    write_n_results: int | None = None,
    json_encoder_cls: Any = None,
  ):
    """Takes seqio's parameters.

    Args:
      output_dir: decided by the run function.
      write_n_results: examples to write; None for all.
      json_encoder_cls: texts and numbers need none.
    """
    super().__init__(output_dir)
    self.write_n_results = write_n_results
    if json_encoder_cls is not None:
      notices.without_effect(
        "seqio.JSONLogger.json_encoder_cls", "texts and numbers need none"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Settings of seqio's evaluator; the run function gives the rest.

  Attributes:
    logger_cls: classes of loggers.
    num_examples: of each task; None for all.
    use_memory_cache: evaluation data are memory-mapped, cached or not.
    use_fewer_tokenizations: nothing is tokenised twice.
  """

  logger_cls: Sequence[Callable[..., Logger]] = ()
  num_examples: int | None = None
  use_memory_cache: bool = True
  use_fewer_tokenizations: bool = False


def evaluator_cls(
  inference_evaluator_cls: Callable[..., Any] | None, output_dir: str
) -> Callable[..., evaluation.Evaluator]:
  """Returns what makes our evaluator, set as T5X's configuration says.

  Args:
    inference_evaluator_cls: `Evaluator` of this module as gin configures it;
      None for the defaults.
    output_dir: of the run.

  Raises:
    ValueError: for another evaluator, or another logger.
  """
  settings = Evaluator()
  if inference_evaluator_cls is not None:
    kind = inference_evaluator_cls
    inner = getattr(kind, "func", kind)
    if not (isinstance(inner, type) and issubclass(inner, Evaluator)):
      raise ValueError(
        f"inference_evaluator_cls = {inner!r} is not seqio.Evaluator: bind a "
        "subclass of t2tjax.evaluation.Evaluator to t2tjax's "
        "train.evaluator_cls instead."
      )
    settings = kind()
  found = functools.partial(
    evaluation.Evaluator, num_examples=settings.num_examples
  )
  for logger_cls in settings.logger_cls:
    logger = logger_cls(output_dir)
    if not isinstance(logger, Logger):
      raise ValueError(
        f"seqio.Evaluator.logger_cls has {type(logger).__name__}; there are "
        "PyLoggingLogger, TensorBoardLogger and JSONLogger."
      )
    if isinstance(logger, JSONLogger):
      found = functools.partial(
        found,
        predictions_dir=os.path.join(output_dir, "inference_eval"),
        num_predictions=logger.write_n_results,
      )
  return found
