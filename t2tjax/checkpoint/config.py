"""What to save, what to keep and what to start from.

Bound by gin in the run files and handed to `Checkpointer` and
`restore_params`. May import: layer 0 only.
"""

from collections.abc import Sequence
import dataclasses

import jax.numpy as jnp

_FLOAT_DTYPES = ("float32", "bfloat16", "float16")


def check_dtype(dtype: str | None, binding: str) -> jnp.dtype | None:
  """Returns the dtype named `dtype`, or raises a ValueError for `binding`."""
  if dtype is None:
    return None
  name = jnp.dtype(dtype).name if not isinstance(dtype, str) else dtype
  if name not in _FLOAT_DTYPES:
    raise ValueError(
      f"{binding} = {name!r} is not a dtype for parameters; allowed are"
      f" {', '.join(map(repr, _FLOAT_DTYPES))} and None (as they are)."
    )
  return jnp.dtype(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveCheckpointConfig:
  """When to save and which checkpoints stay.

  A checkpoint stays if any of the three rules wants it; while a run is under
  way one more than that may lie on disk, since an old checkpoint goes only
  after the next one is whole.

  Attributes:
    period: steps between two saves.
    keep: number of newest checkpoints that stay; None keeps all.
    keep_period: checkpoints whose step is a multiple of this stay.
    best_metric: name of the metric, among those handed to `save`, by which
      the best checkpoints stay.
    best_mode: 'max' if a larger metric is better, 'min' otherwise.
    keep_best: number of best checkpoints that stay.
    dtype: dtype in which floating-point parameters are stored; None stores
      them as they are, which an exact resume needs.
    timeout_secs: a save that takes longer than this is an error.
  """

  period: int = 1000
  keep: int | None = 3
  keep_period: int | None = None
  best_metric: str | None = None
  best_mode: str = "max"
  keep_best: int = 1
  dtype: str | None = None
  timeout_secs: int = 1200

  def __post_init__(self):
    for name in ("period", "keep", "keep_period", "keep_best", "timeout_secs"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(
          f"SaveCheckpointConfig.{name} = {value} must be at least 1"
          + (" or None." if name.startswith("keep") else ".")
        )
    if self.best_mode not in ("max", "min"):
      raise ValueError(
        f"SaveCheckpointConfig.best_mode = {self.best_mode!r} must be 'max'"
        " or 'min'."
      )
    check_dtype(self.dtype, "SaveCheckpointConfig.dtype")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreCheckpointConfig:
  """What a run starts from when its own directory holds no checkpoint.

  Attributes:
    path: a checkpoint directory, or a run directory that holds some.
    mode: 'specific' takes `path` as the checkpoint itself, 'latest' also
      takes the newest whole checkpoint of a run directory; 'all' is for
      `evaluate`, which takes every checkpoint of a run directory.
    dtype: dtype of the restored floating-point parameters; None takes the
      model's.
    assignment_map: pairs `(regex, replacement)`: a parameter of the model
      whose whole name matches is read from the stored name that the
      replacement expands to; a replacement of None leaves it as initialised.
      The first matching pair counts.
    strict: True makes a parameter that the checkpoint lacks an error, False
      leaves it as initialised.
    params_only: True takes the parameters alone (fine-tuning), False also
      the optimizer state, the step and the position in the data.
    keep_step: True counts steps on from the checkpoint's also when only
      parameters are taken.
    keep_data_position: False starts at the beginning of the data also when
      everything else is taken.
  """

  path: str
  mode: str = "specific"
  dtype: str | None = None
  assignment_map: Sequence[tuple[str, str | None]] = ()
  strict: bool = True
  params_only: bool = True
  keep_step: bool = False
  keep_data_position: bool = True

  def __post_init__(self):
    if self.mode not in ("specific", "latest", "all"):
      raise ValueError(
        f"RestoreCheckpointConfig.mode = {self.mode!r} must be 'specific'"
        " (path is the checkpoint), 'latest' (path is a run directory) or"
        " 'all' (to evaluate every checkpoint of a run directory)."
      )
    if self.assignment_map and not self.params_only:
      raise ValueError(
        "RestoreCheckpointConfig.assignment_map renames parameters, which"
        " the optimizer state cannot follow; set params_only = True."
      )
    check_dtype(self.dtype, "RestoreCheckpointConfig.dtype")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
  """The checkpoint settings of a run; None switches a side off."""

  restore: RestoreCheckpointConfig | None = None
  save: SaveCheckpointConfig | None = None
