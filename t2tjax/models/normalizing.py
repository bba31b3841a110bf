"""What the summed loss is divided by: T5X's loss normalizing factors.

Used by `base`. May import: typing.
"""

import math

import jax
import jax.numpy as jnp

from t2tjax.typing import Array, Batch

LossNormalizingFactor = float | int | str | None

_NUM_REAL = "NUM_REAL_TARGET_TOKENS"
_NUM_TOTAL = "NUM_TOTAL_TARGET_TOKENS"
_PER_SEQUENCE = "AVERAGE_PER_SEQUENCE"
_NAMES = (_NUM_REAL, _NUM_TOTAL, _PER_SEQUENCE)


def canonical_factor(
  factor: LossNormalizingFactor,
) -> float | str:
  """Returns a positive float or one of the three names.

  None is NUM_REAL_TARGET_TOKENS.

  Raises:
    ValueError: for anything else.
  """
  if factor is None:
    return _NUM_REAL
  if isinstance(factor, str):
    if factor.upper() in _NAMES:
      return factor.upper()
  elif not isinstance(factor, bool) and factor > 0:
    return float(factor)
  raise ValueError(
    f"loss_normalizing_factor = {factor!r} must be None, a positive number or"
    f" one of {', '.join(map(repr, _NAMES))}. Set the macro"
    " LOSS_NORMALIZING_FACTOR."
  )


def loss_weights(batch: Batch, factor: float | str) -> Array:
  """Returns fp32 weights `[batch, length]` of the target tokens.

  With AVERAGE_PER_SEQUENCE those of a sequence are scaled to the sum 1, so
  that a long answer counts as much as a short one; the sequences are rows, or
  segments if rows are packed.
  """
  weights = batch["decoder_loss_weights"].astype(jnp.float32)
  if factor != _PER_SEQUENCE:
    return weights
  if "decoder_segment_ids" in batch:
    totals = jax.vmap(_segment_totals)(weights, batch["decoder_segment_ids"])
  else:
    totals = jnp.sum(weights, axis=-1, keepdims=True)
  return weights / jnp.where(totals > 0, totals, 1.0)


def normalizer(batch: Batch, factor: float | str) -> Array:
  """Returns the fp32 scalar by which the loss sum of a batch is divided.

  Of the whole batch: microbatches divide by it, not by their own.
  """
  if isinstance(factor, float):
    return jnp.float32(factor)
  if factor == _NUM_TOTAL:
    return jnp.float32(math.prod(batch["decoder_target_tokens"].shape))
  total = jnp.sum(loss_weights(batch, factor))
  # A batch without a real target has the loss 0, not NaN.
  return jnp.where(total > 0, total, 1.0)


def _segment_totals(weights_L: Array, segment_ids_L: Array) -> Array:
  """Returns, at every position, the sum of weights over its segment."""
  length = weights_L.shape[0]
  totals = jax.ops.segment_sum(weights_L, segment_ids_L, length + 1)
  return totals[segment_ids_L]
