"""Learning rate schedules: functions from the step to a float32 scalar.

Called by the train step and, to draw the schedule, by `--dry_run`. May import:
nothing of t2tjax but typing.
"""

from collections.abc import Callable

import jax.numpy as jnp

from t2tjax.typing import Array

LearningRateFn = Callable[[Array | int], Array]

FACTORS = (
  "constant",
  "linear_warmup",
  "linear_decay",
  "rsqrt_decay",
  "rsqrt_normalized_decay",
  "decay_every",
  "cosine_decay",
)


def create_learning_rate_scheduler(
  *,
  factors: str = "constant * linear_warmup * rsqrt_decay",
  base_learning_rate: float = 0.5,
  warmup_steps: int = 1000,
  decay_factor: float = 0.5,
  steps_per_decay: int = 20000,
  steps_per_cycle: int = 100000,
  step_offset: int = 0,
  min_learning_rate: float = 1e-8,
) -> LearningRateFn:
  """Returns the product of named factors, with T5X's names and meaning.

  With w for `warmup_steps` (at least 1) and t for `step - step_offset`:

  - constant: `base_learning_rate`.
  - linear_warmup: min(1, t / w).
  - linear_decay: `base_learning_rate` * min(t / w, 1 + decay_factor * (w - t));
    includes constant and warmup.
  - rsqrt_decay: 1 / sqrt(max(t, w)).
  - rsqrt_normalized_decay: sqrt(w) / sqrt(max(t, w)).
  - decay_every: `decay_factor` ** (t // `steps_per_decay`).
  - cosine_decay: half a cosine from 1 to 0 over `steps_per_cycle` steps after
    the warmup, then again from 1.

  Args:
    factors: names joined by `*`.
    base_learning_rate: see above.
    warmup_steps: see above.
    decay_factor: see above.
    steps_per_decay: see above.
    steps_per_cycle: see above.
    step_offset: step that counts as zero, for example where fine-tuning began.
    min_learning_rate: lower bound of the product.
  """
  names = [name.strip() for name in factors.split("*")]
  for name in names:
    if name not in FACTORS:
      raise ValueError(
        f"create_learning_rate_scheduler.factors has the factor {name!r}; "
        f"the factors are {', '.join(FACTORS)}, joined by '*'."
      )
  if "linear_decay" in names and {"constant", "linear_warmup"} & set(names):
    raise ValueError(
      f"create_learning_rate_scheduler.factors is {factors!r}; linear_decay "
      "contains constant and linear_warmup already, remove those."
    )
  warmup = float(max(warmup_steps, 1))

  def factor(name: str, step: Array) -> Array | float:
    if name == "constant":
      return base_learning_rate
    if name == "linear_warmup":
      return jnp.minimum(1.0, step / warmup) if warmup_steps > 0 else 1.0
    if name == "linear_decay":
      slope = 1.0 + decay_factor * (warmup - step)
      return base_learning_rate * jnp.minimum(step / warmup, slope)
    if name == "rsqrt_decay":
      return 1.0 / jnp.sqrt(jnp.maximum(step, warmup))
    if name == "rsqrt_normalized_decay":
      return jnp.sqrt(warmup / jnp.maximum(step, warmup))
    if name == "decay_every":
      return decay_factor ** (step // steps_per_decay)
    progress = jnp.maximum(0.0, (step - warmup_steps) / steps_per_cycle)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * (progress % 1.0)))

  def learning_rate(step: Array | int) -> Array:
    step = jnp.maximum(0, jnp.asarray(step) - step_offset)
    product = jnp.float32(1.0)
    for name in names:
      product = product * factor(name, step)
    return jnp.maximum(product, min_learning_rate).astype(jnp.float32)

  return learning_rate


def _check_phases(name: str, total_steps: int, **phases: int) -> None:
  if min(phases.values()) < 0 or sum(phases.values()) > total_steps:
    given = ", ".join(f"{name}.{k} = {v}" for k, v in phases.items())
    raise ValueError(
      f"{given} do not fit into {name}.total_steps = {total_steps}. Lower the "
      "phases (the macro WARMUP_STEPS) or raise the steps (TRAIN_STEPS)."
    )


def _warmup_then(
  decay: Callable[[Array], Array], warmup_steps: int
) -> LearningRateFn:
  """Returns a linear warmup from 0 to 1, multiplied with `decay(step)`."""

  def learning_rate(step: Array | int) -> Array:
    step = jnp.asarray(step).astype(jnp.float32)
    warmup = jnp.minimum(1.0, step / max(warmup_steps, 1))
    if warmup_steps == 0:
      warmup = jnp.ones_like(step)
    return (warmup * decay(step)).astype(jnp.float32)

  return learning_rate


def warmup_cosine(
  *,
  peak: float,
  warmup_steps: int,
  total_steps: int,
  final_fraction: float = 0.0,
) -> LearningRateFn:
  """Linear warmup to `peak`, then half a cosine down to a fraction of it.

  Args:
    peak: learning rate at step `warmup_steps`.
    warmup_steps: length of the warmup.
    total_steps: step at which the cosine ends; the rate stays there.
    final_fraction: the last rate, as a fraction of `peak`.
  """
  _check_phases("warmup_cosine", total_steps, warmup_steps=warmup_steps)
  span = max(total_steps - warmup_steps, 1)

  def decay(step):
    progress = jnp.clip((step - warmup_steps) / span, 0.0, 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    return peak * (final_fraction + (1.0 - final_fraction) * cosine)

  return _warmup_then(decay, warmup_steps)


def warmup_linear(
  *,
  peak: float,
  warmup_steps: int,
  total_steps: int,
  final_fraction: float = 0.0,
) -> LearningRateFn:
  """Linear warmup to `peak`, then a straight line down to a fraction of it.

  Args:
    peak: learning rate at step `warmup_steps`.
    warmup_steps: length of the warmup.
    total_steps: step at which the line ends; the rate stays there.
    final_fraction: the last rate, as a fraction of `peak`.
  """
  _check_phases("warmup_linear", total_steps, warmup_steps=warmup_steps)
  return warmup_stable_decay(
    peak=peak,
    warmup_steps=warmup_steps,
    decay_steps=total_steps - warmup_steps,
    total_steps=total_steps,
    final_fraction=final_fraction,
  )


def warmup_stable_decay(
  *,
  peak: float,
  warmup_steps: int,
  decay_steps: int,
  total_steps: int,
  final_fraction: float = 0.0,
) -> LearningRateFn:
  """Linear warmup, a plateau at `peak`, and a line down at the end (WSD).

  Args:
    peak: learning rate of the plateau.
    warmup_steps: length of the warmup.
    decay_steps: length of the descent, which ends at `total_steps`.
    total_steps: step at which the descent ends; the rate stays there.
    final_fraction: the last rate, as a fraction of `peak`.
  """
  _check_phases(
    "warmup_stable_decay",
    total_steps,
    warmup_steps=warmup_steps,
    decay_steps=decay_steps,
  )

  def decay(step):
    left = jnp.clip((total_steps - step) / max(decay_steps, 1), 0.0, 1.0)
    return peak * (final_fraction + (1.0 - final_fraction) * left)

  return _warmup_then(decay, warmup_steps)
