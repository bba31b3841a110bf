"""Evaluation data: per task, all examples once, in order.

`eval_batches` serves teacher-forced losses, `eval_tasks` decoding and metrics.
Called by `train` and `evaluate`. May import: `data`.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any

import numpy as np

from t2tjax.data import layouts, paths, planning, preparation, records
from t2tjax.data import manifest as manifest_lib
from t2tjax.data import members as members_lib
from t2tjax.data.config import LONGEST, DatasetConfig
from t2tjax.data.feed import HostBatch, Rows, open_member, row_tokens


@dataclasses.dataclass(frozen=True)
class AllRows:
  """The data layout of a single process."""

  batch_size: int

  @property
  def rows(self) -> np.ndarray:
    """Every row of the global batch."""
    return np.arange(self.batch_size)


@dataclasses.dataclass(frozen=True)
class EvalBatches:
  """Batches over one task; can be iterated any number of times.

  Rows that fill up the last batch have no tokens and no loss weight.
  """

  member: members_lib.Member
  layout: layouts.Layout
  data_layout: Rows
  window: int
  max_batches: int | None = None

  def __iter__(self) -> Iterator[HostBatch]:
    """Yields this host's rows of each batch."""
    plan = planning.Plan(
      [self.member],
      [1.0],
      self.layout,
      seed=0,
      shuffle=False,
      window=self.window,
      num_epochs=1,
    )
    size = self.data_layout.batch_size
    pending: list[tuple[planning.Window, int]] = []
    count = 0
    for number in range(plan.num_windows() or 0):
      window = plan.window(number)
      pending += [(window, row) for row in range(len(window.rows))]
      last = number + 1 == plan.num_windows()
      while len(pending) >= size or (last and pending):
        if count == self.max_batches:
          return
        yield self._assemble(pending[:size])
        pending, count = pending[size:], count + 1

  def _assemble(self, planned: Sequence[tuple]) -> HostBatch:
    return self.layout.assemble(
      [
        row_tokens([self.member], *planned[row]) if row < len(planned) else []
        for row in self.data_layout.rows
      ]
    )


@dataclasses.dataclass(frozen=True)
class EvalTask:
  """One task with all that its metrics need.

  Attributes:
    name: task name.
    manifest: what was prepared.
    member: the examples.
    decode_batches: unpacked batches, one row per example, in order.
  """

  name: str
  manifest: manifest_lib.TaskManifest
  member: members_lib.Member
  decode_batches: EvalBatches

  def batches(self) -> Iterator[HostBatch]:
    """Yields the examples in order; the last batch is filled up."""
    return iter(self.decode_batches)

  @functools.cached_property
  def vocabulary(self) -> Any:
    """The vocabulary of the targets."""
    return self._vocabularies["targets"]

  @functools.cached_property
  def examples(self) -> list[dict[str, Any]]:
    """All examples in order, with `<feature>_pretokenized` texts."""
    if isinstance(self.member, members_lib.ObjectiveMember):
      return [self._texts_of(tokens) for tokens in self.member.all_tokens()]
    found = self.member.records.texts() if self.manifest.has_texts else []
    examples = found or [{} for _ in range(len(self.member.records))]
    for index, example in enumerate(examples):
      missing = {
        feature.name: self.member.records.tokens(feature.name, index)
        for feature in self.manifest.features
        if f"{feature.name}_pretokenized" not in example
      }
      example.update(self._texts_of(missing))
    return examples

  def _texts_of(self, tokens: dict[str, np.ndarray]) -> dict[str, str]:
    """Decodes features whose texts were not kept."""
    return {
      f"{name}_pretokenized": self._vocabularies[name].decode(ids.tolist())
      for name, ids in tokens.items()
    }

  @functools.cached_property
  def _vocabularies(self) -> dict[str, Any]:
    found = {f.name: f.build_vocabulary() for f in self.manifest.features}
    # An objective makes inputs out of targets.
    return {"inputs": found["targets"], **found}

  @functools.cached_property
  def metric_fns(self) -> list[Callable]:
    """The task's metric functions (may import its module)."""
    references = self.manifest.metric_fns
    if any(reference is None for reference in references):
      return list(self._registered.metric_fns)
    return [manifest_lib.resolve_function(r) for r in references]

  @functools.cached_property
  def postprocess_fn(self) -> Callable | None:
    """The task's postprocessor, or None."""
    reference = self.manifest.postprocess_fn
    if reference is None and self.manifest.needs_seqio:
      return self._registered.postprocessor
    return reference and manifest_lib.resolve_function(reference)

  @functools.cached_property
  def _registered(self) -> Any:
    from t2tjax.data import seqio_tasks

    seqio_tasks.import_module(self.manifest.origin.get("module"))
    return seqio_tasks.get_task_or_mixture(self.name)


