"""Data: seqio tasks or files of your own -> prepared records -> batches.

Imports neither TensorFlow nor seqio; both are loaded only when a task is
prepared for the first time, or streamed.
"""

from t2tjax.data.config import LONGEST, DatasetConfig
from t2tjax.data.device_feed import DeviceFeed
from t2tjax.data.feed import Feed, PreparedFeed, batch_spec, train_feed
from t2tjax.data.held_out import (
  AllRows,
  EvalBatches,
  EvalTask,
  eval_batches,
  eval_tasks,
)
from t2tjax.data.objectives import (
  CausalLM,
  DenoiserMixture,
  PrefixLM,
  SpanCorruption,
  as_seqio_preprocessor,
  ul2,
)
from t2tjax.data.sources import CsvSource, JsonlSource, LineSource
from t2tjax.data.vocabularies import ByteVocabulary, SentencePieceVocabulary

__all__ = [
  "LONGEST",
  "AllRows",
  "ByteVocabulary",
  "CausalLM",
  "CsvSource",
  "DatasetConfig",
  "DenoiserMixture",
  "DeviceFeed",
  "EvalBatches",
  "EvalTask",
  "Feed",
  "JsonlSource",
  "LineSource",
  "PrefixLM",
  "PreparedFeed",
  "SentencePieceVocabulary",
  "SpanCorruption",
  "as_seqio_preprocessor",
  "batch_spec",
  "eval_batches",
  "eval_tasks",
  "train_feed",
  "ul2",
]
