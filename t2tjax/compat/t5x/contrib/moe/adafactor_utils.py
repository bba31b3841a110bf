"""T5X's `contrib.moe.adafactor_utils`. May import: `optim`."""

from t2tjax.compat.t5x import adafactor


def logical_factor_rules() -> dict[str, str]:
  """Returns the dense rules and those of the axes that experts have."""
  return {
    **adafactor.standard_logical_factor_rules(),
    "expert": adafactor.FactorDim.BATCH,
    "expert_mlp": adafactor.FactorDim.COLUMN,
    "unmodeled": adafactor.FactorDim.NONE,
    "mlp_embed": adafactor.FactorDim.ROW,
  }
