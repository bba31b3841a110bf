"""Training feeds: batches of this host's rows, with an exact position.

`train_feed` chooses between prepared records and seqio streaming. Called by
`train`. May import: `data`, `partitioning`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import grain
import numpy as np

from t2tjax.data import layouts, paths, planning, preparation, records
from t2tjax.data import manifest as manifest_lib
from t2tjax.data import members as members_lib
from t2tjax.data.config import DatasetConfig

HostBatch = dict[str, np.ndarray]
# Host batches that are made ahead, by a Grain thread.
_PREFETCHED_BATCHES = 2


class Rows(Protocol):
  """The part of `partitioning.DataLayout` that feeds read."""

  @property
  def batch_size(self) -> int:
    """Rows of the global batch."""

  @property
  def rows(self) -> np.ndarray:
    """Global row numbers of this process."""


class Feed(Protocol):
  """An iterator of host-local batches that can be put back to any position."""

  batch_spec: layouts.BatchSpec
  report: dict[str, Any]

  def __iter__(self) -> Iterator[HostBatch]:
    """Returns itself."""

  def __next__(self) -> HostBatch:
    """Returns the next batch."""

  def state(self) -> dict[str, Any]:
    """Returns the position behind the last batch, as JSON-able values."""

  def restore(self, state: dict[str, Any]) -> None:
    """Goes to a position that `state` returned."""

  def close(self) -> None:
    """Stops background work."""


def train_feed(
  config: DatasetConfig,
  feature_layout: str,
  data_layout: Rows,
  *,
  prepared_dir: str | None = None,
) -> Feed:
  """Returns the feed of a dataset, preparing its records when needed.

  Args:
    config: the dataset.
    feature_layout: the model's, 'encoder_decoder' or 'decoder_only'.
    data_layout: which rows of the global batch this process feeds.
    prepared_dir: where prepared records live; None means the user's cache.
  """
  if data_layout.batch_size != config.batch_size:
    raise ValueError(
      f"the data layout is for {data_layout.batch_size} rows and "
      f"DatasetConfig.batch_size={config.batch_size}; make them equal"
    )
  layout = layouts.make_layout(
    feature_layout, config.task_feature_lengths, config.pack
  )
  if config.mode == "streaming":
    reason = "DatasetConfig.mode = 'streaming'"
  else:
    prepared_dir = prepared_dir or paths.default_prepared_dir()
    index = preparation.prepared_index(config, prepared_dir, texts=False)
    if index.mode == "prepared":
      preparation.say(
        f"{index.name}/{index.split}: prepared records ({index.reason})"
      )
      return PreparedFeed(config, layout, data_layout, index, prepared_dir)
    reason = index.reason
  preparation.say(
    f"{config.mixture_or_task_name}/{config.split}: streaming ({reason})"
  )
  # TensorFlow is imported behind this line.
  from t2tjax.data import streaming

  return streaming.StreamingFeed(config, layout, feature_layout, data_layout)


def load_members(
  config: DatasetConfig, index: manifest_lib.Index, prepared_dir: str
) -> tuple[list[members_lib.Member], list[float]]:
  """Opens the prepared records of a dataset: members and their shares."""
  opened: dict[str, members_lib.Member] = {}
  rates: dict[str, float] = {}
  for entry in index.members:
    folder = f"{prepared_dir}/{entry['folder']}"
    manifest = manifest_lib.TaskManifest.load(folder)
    names = [feature.name for feature in manifest.features]
    task_records = records.Records(folder, names)
    member = open_member(manifest, task_records, config)
    opened[manifest.task] = member
    rates[manifest.task] = entry["rate"]
  shares = members_lib.mixing_rates(rates, config)
  return list(opened.values()), [shares[name] for name in opened]


def vocabulary_fingerprints(
  index: manifest_lib.Index, prepared_dir: str
) -> dict[str, str]:
  """Returns feature -> fingerprint; tasks of a mixture must agree."""
  found: dict[str, str] = {}
  for entry in index.members:
    manifest = manifest_lib.TaskManifest.load(
      f"{prepared_dir}/{entry['folder']}"
    )
    for feature in manifest.features:
      fingerprint = feature.vocabulary["fingerprint"]
      if found.setdefault(feature.name, fingerprint) != fingerprint:
        raise ValueError(
          f"the tasks of {index.name!r} have different vocabularies for "
          f"{feature.name!r} ({manifest.task!r} has {fingerprint}, one before "
          f"it {found[feature.name]}); change the tasks' output_features or "
          "DatasetConfig.mixture_or_task_name"
        )
  return found


def open_member(
  manifest: manifest_lib.TaskManifest,
  task_records: records.Records,
  config: DatasetConfig,
  *,
  keep_all: bool = False,
) -> members_lib.Member:
  """Returns the member of one prepared task.

  Args:
    manifest: what was prepared.
    task_records: the opened records.
    config: lengths, order, objective.
    keep_all: never drop an example (for evaluation).
  """
  objective = config.objective or manifest.build_objective()
  if objective is None:
    return members_lib.ExampleMember(
      manifest, task_records, config, keep_all=keep_all
    )
  return members_lib.ObjectiveMember(manifest, task_records, config, objective)


def batch_spec(config: DatasetConfig, feature_layout: str) -> layouts.BatchSpec:
  """Returns the shapes of a dataset's global batches; reads nothing."""
  layout = layouts.make_layout(
    feature_layout, config.task_feature_lengths, config.pack
  )
  return layout.batch_spec(config.batch_size)


