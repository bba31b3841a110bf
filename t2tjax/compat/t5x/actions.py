"""T5X's actions, as rules that end a run.

Answers for `EarlyStoppingAction`, `TerminateOnNanAction` and `BaseAction` of
`t5x.trainer`; `train` turns them into `train.stop_conditions`. May import:
layers 0 to 6.
"""

from collections.abc import Mapping, Sequence

from t2tjax import trainer
from t2tjax.compat.t5x import notices

# T5X's names of teacher-forced metrics, and ours where they differ.
_LOSS_METRICS = {
  "accuracy": "token_accuracy",
  "cross_ent_loss": "nll",
  "loss_per_nonpadding_target_token": "loss",
}


class BaseAction:
  """A rule of a user's own; T5X's hook takes a state that nothing here has."""

  def stop_condition(self, mode: str) -> trainer.StopCondition:
    """Returns the rule for metrics of `TRAIN_EVAL` or `INFER_EVAL`."""
    raise ValueError(
      f"{type(self).__name__} is an action of its own: write a class with a "
      "`metric` and __call__(history), as trainer.EarlyStopping is, and bind "
      "it to t2tjax's train.stop_conditions."
    )


class EarlyStoppingAction(BaseAction):
  """See `trainer.EarlyStopping`."""

  def __init__(
    self,
    metric: tuple[str, str],
    mode: str,
    patience: int = 3,
    atol: float = 0.0,
    rtol: float = 0.0,
  ):
    """Takes T5X's parameters.

    Args:
      metric: task and name.
      mode: 'min' or 'max'.
      patience: evaluations without improvement.
      atol: absolute tolerance.
      rtol: relative tolerance.
    """
    self._task, self._metric = metric
    self._mode, self._patience = mode, patience
    self._atol, self._rtol = atol, rtol

  def stop_condition(self, mode: str) -> trainer.StopCondition:
    """Returns the rule; see `BaseAction`."""
    return trainer.EarlyStopping(
      metric=_metric(mode, self._task, self._metric),
      mode=self._mode,
      patience=self._patience,
      atol=self._atol,
      rtol=self._rtol,
    )


class TerminateOnNanAction(BaseAction):
  """See `trainer.StopIfNotFinite`."""

  def __init__(self, task: str, metric: str = "loss"):
    """Takes T5X's parameters: task and name of the metric."""
    self._task, self._metric = task, metric

  def stop_condition(self, mode: str) -> trainer.StopCondition:
    """Returns the rule; see `BaseAction`."""
    return trainer.StopIfNotFinite(
      metric=_metric(mode, self._task, self._metric)
    )


def stop_conditions(
  actions: Mapping[str, Sequence[BaseAction]] | None,
) -> list[trainer.StopCondition]:
  """Returns the rules that T5X's `train.actions` stands for.

  Args:
    actions: by 'TRAIN', 'TRAIN_EVAL' or 'INFER_EVAL'.

  Raises:
    ValueError: for a mode that is none, or an action that cannot be had.
  """
  found = []
  for mode, mode_actions in (actions or {}).items():
    mode = getattr(mode, "name", mode)
    if mode not in ("TRAIN", "TRAIN_EVAL", "INFER_EVAL"):
      raise ValueError(
        f"train.actions has the key {mode!r}; it must be 'TRAIN', "
        "'TRAIN_EVAL' or 'INFER_EVAL'."
      )
    for action in mode_actions:
      if mode != "TRAIN":
        found.append(action.stop_condition(mode))
      elif isinstance(action, TerminateOnNanAction):
        notices.without_effect(
          "train.actions['TRAIN']",
          "every run ends when its training loss is not finite",
        )
      else:
        raise ValueError(
          "train.actions['TRAIN'] is not supported: metrics of single steps "
          "end no run. Give the action under 'TRAIN_EVAL' or 'INFER_EVAL'."
        )
  return found


def _metric(mode: str, task: str, name: str) -> str:
  if mode == "TRAIN_EVAL":
    name = _LOSS_METRICS.get(name, name)
  return f"{task}/{name}"
