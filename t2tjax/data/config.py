"""The dataset settings of a run.

Bound by gin under `train/`, `train_eval/` and `infer_eval/`. May import:
`data.objectives`.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from t2tjax.data import objectives

MODES = ("auto", "prepared", "streaming")
OVERLONG = ("truncate", "drop")
# In place of a number of tokens: as many as the longest example has.
LONGEST = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
  """Which examples a run sees, how long, in which order.

  Attributes:
    mixture_or_task_name: registered seqio name, or any name when `source` is
      given.
    task_feature_lengths: longest number of tokens per task feature, such as
      `{'inputs': 512, 'targets': 128}`; for evaluation also `LONGEST`, the
      number that the longest example has.
    split: split name or seqio split expression.
    batch_size: rows of a global batch, over all hosts.
    shuffle: whether the order is a new permutation in each epoch.
    seed: of order, mixing and objectives; None means 0, so that a run without
      a seed can be repeated as well.
    pack: whether several examples may share a row.
    module: module (or path of a .py file) whose import registers the task.
    mode: 'prepared' reads token records written once, 'streaming' runs
      seqio's tf.data pipeline, 'auto' prepares whenever nothing is random and
      the source of a TFDS dataset is smaller than 50 GiB.
    use_cached: read seqio's offline cache instead of the source.
    use_memory_cache: let seqio keep small datasets in memory (streaming).
    objective: turns a corpus of plain `targets` into inputs and targets.
    source: a text source of your own (`data.JsonlSource`, `data.CsvSource`)
      in place of a registered task; needs `vocabulary`.
    vocabulary: of `source`.
    overlong: 'truncate' cuts features at `task_feature_lengths`, 'drop' leaves
      such examples out.
    mixing_rates: examples per task, relative; None takes the mixture's rates.
    mixing_temperature: rates become `rate ** (1 / temperature)`.
    mixing_maximum: rates are cut here first (examples).
    packing_window: examples planned together; larger packs tighter.
    num_epochs: passes over the data of a training feed; None never ends.
  """

  mixture_or_task_name: str
  task_feature_lengths: Mapping[str, int]
  split: str = "train"
  batch_size: int = 128
  shuffle: bool = True
  seed: int | None = 0
  pack: bool = True
  module: str | None = None
  mode: str = "auto"
  use_cached: bool = False
  use_memory_cache: bool = True
  objective: objectives.Objective | None = None
  source: Any = None
  vocabulary: Any = None
  overlong: str = "truncate"
  mixing_rates: Mapping[str, float] | None = None
  mixing_temperature: float = 1.0
  mixing_maximum: float | None = None
  packing_window: int = 4096
  num_epochs: int | None = None

  def __post_init__(self):
    self._check_choice("mode", MODES)
    self._check_choice("overlong", OVERLONG)
    for name in ("batch_size", "packing_window"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name}={getattr(self, name)} must be at least 1; change "
          f"DatasetConfig.{name}"
        )
    lengths = self.task_feature_lengths
    if "targets" not in lengths or any(
      not isinstance(n, int) or n < 1 for n in lengths.values()
    ):
      raise ValueError(
        f"task_feature_lengths={dict(lengths)!r} must give a positive whole "
        "number for 'targets' (and 'inputs'); change "
        "DatasetConfig.task_feature_lengths"
      )
    if self.mixing_temperature <= 0:
      raise ValueError(
        f"mixing_temperature={self.mixing_temperature} must be positive; "
        "change DatasetConfig.mixing_temperature (1 keeps the rates)"
      )
    if self.source is not None and self.vocabulary is None:
      raise ValueError(
        "a source without registration needs a vocabulary; set "
        "DatasetConfig.vocabulary, such as @data.SentencePieceVocabulary()"
      )
    if self.source is not None and self.mode == "streaming":
      raise ValueError(
        "mode='streaming' runs seqio pipelines, and DatasetConfig.source is "
        "none; set DatasetConfig.mode = 'auto'"
      )

  def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(self, name) not in allowed:
      raise ValueError(
        f"{name}={getattr(self, name)!r} is none of {', '.join(allowed)}; "
        f"change DatasetConfig.{name}"
      )

  @property
  def data_seed(self) -> int:
    """The seed as a number."""
    return 0 if self.seed is None else self.seed
