"""Optimizers, learning rate schedules and parameter masks.

Optimizers are frozen dataclasses of hyperparameters; their state is a plain
tree that the caller keeps. Called by state, trainer and gin.
"""

from t2tjax.optim.adafactor import Adafactor, standard_logical_factor_rules
from t2tjax.optim.adam import AdamW, RMSScaledAdamW
from t2tjax.optim.base import Optimizer, OptState
from t2tjax.optim.masks import (
  HParamMap,
  MultiOptimizer,
  freeze,
  global_norm,
  global_norm_clip,
)
from t2tjax.optim.optax_adapter import Lion, OptaxOptimizer
from t2tjax.optim.schedules import (
  LearningRateFn,
  create_learning_rate_scheduler,
  warmup_cosine,
  warmup_linear,
  warmup_stable_decay,
)

__all__ = [
  "Adafactor",
  "AdamW",
  "HParamMap",
  "LearningRateFn",
  "Lion",
  "MultiOptimizer",
  "OptState",
  "OptaxOptimizer",
  "Optimizer",
  "RMSScaledAdamW",
  "create_learning_rate_scheduler",
  "freeze",
  "global_norm",
  "global_norm_clip",
  "standard_logical_factor_rules",
  "warmup_cosine",
  "warmup_linear",
  "warmup_stable_decay",
]
