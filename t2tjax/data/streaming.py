"""Streaming: seqio's own tf.data pipeline as a feed.

For tasks whose preprocessors draw random numbers at run time. Unlike prepared
records, the order depends on the number of hosts. Imported by `feed` when
needed, since it imports TensorFlow. May import: `data`.
"""

import atexit
import base64
import functools
import os
import tempfile
from typing import Any
import zlib

import numpy as np
import seqio
import tensorflow as tf

from t2tjax.data import layouts, seqio_tasks, vocabularies
from t2tjax.data.config import DatasetConfig

# Batches between two copies of the iterator's state (megabytes with a shuffle
# buffer); a restore draws the few batches since the last copy again.
_SNAPSHOT_EVERY = 64


class StreamingFeed:
  """Host-local batches of a seqio pipeline, resumable bit by bit."""

  def __init__(
    self,
    config: DatasetConfig,
    layout: layouts.Layout,
    feature_layout: str,
    data_layout: Any,
  ):
    # The accelerators belong to JAX.
    for kind in ("GPU", "TPU"):
      tf.config.set_visible_devices([], kind)
    seqio_tasks.import_module(config.module)
    if config.objective is not None:
      raise ValueError(
        "streaming runs the task's own preprocessors and takes no "
        "DatasetConfig.objective; add objectives.as_seqio_preprocessor(...) "
        "to the task, or set DatasetConfig.mode = 'prepared'"
      )
    rows = np.asarray(data_layout.rows)
    self.batch_spec = layout.batch_spec(config.batch_size)
    self._num_shards = config.batch_size // len(rows)
    self._shard = int(rows[0]) // len(rows)
    if rows[0] % len(rows) or not np.array_equal(
      rows, np.arange(rows[0], rows[0] + len(rows))
    ):
      raise ValueError(
        f"streaming needs equal, contiguous row ranges per host, got {rows}; "
        "set DatasetConfig.mode = 'prepared' or change Partitioner.mesh_shape"
      )
    self._build = functools.partial(
      self._pipeline, config, feature_layout, len(rows)
    )
    provider = seqio_tasks.get_task_or_mixture(config.mixture_or_task_name)
    self.report: dict[str, Any] = {
      "mode": "streaming",
      "vocabularies": {
        name: vocabularies.from_seqio(feature.vocabulary).fingerprint
        for name, feature in provider.output_features.items()
      },
    }
    self._savable = True
    # Built at the first batch or restore: building takes seconds.
    self._iterator: Any = None
    self._snapshot: str | None = None
    self._since = 0

  def _pipeline(
    self, config: DatasetConfig, feature_layout: str, batch_size: int
  ) -> tf.data.Dataset:
    provider = seqio_tasks.get_task_or_mixture(config.mixture_or_task_name)
    seqio_tasks.tasks_with_split(provider, config.split, config.use_cached)
    if feature_layout == "encoder_decoder":
      converter = seqio.EncDecFeatureConverter
    elif "inputs" in config.task_feature_lengths:
      converter = seqio.PrefixLMFeatureConverter
    else:
      converter = seqio.LMFeatureConverter
    dataset = provider.get_dataset(
      dict(config.task_feature_lengths),
      split=config.split,
      use_cached=config.use_cached,
      shuffle=config.shuffle,
      seed=config.data_seed,
      shard_info=seqio.ShardInfo(self._shard, self._num_shards),
      num_epochs=config.num_epochs,
      try_in_mem_cache=config.use_memory_cache,
    )
    dataset = converter(pack=config.pack, use_custom_packing_ops=False)(
      dataset, dict(config.task_feature_lengths)
    ).batch(batch_size, drop_remainder=True)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = os.cpu_count() or 1
    return dataset.with_options(options)

  def _start(self) -> None:
    # A second iterator over one dataset object would be shuffled anew.
    self._iterator = iter(self._build())
    atexit.register(self.close)
    self._snapshot = None
    self._since = 0

  def _save(self) -> str | None:
    """Returns the iterator's state as text; None where tf.data has none."""
    with tempfile.TemporaryDirectory() as folder:
      try:
        prefix = tf.train.Checkpoint(it=self._iterator).write(f"{folder}/it")
      except tf.errors.OpError:
        self._savable = False
        return None
      files = {
        os.path.basename(path): tf.io.gfile.GFile(path, "rb").read()
        for path in tf.io.gfile.glob(prefix + "*")
      }
    parts = [
      f"{name}:{base64.b64encode(zlib.compress(data, 1)).decode()}"
      for name, data in sorted(files.items())
    ]
    return "\n".join(parts)

  def _load(self, snapshot: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
      for part in snapshot.split("\n"):
        name, data = part.split(":")
        with open(os.path.join(folder, name), "wb") as file:
          file.write(zlib.decompress(base64.b64decode(data)))
      tf.train.Checkpoint(it=self._iterator).read(
        f"{folder}/it"
      ).assert_consumed()

  def __iter__(self) -> "StreamingFeed":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if self._iterator is None:
      self._start()
    if self._since == _SNAPSHOT_EVERY and self._savable:
      self._snapshot = self._save()
      self._since = 0 if self._snapshot else self._since
    batch = {k: v.numpy() for k, v in next(self._iterator).items()}
    self._since += 1
    return {
      name: batch[name].astype(spec.dtype)
      for name, spec in self.batch_spec.items()
    }

  def state(self) -> dict[str, Any]:
    """Returns the position behind the last batch, as JSON-able values."""
    return {
      "mode": "streaming",
      "iterator": self._snapshot,
      "batches_since": self._since,
      "num_shards": self._num_shards,
    }

  def restore(self, state: dict[str, Any]) -> None:
    """Goes to a position that `state` returned."""
    given = state.get("mode"), state.get("num_shards")
    if given != ("streaming", self._num_shards):
      raise ValueError(
        f"the checkpoint's feed was {given[0]!r} over {given[1]} shards, this "
        f"one is 'streaming' over {self._num_shards}; use as many hosts and "
        "the DatasetConfig.mode of the run's beginning (prepared feeds allow "
        "any number of hosts)"
      )
    self._start()
    if state["iterator"] is not None:
      self._load(state["iterator"])
      self._snapshot = state["iterator"]
    for _ in range(state["batches_since"]):
      next(self._iterator)
    self._since = state["batches_since"]

  def close(self) -> None:
    """Ends the pipeline; without that, Python steps in it block the exit."""
    self._iterator = None
    atexit.unregister(self.close)
