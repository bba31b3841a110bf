"""T5X's `adafactor`. May import: `optim`."""

from collections.abc import Mapping
from typing import Any

from t2tjax import optim
from t2tjax.compat.t5x import notices


class FactorDim:
  """Kinds of dimensions, as `optim.Adafactor` names them."""

  NONE = "none"
  BATCH = "batch"
  ROW = "row"
  COLUMN = "column"


class HeuristicRule:
  """Stands for the rule of shapes in a `factor_map`."""

  TOKEN = "heuristic"


def standard_logical_factor_rules() -> dict[str, str]:
  """Returns T5X's kinds by logical axis, those of its fused layers too."""
  return {
    **optim.standard_logical_factor_rules(),
    "q_wi_fused": FactorDim.COLUMN,
    "o_wo_fused": FactorDim.COLUMN,
    "multiquery_heads": FactorDim.COLUMN,
    "kv_fused": FactorDim.COLUMN,
    "layer_norm_scale": FactorDim.NONE,
    "mlp_activations": FactorDim.COLUMN,
  }


def HParamMap(rules: Any) -> optim.HParamMap:  # noqa: N802
  """Returns `optim.HParamMap`."""
  return optim.HParamMap(tuple((regex, value) for regex, value in rules))


def Adafactor(  # noqa: N802
  *,
  learning_rate: float | None = None,
  factored: bool = True,
  multiply_by_parameter_scale: bool | optim.HParamMap = True,
  beta1: float | None = None,
  decay_rate: float = 0.8,
  step_offset: int = 0,
  clipping_threshold: float | None = 1.0,
  weight_decay_rate: float | None = None,
  min_dim_size_to_factor: int = 128,
  epsilon1: float = 1e-30,
  epsilon2: float = 1e-3,
  dtype_momentum: Any = "float32",
  factor_map: optim.HParamMap | None = None,
  logical_factor_rules: Mapping[str, str] | None = None,
  weight_decay_rate_lr_exponent: float | None = None,
  global_norm_clip_threshold: float | None = None,
  max_parameter_scale: float | None = None,
  skip_nan_updates: bool | None = False,
) -> optim.Adafactor:
  """Returns `optim.Adafactor`, which documents the parameters."""
  if learning_rate is not None:
    notices.without_effect(
      "adafactor.Adafactor.learning_rate",
      "the learning rate is that of trainer.Trainer.learning_rate_fn",
    )
  return optim.Adafactor(
    factored=factored,
    multiply_by_parameter_scale=multiply_by_parameter_scale,
    beta1=beta1,
    decay_rate=decay_rate,
    step_offset=step_offset,
    clipping_threshold=clipping_threshold,
    weight_decay_rate=weight_decay_rate,
    min_dim_size_to_factor=min_dim_size_to_factor,
    epsilon1=epsilon1,
    epsilon2=epsilon2,
    dtype_momentum=dtype_momentum,
    factor_map=factor_map,
    logical_factor_rules=logical_factor_rules
    or standard_logical_factor_rules(),
    weight_decay_rate_lr_exponent=weight_decay_rate_lr_exponent,
    global_norm_clip_threshold=global_norm_clip_threshold,
    max_parameter_scale=max_parameter_scale,
    skip_nan_updates=bool(skip_nan_updates),
    stacked_as_t5x=True,
  )