def row_tokens(
  members: Sequence[members_lib.Member], window: planning.Window, row: int
) -> layouts.Row:
  """Reads the examples of one planned row."""
  return [
    members[window.members[place]].tokens(window.references[place])
    for place in window.rows[row]
  ]


class _BatchIterator(grain.DatasetIterator):
  """Walks over the rows of the plan; the position is (window, row)."""

  def __init__(self, feed: "PreparedFeed"):
    super().__init__()
    self._feed = feed
    self._window_number, self._row = 0, 0
    self._window: planning.Window | None = None

  def __next__(self) -> HostBatch:
    feed, batch = self._feed, []
    planned = [self._next_row() for _ in range(feed.batch_size)]
    for row in feed.rows:
      batch.append(row_tokens(feed.members, *planned[row]))
    return feed.layout.assemble(batch)

  def _next_row(self) -> tuple[planning.Window, int]:
    """Returns where the next global row is, going on to the next window."""
    windows = self._feed.num_windows
    while True:
      if windows is not None and self._window_number >= windows:
        raise StopIteration
      if self._window is None:
        self._window = self._feed.plan.window(self._window_number)
      if self._row < len(self._window.rows):
        self._row += 1
        return self._window, self._row - 1
      self._window_number, self._row = self._window_number + 1, 0
      self._window = None

  def get_state(self) -> dict[str, int]:
    return {"window": self._window_number, "row": self._row}

  def set_state(self, state: dict[str, int]) -> None:
    if state["window"] != self._window_number:
      self._window = None
    self._window_number, self._row = state["window"], state["row"]


class _BatchDataset(grain.IterDataset):
  """Puts the plan under Grain's prefetching."""

  def __init__(self, feed: "PreparedFeed"):
    super().__init__()
    self._feed = feed

  def __iter__(self) -> _BatchIterator:
    return _BatchIterator(self._feed)


class PreparedFeed:
  """Batches from prepared records.

  The global sequence of batches depends on the config alone, not on the number
  of hosts: each plans all rows (from lengths) and reads its own. An incomplete
  last batch of a finite feed is left out.
  """

  def __init__(
    self,
    config: DatasetConfig,
    layout: layouts.Layout,
    data_layout: Rows,
    index: manifest_lib.Index,
    prepared_dir: str,
  ):
    self.layout = layout
    self.batch_size = config.batch_size
    self.rows = np.asarray(data_layout.rows)
    self.members, self.rates = load_members(config, index, prepared_dir)
    self.vocabularies = vocabulary_fingerprints(index, prepared_dir)
    self.plan = planning.Plan(
      self.members,
      self.rates,
      layout,
      seed=config.data_seed,
      shuffle=config.shuffle,
      window=config.packing_window,
      num_epochs=config.num_epochs,
    )
    self.num_windows = self.plan.num_windows()
    # What the order depends on: tells a restored run if it goes on otherwise.
    self._order = manifest_lib.content_hash(
      [
        [(m.name, m.num_draws_per_epoch) for m in self.members],
        self.rates,
        layout.capacities,
        config.objective and config.objective.spec(),
        [config.data_seed, config.shuffle, config.pack, config.packing_window],
      ]
    )
    self.batch_spec = layout.batch_spec(config.batch_size)
    self.report = self._make_report(config)
    self._iterator = grain.experimental.ThreadPrefetchIterDataset(
      _BatchDataset(self), prefetch_buffer_size=_PREFETCHED_BATCHES
    ).__iter__()

  def _make_report(self, config: DatasetConfig) -> dict[str, Any]:
    """Counts what was cut, left out and padded."""
    window = self.plan.window(0)
    used = np.zeros(len(self.layout.capacities))
    for member in np.unique(window.members):
      mine = window.references[window.members == member]
      lengths = self.members[member].lengths(mine)
      used += self.layout.costs(lengths).sum(axis=0)
    room = np.asarray(self.layout.capacities) * len(window.rows)
    tasks = {
      member.name: {**member.report, "share": share}
      for member, share in zip(self.members, self.rates, strict=True)
    }
    for name, counts in tasks.items():
      lost = {k: n for k, n in counts["truncated"].items() if n}
      if lost or counts["dropped"] or counts["empty_targets"]:
        preparation.say(
          f"{name}: of {counts['examples']:,} examples {lost or 'none'} are "
          f"truncated to {dict(config.task_feature_lengths)}, "
          f"{counts['dropped']:,} dropped, {counts['empty_targets']:,} have "
          "empty targets"
        )
    return {
      "mode": "prepared",
      "tasks": tasks,
      "vocabularies": self.vocabularies,
      "packing_efficiency": float(used.sum() / room.sum()),
      "examples_per_row": len(window.members) / len(window.rows),
    }

  def __iter__(self) -> "PreparedFeed":
    return self

  def __next__(self) -> HostBatch:
    return next(self._iterator)

  def state(self) -> dict[str, Any]:
    """Returns the position behind the last batch."""
    position = self._iterator.get_state()
    return {"mode": "prepared", "order": self._order, **position}

  def restore(self, state: dict[str, Any]) -> None:
    """Goes to a position that `state` returned."""
    if state.get("mode") != "prepared":
      raise ValueError(
        f"the checkpoint's feed was {state.get('mode')!r}, this one is "
        "'prepared'; set DatasetConfig.mode as it was when the run began"
      )
    if state["order"] != self._order:
      preparation.say(
        "data, lengths, seed, mixing or packing differ from the run that wrote "
        "the checkpoint: the feed goes on, but some examples may come twice or "
        "not at all in this epoch"
      )
    self._iterator.set_state({k: state[k] for k in ("window", "row")})

  def close(self) -> None:
    """Stops the prefetching thread."""
    self._iterator.close()
