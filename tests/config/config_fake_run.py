"""A small run function and what it is configured with, for the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, Literal

CALLS: list[dict[str, Any]] = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
  task: str
  batch_size: int = 128
  seed: int | None = 0
  pack: bool = True
  lengths: Mapping[str, int] | None = None
  split: Literal["train", "validation"] = "train"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  emb_dim: int
  dropout_rate: float = 0.0
  activations: Sequence[str] = ("gelu", "linear")
  shape: tuple[int, int] = (1, 2)


class Model:
  def __init__(
    self, network: Network, decode: Callable[..., Any] | None = None
  ):
    self.network = network
    self.decode = decode

  def predict(self, tokens: list[int], num_decodes: int = 1) -> int:
    return num_decodes


def greedy(tokens: Any, max_length: int = 8) -> int:
  return max_length


def schedule(
  base: float = 1.0, warmup_steps: int = 10
) -> Callable[[int], float]:
  return lambda step: base * min(1.0, step / warmup_steps)


def untyped(value, flag=False, text="x"):
  return value, flag, text


def train(
  *,
  model: Model,
  model_dir: str,
  train_cfg: DatasetConfig,
  eval_cfg: DatasetConfig | None = None,
  total_steps: int,
  learning_rate_fn: Callable[[int], float] | None = None,
  extra: Any = None,
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> str:
  """Trains nothing.

  Args:
    model: What to train.
    model_dir: Directory of the run.
    total_steps: Optimizer steps, counted from
      the
      end: the very last one.
  """
  CALLS.append(dict(locals()))
  if run_record is not None and not dry_run:
    run_record(model_dir, seeds={"init": 0})
  if total_steps == 13:
    raise ValueError("13 steps are not allowed: change train.total_steps")
  return "trained"


def use(*, model: Model) -> Model:
  return model
