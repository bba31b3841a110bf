"""Data: seqio tasks or files of your own -> prepared records -> batches.

Imports neither TensorFlow nor seqio; both are loaded only when a task is
prepared for the first time, or streamed.
"""

from t2tjax.data.config import DatasetConfig
from t2tjax.data.feed import Feed, PreparedFeed, train_feed
from t2tjax.data.objectives import (
  CausalLM,
  DenoiserMixture,
  PrefixLM,
  SpanCorruption,
  ul2,
)
from t2tjax.data.vocabularies import ByteVocabulary, SentencePieceVocabulary

__all__ = [
  "ByteVocabulary",
  "CausalLM",
  "DatasetConfig",
  "DenoiserMixture",
  "Feed",
  "PrefixLM",
  "PreparedFeed",
  "SentencePieceVocabulary",
  "SpanCorruption",
  "train_feed",
  "ul2",
]