def eval_tasks(
  config: DatasetConfig,
  feature_layout: str,
  data_layout: Rows | None = None,
  *,
  prepared_dir: str | None = None,
) -> list[EvalTask]:
  """Returns every task of a dataset, for decoding and metrics.

  Args:
    config: the dataset; order, packing and mixing settings do not apply.
    feature_layout: the model's.
    data_layout: this process's rows; None means all.
    prepared_dir: where prepared records live; None means the user's cache.
  """
  rows = data_layout or AllRows(config.batch_size)
  config, opened = _open(config, prepared_dir)
  layout = layouts.make_layout(
    feature_layout, config.task_feature_lengths, pack=False
  )
  return [
    EvalTask(
      manifest.task,
      manifest,
      member,
      EvalBatches(member, layout, rows, config.packing_window),
    )
    for manifest, member in opened
  ]


def eval_batches(
  config: DatasetConfig,
  feature_layout: str,
  data_layout: Rows | None = None,
  *,
  prepared_dir: str | None = None,
  max_batches: int | None = None,
) -> dict[str, EvalBatches]:
  """Returns teacher-forced batches per task, packed if the config packs.

  Args:
    config: the dataset; order and mixing settings do not apply.
    feature_layout: the model's.
    data_layout: this process's rows; None means all.
    prepared_dir: where prepared records live; None means the user's cache.
    max_batches: at most so many batches per task.
  """
  rows = data_layout or AllRows(config.batch_size)
  config, opened = _open(config, prepared_dir)
  layout = layouts.make_layout(
    feature_layout, config.task_feature_lengths, config.pack
  )
  return {
    manifest.task: EvalBatches(
      member, layout, rows, config.packing_window, max_batches
    )
    for manifest, member in opened
  }


Opened = list[tuple[manifest_lib.TaskManifest, members_lib.Member]]


def _open(
  config: DatasetConfig, prepared_dir: str | None
) -> tuple[DatasetConfig, Opened]:
  """Opens the prepared records of every task, in order and complete.

  Returns:
    The configuration, with a number for every `LONGEST`, and the tasks.
  """
  prepared_dir = prepared_dir or paths.default_prepared_dir()
  config = dataclasses.replace(config, shuffle=False, overlong="truncate")
  index = preparation.prepared_index(config, prepared_dir, texts=True)
  found = []
  for entry in index.members:
    folder = f"{prepared_dir}/{entry['folder']}"
    manifest = manifest_lib.TaskManifest.load(folder)
    names = [feature.name for feature in manifest.features]
    found.append((manifest, records.Records(folder, names)))
  config = _with_longest(config, [task_records for _, task_records in found])
  return config, [
    (manifest, open_member(manifest, task_records, config, keep_all=True))
    for manifest, task_records in found
  ]


def _with_longest(
  config: DatasetConfig, tasks: Sequence[records.Records]
) -> DatasetConfig:
  """Puts the number of tokens of the longest example for `LONGEST`."""
  lengths = {
    name: max(
      (
        int(task.lengths[name].max(initial=1))
        for task in tasks
        if name in task.lengths
      ),
      default=1,
    )
    if length == LONGEST
    else length
    for name, length in config.task_feature_lengths.items()
  }
  return dataclasses.replace(config, task_feature_lengths=lengths)
