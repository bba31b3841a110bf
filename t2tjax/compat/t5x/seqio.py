"""What T5X gin files name of `seqio`, without its import of TensorFlow.

Everything else is seqio's own. May import: layers 0 to 6.
"""

from typing import Any

from t2tjax import data
from t2tjax.compat.t5x import notices
from t2tjax.compat.t5x.evaluators import (
  Evaluator,
  JSONLogger,
  PyLoggingLogger,
  TensorBoardLogger,
)

__all__ = [
  "ByteVocabulary",
  "Evaluator",
  "Feature",
  "JSONLogger",
  "PyLoggingLogger",
  "SentencePieceVocabulary",
  "TensorBoardLogger",
]


def SentencePieceVocabulary(  # noqa: N802
  sentencepiece_model_file: str,
  extra_ids: int | None = 0,
  normalizer_spec_overrides_json: str | None = None,
  reverse_extra_ids: bool = False,
) -> data.SentencePieceVocabulary:
  """Returns `data.SentencePieceVocabulary`, which reads its file when used."""
  notices.refuse_given(
    "seqio.SentencePieceVocabulary",
    "write the model file with the settings you need",
    normalizer_spec_overrides_json=normalizer_spec_overrides_json,
    reverse_extra_ids=reverse_extra_ids or None,
  )
  return data.SentencePieceVocabulary(
    sentencepiece_model_file, extra_ids=extra_ids or 0
  )


def ByteVocabulary(extra_ids: int = 0) -> data.ByteVocabulary:  # noqa: N802
  """Returns `data.ByteVocabulary`."""
  return data.ByteVocabulary(extra_ids=extra_ids)


def Feature(  # noqa: N802
  vocabulary: Any,
  add_eos: bool = True,
  required: bool = True,
  dtype: Any = "int32",
  rank: int = 1,
) -> Any:
  """Returns seqio's own Feature of one of our vocabularies."""
  import seqio
  import tensorflow as tf

  if hasattr(vocabulary, "to_seqio"):
    vocabulary = vocabulary.to_seqio()
  return seqio.Feature(
    vocabulary=vocabulary,
    add_eos=add_eos,
    required=required,
    dtype=tf.as_dtype(dtype),
    rank=rank,
  )


def __getattr__(name: str) -> Any:
  import seqio

  return getattr(seqio, name)
