"""Turns the additive sums of `loss_fn` into the numbers people read.

Called by the trainer and the evaluator with sums over steps and batches.
May import: nothing of t2tjax.
"""

from collections.abc import Mapping
import math

# The additive sums of a batch, as `loss_fn` and `eval_fn` return them.
SUM_NAMES = (
  "loss_sum",
  "nll_sum",
  "z_loss_sum",
  "correct_sum",
  "weight_sum",
  "target_tokens",
  "input_tokens",
  "target_slots",
  "input_slots",
  "sequences",
)


def summarize(sums: Mapping[str, float]) -> dict[str, float]:
  """Returns per-token averages and counts.

  Args:
    sums: of `loss_fn` or `eval_fn`, added up over batches.

  Returns:
    loss (per weighted target token, with z-loss and smoothing, whatever
    the optimizer's normalizing factor), nll (never smoothed), perplexity,
    z_loss, accuracy (of the argmax, per target token), packing_efficiency
    (share of the slots that hold a real token), target_tokens, input_tokens,
    sequences.
  """
  weight = float(sums["weight_sum"])
  target_tokens = float(sums["target_tokens"])
  input_tokens = float(sums["input_tokens"])
  slots = float(sums["target_slots"]) + float(sums["input_slots"])
  nll = _ratio(sums["nll_sum"], weight)
  return {
    "loss": _ratio(sums["loss_sum"], weight),
    "nll": nll,
    "perplexity": math.exp(nll) if nll < 700 else math.inf,
    "z_loss": _ratio(sums["z_loss_sum"], weight),
    "accuracy": _ratio(sums["correct_sum"], target_tokens),
    "packing_efficiency": _ratio(target_tokens + input_tokens, slots),
    "target_tokens": target_tokens,
    "input_tokens": input_tokens,
    "sequences": float(sums["sequences"]),
  }


def _ratio(numerator: float, denominator: float) -> float:
  return float(numerator) / denominator if denominator else math.nan
