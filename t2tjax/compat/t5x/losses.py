"""T5X's `losses`: names of loss normalizers. May import: nothing of t2tjax."""

import enum


class SpecialLossNormalizingFactor(enum.StrEnum):
  """See `loss_normalizing_factor` of the models."""

  NUM_REAL_TARGET_TOKENS = "NUM_REAL_TARGET_TOKENS"
  NUM_TOTAL_TARGET_TOKENS = "NUM_TOTAL_TARGET_TOKENS"
  AVERAGE_PER_SEQUENCE = "AVERAGE_PER_SEQUENCE"
