"""Data: seqio tasks or files of your own -> prepared records -> batches.

Imports neither TensorFlow nor seqio; both are loaded only when a task is
prepared for the first time, or streamed.
"""

from t2tjax.data.config import DatasetConfig
from t2tjax.data.feed import Feed
from t2tjax.data.feed import PreparedFeed
from t2tjax.data.feed import train_feed
from t2tjax.data.objectives import CausalLM
from t2tjax.data.objectives import DenoiserMixture
from t2tjax.data.objectives import PrefixLM
from t2tjax.data.objectives import SpanCorruption
from t2tjax.data.objectives import ul2
from t2tjax.data.vocabularies import ByteVocabulary
from t2tjax.data.vocabularies import SentencePieceVocabulary

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
